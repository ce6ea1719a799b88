"""MGSMetrics: tr K and log det K of any Keras model, epoch by epoch, in History."""

import inspect
import os
import warnings
from collections.abc import Iterable
from typing import Any

import keras

from keras_mgs import checks
from keras_mgs.data import inputs, read, takes_dict
from keras_mgs.kernel import check_size, measure
from keras_mgs.plot import summaries

METRICS = ("trace", "log_det")
_LOGGERS = (  # they write down the logs that they are given
    keras.callbacks.CSVLogger,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.TensorBoard,
)


class MGSMetrics(keras.callbacks.Callback):
    """Records MGS metrics of a fixed probe batch at the end of every epoch, for any Keras model.

    Adds to `logs`, and so to History and to the callbacks that come *after* it in the list
    (EarlyStopping, CSVLogger, TensorBoard; a warning names those of Keras' that come before):

    - `mgs_trace`: `tr K` of the probe batch;
    - `mgs_log_det`: `log det(K + ε I)`, ε = 1e-6 · tr K / (n*q), as `keras_mgs.log_det`;
    - `mgs_singular` (with "log_det"): how many of the n*q eigenvalues of K are at most ε; K is
      singular, and the paper's figures have gaps, where there are any.

    Several probe batches, given as `{"clean": x1, "noisy": x2}`, have keys of their own:
    `mgs_trace_clean`, `mgs_trace_noisy`, …

    The cost of "log_det" grows with (n*q)³; 32 to 128 samples are enough to see how it changes. If
    n*q is more than 16,384, or K does not fit into memory, training begins with an error.

    Args:
        x: the probe batch: an array, a tensor, a list or dict of them as the model takes it, or a
            finite `tf.data.Dataset`, which is read once. Or a dict of several probe batches, by
            names that are not those of the model's inputs.
        metrics: some of "trace", "log_det".
        every: measure after one epoch in `every`. The epochs between repeat the last value.
        batch_size: samples computed at a time. Samples that depend on each other are computed all
            at once.
        training: whether to measure with the forward pass of training (dropout, batch statistics).
        images: a folder for TensorBoard, to which each measurement writes K, as
            `keras_mgs.plot.kernel` draws it, and its spectrum, as `keras_mgs.plot.spectrum` does:
            the images `mgs_kernel` and `mgs_spectrum` (`mgs_kernel_clean`, …) by epoch, from 0 on.
            K is computed once, also for "log_det". None: no images.

    Raises:
        TypeError, ValueError: an argument is none of these. `x` is checked, and the folder made,
            when training begins.
        ImportError: matplotlib or TensorBoard, which `images` needs, is not installed.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> model.compile("sgd", "mse")
    >>> x, y = np.ones((8, 3)), np.ones((8, 2))
    >>> history = model.fit(x, y, verbose=0, callbacks=[keras_mgs.MGSMetrics(x)])
    >>> np.round(history.history["mgs_trace"], 3)  # 8 samples, 2 outputs, ‖x‖² + 1
    array([64.])

    Reference: Szolnoky et al., NeurIPS 2022, section 4.
    """

    def __init__(
        self,
        x: Any,
        metrics: str | Iterable[str] = METRICS,
        every: int = 1,
        batch_size: int = 32,
        training: bool = False,
        images: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        names = tuple(metrics) if isinstance(metrics, tuple | list | set) else (metrics,)
        if not names:
            raise ValueError("Expected `metrics` to name at least one metric. Received: none.")
        self.metrics = tuple(checks.choice("metrics", name, METRICS) for name in names)
        self.every = checks.count("every", every)
        self.batch_size = checks.count("batch_size", batch_size)
        self.training = checks.flag("training", training)
        self.images = None if images is None else summaries.folder("images", images)
        if x is None:
            raise ValueError(
                "Expected `x`, the samples to measure on. Received: x=None. "
                "A fixed batch of the training data will do."
            )
        self.x = keras.tree.map_structure(lambda part: read("x", part), x)
        self._probes: dict = {}
        self._logs: dict[str, float] = {}
        self._writer: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        checks.model(self.model)
        named = isinstance(self.x, dict) and not takes_dict(self.model, self.x)
        probes = {f"_{n}": x for n, x in checks.probes(self.x).items()} if named else {"": self.x}
        for ending, x in probes.items():
            name = f"x['{ending[1:]}']" if ending else "x"
            data = inputs(name, self.model, x)
            if "log_det" in self.metrics or self.images:
                check_size(name, self.model, data, self.training)
        self._probes, self._logs = probes, {}
        self._writer = summaries.writer("images", self.images) if self.images else None
        frame: Any = inspect.currentframe()
        self._warn_of_order(getattr(frame.f_back.f_locals.get("self"), "callbacks", ()))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch % self.every == 0 or not self._logs:
            self._logs = {}
            for ending, x in self._probes.items():
                found = self._measured(x, epoch, ending)
                self._logs |= {f"mgs_{metric}{ending}": float(v) for metric, v in found.items()}
        if logs is not None:
            logs.update(self._logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._writer:
            self._writer.close()
        self._writer = None

    def _measured(self, x, epoch, ending):
        """The metrics of a probe batch; K and its spectrum become images on the way."""
        drawn = ("kernel", "eigenvalues") if self._writer else ()
        wanted = (*self.metrics, *drawn)
        found = measure(self.model, x, wanted, self.training, self.batch_size)
        if drawn:
            summaries.write(self._writer, epoch, ending, *(found.pop(name) for name in drawn))
        return found

    def _warn_of_order(self, callbacks):
        """Warn of the first in the list that is to see these metrics and will not."""
        for callback in callbacks:
            if callback is self:
                return
            monitored = str(getattr(callback, "monitor", ""))
            if isinstance(callback, _LOGGERS) or monitored.startswith("mgs_"):
                name = type(callback).__name__
                warnings.warn(
                    f"{name} comes before MGSMetrics in `callbacks`, so it does not see tr K and "
                    f"log det K. Put MGSMetrics before {name}.",
                    stacklevel=2,
                )
                return
