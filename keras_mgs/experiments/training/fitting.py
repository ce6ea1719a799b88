"""One run: a network, a method, a data set and a seed give the curves of one training."""

import time

import keras
import numpy as np
import pandas as pd

import keras_mgs
from keras_mgs.experiments.catalogue.names import LEARNING_RATE, POINTS
from keras_mgs.experiments.training.methods import METHODS
from keras_mgs.experiments.training.networks import NETWORKS

PROBE = 32  # training samples that tr K and log det K are measured on
_TEST_BATCH = 1000
_KERNEL = ("mgs_trace", "mgs_log_det", "mgs_singular")


def score_name(dataset):
    """What the test set is scored by: accuracy in %, or the squared error."""
    return "accuracy" if dataset.task == "classification" else "mse"


def train(dataset, network, method, **options):
    """The curves of `fit` alone."""
    return fit(dataset, network, method, **options)[1]


def fit(
    dataset,
    network,
    method,
    *,
    epochs,
    batch_size,
    seed,
    strength=None,
    learning_rate=LEARNING_RATE,
    optimizer="sgd",
    points=POINTS,
    losses=False,
    kernel=True,
):
    """Train once; the model, and the curves, one row for each measured epoch.

    A method that holds out samples to choose an epoch by has in each row what was measured at the
    best epoch so far, and in the rows after it has stopped those of the last; its model has the
    weights of its best epoch.

    Args:
        dataset: a `Dataset`.
        network: a key of `NETWORKS`, or what makes a network as its values do.
        method: a key of `METHODS`.
        epochs, batch_size: as for `fit`.
        seed: of the weights, the order of the samples and everything drawn in training.
        strength: of the method; None: its own.
        learning_rate: that of the first step.
        optimizer: a key of `OPTIMIZERS`, for methods that bring none of their own.
        points: how often, about, to measure, at evenly spaced epochs.
        losses: whether to measure the task's loss on the test set, too.
        kernel: whether to measure tr K and log det K, whose compilation takes longest.

    Returns:
        A `keras.Model`, and a `pandas.DataFrame` with the columns epoch (from 1), loss, train and
        test (accuracy in %, or the mean squared error in the data's own units²), mgs_trace,
        mgs_log_det and mgs_singular, if asked for, and seconds (of training alone, per epoch);
        test_loss, if asked for; and mgs_alpha of methods that have one.
    """
    keras.utils.set_random_seed(seed)
    way = METHODS[method].at(strength)
    build = network if callable(network) else NETWORKS[network]
    model = way.build(build, dataset)
    samples = int(len(dataset.x_train) * (1 - way.validation))
    steps = epochs * -(-samples // batch_size)
    every = max(1, epochs // points)
    if dataset.task == "classification":
        y_train, y_test = dataset.y_train, dataset.y_test
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        metric = keras.metrics.SparseCategoricalAccuracy("score")
        unit = 100.0
    else:
        y_train, y_test = (
            (y - dataset.centre) / dataset.spread for y in (dataset.y_train, dataset.y_test)
        )
        loss, metric, unit = "mse", keras.metrics.MeanSquaredError("score"), dataset.spread**2
    test = _TestScore(dataset.x_test, y_test, every, loss if losses else None)
    if way.loss:
        loss = lambda y, f: way.loss(y, f, way.strength)  # noqa: E731
    # Several steps at a time: for networks this small, half of the time is Keras' own.
    model.compile(
        way.make_optimizer(optimizer, learning_rate, steps),
        loss,
        metrics=[metric],
        steps_per_execution=8,
    )
    clock = Clock()
    history = model.fit(
        dataset.x_train,
        way.targets(y_train),
        batch_size=batch_size,
        epochs=epochs,
        validation_split=way.validation,
        verbose=0,
        callbacks=[
            clock,
            test,
            *([_Kernel(dataset.x_train[:PROBE], every=every)] if kernel else []),
            *way.callbacks(way.strength),
        ],
    ).history
    curves = pd.DataFrame(
        {
            "epoch": np.arange(1, len(clock.seconds) + 1),
            "loss": history["loss"],
            "train": np.multiply(history["score"], unit),
            "test": np.multiply(history["test"], unit),
            **{k: history[k] for k in _KERNEL if kernel},
            "seconds": clock.seconds,
            **{k: history[k] for k in ("test_loss", "mgs_alpha") if k in history},
        }
    )
    if way.validation:
        curves = _best_so_far(curves, history["val_loss"], every, epochs)
    return model, curves[curves["epoch"] % every == 0].reset_index(drop=True)


def _best_so_far(curves, losses, every, epochs):
    """Each epoch's row as the measured one of the lowest of `losses` until then."""
    known = np.isfinite(losses) & (curves["epoch"] % every == 0)
    losses = np.where(known, losses, np.inf)
    best = [np.argmin(losses[: i + 1]) for i in range(len(losses))]
    best += [best[-1]] * (epochs - len(best))
    return curves.iloc[best].assign(epoch=np.arange(1, epochs + 1))


class _TestScore(keras.callbacks.Callback):
    """The score on the test set, in the units of the targets that the model is trained on.

    And the mean loss, if there is one that shall be measured.
    """

    def __init__(self, x, y, every, loss):
        super().__init__()
        self.x, self.y, self.every, self.mean = x, y, every, loss and keras.losses.get(loss)
        self.score = self.loss = float("nan")

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every == 0:
            batches = (self.x[i : i + _TEST_BATCH] for i in range(0, len(self.x), _TEST_BATCH))
            f = np.concatenate([self.model.predict_on_batch(x) for x in batches])
            if np.issubdtype(self.y.dtype, np.integer):
                self.score = float(np.mean(np.argmax(f, axis=1) == self.y))
            else:
                self.score = float(np.mean(np.square(f - self.y)))
            if self.mean is not None:
                self.loss = float(np.mean(self.mean(self.y, f)))
        logs["test"] = self.score
        if self.mean is not None:
            logs["test_loss"] = self.loss


class _Kernel(keras_mgs.MGSMetrics):
    """tr K and log det K at the epochs of the test score, of which the last is one."""

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch + 1, logs)


class Clock(keras.callbacks.Callback):
    """Seconds of each epoch without what callbacks after this one do."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self._start)
