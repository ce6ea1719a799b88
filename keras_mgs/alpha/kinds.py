"""α in training: a number, a schedule or "auto", each with the gradients of a penalised step."""

import functools
import math
import warnings
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from keras_mgs import norms, slices
from keras_mgs.alpha import rule
from keras_mgs.alpha.given import AUTO

_UNSET = math.nan  # α before the first step that sets it


class Gradients(NamedTuple):
    """What a penalised step has computed for the whole batch, summed over the replicas.

    Attributes:
        loss: the gradients of the loss, times the loss scale.
        penalty: the gradients of the penalty, times `Alpha.weight`.
        measured: the gradients by which the length of the penalty's is measured, times
            `Alpha.weight`; empty where these are the penalty's own.
        value: the penalty.
        losses: three scalars: the loss with regularisers, the loss without them, and that on the
            same labels dealt to other samples; empty where `Alpha.measures` is false.
    """

    loss: Any
    penalty: Any
    measured: Any
    value: Any
    losses: Any


def of(given, add_weight):
    """The `Alpha` for what `parse` has returned; `add_weight` makes its variables."""
    kind = Automatic if given == AUTO else Scheduled if callable(given) else Number
    return kind(given, add_weight)


class Alpha:
    """α in training.

    Every kind has all variables, so that weights can be loaded into a model with another kind.

    Attributes:
        value: a variable: α of the last step; NaN before the first.
        state: a variable: the `State` of "auto".
        epochs: a variable: how many epochs of `fit` have ended.
        skipped: a variable, (2,): how many steps had a penalty without a finite gradient, and the
            index of the last trainable weight where it was not finite.
        measures: whether `gradients` needs `Gradients.measured` and `Gradients.losses`.
    """

    measures = False

    def __init__(self, given, add_weight):
        self.given = given
        self.value = add_weight(
            name="alpha",
            shape=(),
            dtype="float64",  # a number that is given is taken as it is
            initializer=keras.initializers.Constant(_UNSET),
            trainable=False,
            autocast=False,
        )
        self.state = add_weight(
            name="alpha_state",
            shape=(len(rule.State._fields),),
            dtype="float64",
            initializer="zeros",
            trainable=False,
            autocast=False,
        )
        self.epochs = add_weight(
            name="epochs", shape=(), dtype="int32", initializer="zeros", trainable=False
        )
        self.skipped = add_weight(
            name="skipped", shape=(2,), dtype="int32", initializer="zeros", trainable=False
        )

    @property
    def current(self):
        """α of the last step, a float; before the first step, what was given."""
        number = float(self.value.numpy())
        return self.given if math.isnan(number) else number

    @property
    def number(self):
        """The number that was given, or set since; None where α is found in training."""
        return None

    def set(self, number):
        """Make α a number from now on."""
        self.value.assign(number)

    def begin(self, step):
        """Bring `value` up to date before a step."""

    def now(self):
        """α, a scalar tensor; 0 before it is chosen."""
        return ops.where(ops.isnan(self.value), 0.0, self.value)

    def weight(self, scale):
        """What a penalty is multiplied by before its gradient is taken."""
        # Near the weight that it will have: half precision holds no much larger gradients.
        alpha = self.now()
        return ops.where(alpha > 0, alpha * ops.cast(scale, alpha.dtype), 1.0)

    def gradients(self, computed, every, scale):
        """The gradients of a penalised step: those of `loss + every * alpha * penalty`, scaled.

        A penalty without a finite gradient is left out, and the step counted as skipped.

        Args:
            computed: `Gradients`.
            every: steps from one penalised step to the next.
            scale: the optimizer's loss scale.
        """
        scale, weight = ops.cast(scale, self.value.dtype), self.weight(scale)
        squares = norms.of_each(computed.penalty)
        length = ops.sqrt(ops.sum(squares)) / weight
        alpha, wanted = self._update(computed, every, scale, weight, length)
        # An overflow under a loss scale is for the optimizer to see, which then lowers the scale.
        finite = ops.logical_or(ops.isfinite(length), scale > 1)
        self._count_skipped(ops.logical_and(wanted, ops.logical_not(finite)), squares)
        counts = ops.logical_and(finite, alpha > 0)
        factor = _of_dtypes(ops.where(counts, every * alpha * scale / weight, 0.0))

        def weighted(p):  # 0 times what is not finite, too, is 0
            return tf.math.multiply_no_nan(p, factor(p.dtype))

        return [
            slices.plus(g, slices.of_values(weighted, p))
            for g, p in zip(computed.loss, computed.penalty, strict=True)
        ]

    def _update(self, computed, every, scale, weight, length):
        """α of this step, and whether its penalty is to act; `length` is ‖∇ penalty‖."""
        return self.now(), self.now() > 0

    def _count_skipped(self, skipped, squares):
        broken = ops.logical_not(ops.isfinite(squares))
        last = ops.max(ops.where(broken, ops.arange(squares.shape[0]), 0))
        count = self.skipped[0] + 1
        self.skipped.assign(ops.where(skipped, ops.stack([count, last]), self.skipped))


