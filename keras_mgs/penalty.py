"""What a penalty is: a scalar of a recorded forward pass, added to the loss on some steps."""

import abc
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import keras
import tensorflow as tf
from keras import ops

from keras_mgs import alpha as alphas
from keras_mgs import autodiff, checks, data
from keras_mgs.outputs import raw_outputs
from keras_mgs.second_order import twice_differentiable
from keras_mgs.sites import record
from keras_mgs.types import Alpha, Data, Step

Self = TypeVar("Self", bound="Penalty")


@dataclasses.dataclass
class ForwardPass:
    """One recorded forward pass, which the loss and its penalty share.

    Attributes:
        model: the network.
        x, outputs: what it was given and what it returned.
        f: its raw outputs, (n, q).
        tape: the tape that recorded the pass, and the loss where a penalty needs it.
        recording: the pass's sites; None where the penalty does not need them.
        seed: an integer tensor that differs from step to step.
        part: such a pass of the first samples alone; None where the penalty is of all.
        gauge: such a pass of the samples by which alpha is chosen; None where these are all.
        loss: the loss, once it is known.
    """

    model: Any
    x: Any
    outputs: Any
    f: Any
    tape: Any
    recording: Any
    seed: Any
    part: Any = None
    gauge: Any = None
    loss: Any = None

    @property
    def weights(self):
        return autodiff.values(checks.weights(self.model))


class Penalty(abc.ABC):
    """Base of the penalties: `loss + alpha * value`, on one training step in `every`.

    A penalised step weighs the penalty `every` times, so that `alpha` means the same at any
    `every`. These are the steps 0, every, 2·every, …

    Subclasses define `value`, and `gauge` if they allow `alpha="auto"` and their `value` has noise
    that depends on settings.
    """

    needs_sites: bool = False
    needs_inputs = False
    automatic = True

    def __init__(self, alpha: Alpha, every: int) -> None:
        self.alpha = alphas.parse(alpha, self.automatic, type(self).__name__)
        self.every = checks.count("every", every)

    @contextlib.contextmanager
    def watching(
        self, model: keras.Model, x: Data, seed: tf.Tensor, training: bool = True
    ) -> Iterator[Callable[..., ForwardPass]]:
        """Record forward passes: yields a function that runs one and returns its `ForwardPass`.

        The function takes what to call (the model, or what wraps it) and, if it is not the pass of
        the whole batch, the inputs; such a pass has no sites.
        """
        with twice_differentiable(), autodiff.tape() as tape:
            if self.needs_inputs:
                autodiff.watch(tape, x)

            def forward(call, part=None):
                given, sites = (x, self.needs_sites) if part is None else (part, False)
                with record(model, x, training) if sites else contextlib.nullcontext() as recording:
                    outputs = call(given, training=training)
                    f = raw_outputs(outputs, model)
                return ForwardPass(model, given, outputs, f, tape, recording, seed)

            yield forward

    @abc.abstractmethod
    def value(self, run: ForwardPass) -> tf.Tensor:
        """What is penalised, a scalar, differentiable once more; `run` is a `ForwardPass`."""

    @property
    def measures_itself(self) -> bool:
        """Whether alpha="auto" measures the gradient of `value` itself, or of `gauge`.

        α must not depend on how noisy an estimate the settings make of the penalty.
        """
        return True

    def gauge(self, run: ForwardPass) -> tf.Tensor:
        """What stands for `value` where it does not measure itself."""
        return self.value(run)

    def get_config(self) -> dict[str, Any]:
        return {"alpha": alphas.serialize(self.alpha), "every": self.every}

    @classmethod
    def from_config(cls: type[Self], config: dict[str, Any]) -> Self:
        return cls(**config)

    def __repr__(self) -> str:
        return _call(self)


class KernelPenalty(Penalty):
    """Base of the penalties of K: they need no loss, so a model and its inputs are enough."""

    @autodiff.as_written
    def __call__(
        self, model: keras.Model, x: Data, step: Step, training: bool = True
    ) -> tuple[Any, tf.Tensor]:
        """Run the model, and say what to add to its loss: for a training loop of your own.

        `penalty = alpha * every * value` on the steps 0, every, 2·every, …, and 0 on the others.

        Args:
            model: a built `keras.Model`.
            x: its inputs, tensors.
            step: the number of the step, such as `optimizer.iterations`. Random projections are
                drawn from it and nothing else.
            training: whether the forward pass is that of training.

        Returns:
            (outputs, penalty): what `model(x, training=training)` returns, and a scalar of the
            outputs' dtype (at least float32), which a tape around this call differentiates.

        Raises:
            TypeError, ValueError: `model` is not a built Keras model with trainable weights, `x` is
                not data for it, or `alpha` is "auto", which only `MGSModel` can keep.

        Example:

        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> optimizer, penalty = keras.optimizers.SGD(), keras_mgs.TracePenalty(1e-3)
        >>> @tf.function
        ... def train_step(x, y):
        ...     with tf.GradientTape() as tape:
        ...         outputs, extra = penalty(model, x, optimizer.iterations)
        ...         loss = keras.ops.mean((outputs - y) ** 2) + extra
        ...     gradients = tape.gradient(loss, model.trainable_weights)
        ...     optimizer.apply(gradients, model.trainable_weights)
        ...     return loss
        >>> bool(train_step(tf.ones((8, 3)), tf.ones((8, 2))) > 0)
        True

        Reference: Szolnoky et al., NeurIPS 2022, section 5.
        """
        checks.model(model)
        checks.step(step)
        step = ops.cast(step, "int32")
        alpha = alphas.at(self.alpha, step)
        x = data.inputs("x", model, x)
        with self.watching(model, x, step, training) as forward:
            run = forward(model)
        dtype = keras.backend.result_type(run.f.dtype, "float32")

        def penalty():
            value = self.value(run)
            return ops.cast(self.every * ops.cast(alpha, value.dtype) * value, dtype)

        if self.every == 1:
            return run.outputs, penalty()
        acts = ops.equal(step % self.every, 0)
        return run.outputs, tf.cond(acts, penalty, lambda: ops.zeros((), dtype))


def _call(configured):
    """The call that makes an object, from its configuration."""
    options = {k: getattr(configured, k, v) for k, v in configured.get_config().items()}
    words = (f"{k}={_call(v) if callable(v) else repr(v)}" for k, v in options.items())
    return f"{type(configured).__name__}({', '.join(words)})"