class Number(Alpha):
    """α is a number, which a callback may change."""

    def __init__(self, given, add_weight):
        super().__init__(given, add_weight)
        self.set(given)

    @property
    def number(self):
        return self.current

    def begin(self, step):
        unset = ops.isnan(self.value)  # by weights loaded from a model that had no α yet
        self.value.assign(ops.where(unset, self.given, self.value))


class Scheduled(Alpha):
    """α follows a `keras.optimizers.schedules` object."""

    def set(self, number):
        raise TypeError(
            f"Expected `alpha` to be left to its schedule, {self.given!r}. "
            f"Received: alpha={number!r}. Give MGSModel a number if a callback is to set it."
        )

    def begin(self, step):
        self.value.assign(self.given(step))


class Automatic(Alpha):
    """α follows the rule in `keras_mgs.alpha.rule`."""

    measures = True

    @property
    def number(self):
        acts = rule.State(*self.state.numpy()).acts
        return None if acts or self.current == AUTO else self.current

    def set(self, number):
        super().set(number)
        self.state.assign(ops.zeros_like(self.state))  # an α without a state is a number

    def gradients(self, computed, every, scale):
        gradients = super().gradients(computed, every, scale)
        state = rule.State(*ops.unstack(self.state))
        kept, mean = rule.shorten(state.length, _length(gradients, scale))
        self.state.assign(ops.stack(state._replace(length=mean)))
        kept = _of_dtypes(kept)
        return [slices.of_values(lambda t: kept(t.dtype) * t, g) for g in gradients]

    def _update(self, computed, every, scale, weight, length):
        dtype = self.value.dtype
        old = rule.State(*ops.unstack(ops.cast(self.state, dtype)))
        measured = _length(computed.measured, weight) if computed.measured else length
        losses = [ops.cast(loss, dtype) for loss in computed.losses]
        loss_length = _length(computed.loss, scale)
        new = rule.update(old, losses, loss_length, measured, every)
        given = ops.logical_and(old.acts == 0, ops.logical_not(ops.isnan(self.value)))
        new = new._replace(acts=ops.where(given, 0.0, new.acts))
        chosen = rule.choose(new, rule.share(self.epochs, new.count * every))
        alpha = ops.where(given, self.now(), chosen)
        self.value.assign(ops.where(new.acts > 0, alpha, self.value))
        self.state.assign(ops.stack(new))
        # Also before α is chosen: a penalty whose gradient has no length would never be.
        return alpha, ops.logical_and(loss_length > 0, ops.isfinite(loss_length))


def warn_unlabelled():
    """Warn that "auto" compares the loss with that at the start, as there are no labels."""
    warnings.warn(
        "alpha='auto' compares the loss with that on the labels of other samples, and here there "
        "are none: it goes by the loss at the start instead, and waits until the loss has fallen "
        f"{rule.LEARNT:.0%} below it. Give a number if the loss does not fall.",
        stacklevel=2,
    )


def _length(tensors, scale):
    """`‖tensors / scale‖`, a scalar in double precision."""
    return ops.sqrt(ops.sum(norms.of_each(tensors))) / ops.cast(scale, "float64")


def _of_dtypes(number):
    """A function of a dtype that returns `number` in it."""
    return functools.cache(functools.partial(ops.cast, number))
