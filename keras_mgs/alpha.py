"""α, the weight of a penalty: a number, a schedule, or "auto", which balances two gradients."""

import math
import warnings
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_mgs import checks, norms, slices

AUTO = "auto"
_UNSET = math.nan  # α before the first step that sets it


class Gradients(NamedTuple):
    """What a penalised step hands to α: gradients of the whole batch, over all replicas.

    Attributes:
        loss: of the loss, times the loss scale.
        penalty: of the penalty, times `Alpha.weight`.
        measured: as `penalty`, of what stands for the penalty where its length is measured; empty:
            of nothing else.
        value: the penalty.
        losses: three scalars: the loss, and those of the labels alone: of the batch's own labels,
            and of the same labels dealt to other samples.
    """

    loss: Any
    penalty: Any
    measured: Any
    value: Any
    losses: Any


class State(NamedTuple):
    """What "auto" knows, numbers in double precision that the model keeps.

    Attributes:
        count: penalised steps that were measured.
        loss, own, dealt: running means of `Gradients.losses`.
        first: the loss at the start.
        told: 1 once own and dealt labels have had different losses.
        since: `count` when labels were first learnt; 0: never yet.
        fast, slow: running means of log r, with short and with long memory.
        ratio: log of the r that α follows; 0 before it acts.
        acts: 1 once there is a penalty.
        length: the running mean of the lengths of penalised steps.
    """

    count: Any
    loss: Any
    own: Any
    dealt: Any
    first: Any
    told: Any
    since: Any
    fast: Any
    slow: Any
    ratio: Any
    acts: Any
    length: Any


# The constants of "auto", chosen on problems of the kinds of `reproduce zoo`, in a prototype.
SHARE = 0.4  # of r that α comes to
HALF = 3  # epochs after which it is half of that
EPOCH = 500  # steps that count as an epoch where epochs are longer, or none are counted
LEARNT = 0.05  # share of the loss on dealt labels below which labels do not count as learnt
STEADY = 0.1  # most by which fast and slow means of log r may differ when the penalty begins
HEADROOM = 1.7  # r rises under the penalty: by how much it is taken to, when that begins
LEAD = 2.0  # α runs ahead of a rising mean of log r, by so many times what is still missing
AHEAD = math.log(4)  # the most of it
# Memories of running means, in training steps.
LOSSES, FAST, SLOW, FALLING = 80, 50, 160, 640
STARTING = 4  # measurements before the penalty may begin
PATIENCE = 2  # how many times as long as labels took to be learnt it waits for r to be steady
EVERY = 8  # steps that a measurement stands for at the least, when they are counted
LENGTHS = 0.2  # weight of a new length in the running mean of lengths
LONGEST = 2.0  # how much longer a penalised step's gradient may be than that mean


def parse(value, automatic=True, owner="The penalty"):
    """`value` as the penalties keep it: a float ≥ 0, a schedule, or "auto".

    Raises:
        TypeError, ValueError: it is none of these, or "auto" where `automatic` is false.
    """
    if isinstance(value, dict):  # as `serialize` writes a schedule
        value = keras.saving.deserialize_keras_object(value)
    if isinstance(value, str):
        checks.choice("alpha", value, (AUTO,))
        if not automatic:
            raise ValueError(
                f"{owner} has no automatic `alpha`. Received: alpha='auto'. Give it a number."
            )
        return value
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return value
    if checks.number("alpha", value) < 0:
        raise ValueError(f"Expected `alpha` to be 'auto' or at least 0. Received: alpha={value!r}.")
    return float(value)


def serialize(value):
    """What `parse` has returned, as part of a config."""
    return value if isinstance(value, str | float) else keras.saving.serialize_keras_object(value)


def at(value, step):
    """A number, or what a schedule says at `step`: for training loops of one's own."""
    if value == AUTO:
        raise ValueError(
            "Expected `alpha` to be a number or a schedule in a training loop of your own. "
            "Received: alpha='auto', which MGSModel alone can choose, step by step. History of a "
            "fit of MGSModel(model) tells what it chooses: `mgs_alpha`."
        )
    return value(step) if callable(value) else value


def of(value, add_weight):
    """The `Alpha` of a model with what `parse` has returned; its variables are the model's."""
    kind = Automatic if value == AUTO else Scheduled if callable(value) else Number
    return kind(value, add_weight)


class Alpha:
    """α in training.

    Attributes:
        value: a variable: α of the last step; NaN: none yet.
        state: a variable, (len(State._fields),). All kinds have both, so that weights can be loaded
            into a model with another kind.
        epochs: a variable: the epochs of `fit` that have ended.
        skipped: a variable, (2,): the steps so far whose penalty had no finite gradient, and the
            last weight, by its number, with respect to which.
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
            shape=(len(State._fields),),
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
        """α as people read it: a number once a step has set it, what was given before."""
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

    def gradients(self, found, every, scale):
        """The gradients of a penalised step: those of `loss + every * alpha * penalty`, scaled.

        A penalty without a finite gradient leaves those of a plain step, and is counted.

        Args:
            found: `Gradients`.
            every: steps from one penalised step to the next.
            scale: the optimizer's loss scale.
        """
        scale, weight = ops.cast(scale, self.value.dtype), self.weight(scale)
        lengths = [_length([g], weight) for g in found.penalty]
        length = ops.sqrt(sum(ops.square(n) for n in lengths))
        alpha, wanted = self._update(found, every, scale, weight, length)
        # Of a scaled penalty, which may be too large, the optimizer must know.
        finite = ops.logical_or(ops.isfinite(length), scale > 1)
        self._count_skipped(ops.logical_and(wanted, ops.logical_not(finite)), lengths)
        counts = ops.logical_and(finite, alpha > 0)
        factor = every * alpha * scale / weight

        def part(p):
            return ops.where(counts, ops.cast(factor, p.dtype) * p, ops.zeros_like(p))

        return [
            slices.plus(g, slices.of_values(part, p))
            for g, p in zip(found.loss, found.penalty, strict=True)
        ]

    def _update(self, found, every, scale, weight, length):
        """α of this step, and whether its penalty is to act; `length` is ‖∇ penalty‖."""
        return self.now(), self.now() > 0

    def _count_skipped(self, skipped, lengths):
        broken = ops.logical_not(ops.isfinite(ops.stack(lengths)))
        last = ops.max(ops.where(broken, ops.arange(len(lengths)), 0))
        count = self.skipped[0] + 1
        self.skipped.assign(ops.where(skipped, ops.stack([count, last]), self.skipped))


class Number(Alpha):
    """α is a number, that of a callback if one sets it."""

    def __init__(self, given, add_weight):
        super().__init__(given, add_weight)
        self.set(given)

    @property
    def number(self):
        return self.current

    def begin(self, step):
        unset = ops.isnan(self.value)  # weights may have been loaded of a model without one
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
    """α = share · r, r = ‖∇ loss‖ / ‖∇ penalty‖, from when the network has begun to learn.

    A penalty stops the learning where its gradient balances the loss's. Without a penalty r falls
    while a network memorises, as tr K grows; with one, r settles where the two gradients keep their
    proportion. α follows a running mean of log r, quick to rise and slow to fall.

    - It waits until labels are learnt: until the loss is `LEARNT` below that on the same labels
      dealt to other samples of the batch; and then until r is steady, but at most as long again. A
      network that stands still, or has just been made, tells nothing about r.
    - Its share of r grows with the epochs, to `SHARE`. What has been seen once or twice can hardly
      be learnt by heart, and a network that has learnt little yet should be left to learn.
    - It yields where labels are learnt no more: as the loss comes nearer than `LEARNT` to that on
      dealt labels, α falls, to 0 where they are equal. r grows without bound in a network that
      dies, and α with it, if nothing held it.
    - Where labels are clean, ‖∇ loss‖ vanishes, and α with it.

    Where dealt labels have no other loss (there are none, or one sample in a batch), the loss at
    the start takes the place of theirs.
    """

    measures = True

    @property
    def number(self):
        acts = State(*self.state.numpy()).acts
        return None if acts or self.current == AUTO else self.current

    def set(self, number):
        super().set(number)
        self.state.assign(ops.zeros_like(self.state))  # α without a state was given

    def gradients(self, found, every, scale):
        sums = super().gradients(found, every, scale)
        # No single step shall undo the learning.
        state = State(*ops.unstack(self.state))
        kept, mean = shorten(state.length, _length(sums, scale))
        self.state.assign(ops.stack(state._replace(length=mean)))
        return [slices.of_values(lambda t: ops.cast(kept, t.dtype) * t, g) for g in sums]

    def _update(self, found, every, scale, weight, length):
        dtype = self.value.dtype
        old = State(*ops.unstack(ops.cast(self.state, dtype)))
        measured = _length(found.measured, weight) if found.measured else length
        losses = [ops.cast(loss, dtype) for loss in found.losses]
        loss_length = _length(found.loss, scale)
        new = update(old, losses, loss_length, measured, every)
        given = ops.logical_and(old.acts == 0, ops.logical_not(ops.isnan(self.value)))
        new = new._replace(acts=ops.where(given, 0.0, new.acts))
        alpha = ops.where(given, self.now(), choose(new, share(self.epochs, new.count * every)))
        self.value.assign(ops.where(new.acts > 0, alpha, self.value))
        self.state.assign(ops.stack(new))
        # Before α is chosen, too: without a length of its penalty it never will be.
        return alpha, ops.logical_and(loss_length > 0, ops.isfinite(loss_length))


def update(old, losses, loss_length, penalty_length, every):
    """The `State` after a penalised step; `old` where the step tells nothing.

    Args:
        old: the `State` before it.
        losses: as in `Gradients`.
        loss_length, penalty_length: of the gradients of the loss and of the penalty.
        every: steps from one penalised step to the next.
    """
    log_ratio = ops.log(loss_length) - ops.log(penalty_length)
    known = ops.isfinite(log_ratio + sum(losses))  # not without weight, not too large
    count = old.count + 1

    def mean(before, now, memory):
        return before + ops.maximum(_share_of_memory(every, memory), 1 / count) * (now - before)

    loss, own, dealt = (
        mean(before, now, LOSSES)
        for before, now in zip((old.loss, old.own, old.dealt), losses, strict=True)
    )
    starting = count * every <= STARTING * EVERY
    new = old._replace(
        count=count,
        loss=loss,
        own=own,
        dealt=dealt,
        first=ops.where(starting, loss, old.first),
        told=ops.where(ops.not_equal(losses[1], losses[2]), 1.0, old.told),
        fast=mean(old.fast, log_ratio, FAST),
        slow=mean(old.slow, log_ratio, SLOW),
    )
    ready = ops.logical_and(learnt(new) > LEARNT, count * every >= STARTING * EVERY)
    first_time = ops.logical_and(ready, old.since == 0)
    new = new._replace(since=ops.where(first_time, count, old.since))
    steady = ops.abs(new.fast - new.slow) < STEADY
    patient = ops.logical_or(new.since == 0, count < PATIENCE * new.since)
    waits = ops.logical_and(ops.logical_not(steady), patient)
    begins = ops.logical_and(old.acts == 0, ops.logical_and(ready, ops.logical_not(waits)))
    # Quick to rise and slow to fall, by the mean: by single values, noise alone would raise it.
    away = new.fast - old.ratio
    rises, falls = (_share_of_memory(every, memory) for memory in (FAST, FALLING))
    away *= ops.where(away > 0, rises, falls)
    ratio = ops.where(begins, new.fast + math.log(HEADROOM), old.ratio)
    ratio = ops.where(old.acts > 0, old.ratio + away, ratio)
    new = new._replace(ratio=ratio, acts=ops.where(begins, 1.0, old.acts))
    return State(*(ops.where(known, after, before) for after, before in zip(new, old, strict=True)))


def learnt(state):
    """How much of the loss on dealt labels the network has taken off by learning the right ones."""
    dealt = ops.where(state.told > 0, state.dealt, state.first)
    own = ops.where(state.told > 0, state.own, state.loss)
    largest = ops.maximum(ops.abs(dealt), ops.abs(own))  # losses may be negative
    return ops.divide_no_nan(dealt - own, largest)


def share(epochs, steps):
    """Of r, that α is: what has been seen once or twice can hardly be learnt by heart."""
    seen = ops.maximum(ops.cast(epochs, "float64"), ops.cast(steps, "float64") / EPOCH)
    return SHARE * seen / (seen + HALF)


def choose(state, share):
    """α by the rule of "auto"; 0 before it acts."""
    yielding = ops.clip(learnt(state) / LEARNT, 0.0, 1.0)
    # With batch normalisation r rises as α does: a mean alone would come too late.
    ratio = state.ratio + ops.clip(LEAD * (state.fast - state.ratio), 0.0, AHEAD)
    return ops.where(state.acts > 0, share * ops.exp(ratio) * yielding, 0.0)


def shorten(mean, length):
    """Keep one penalised step from overshooting, by the lengths of those before it.

    Its weight is `every` times α. While tr K shoots up in the first epochs, one step can then push
    it so far down that the network never recovers.

    Returns:
        The share of the step to make, and the running mean of lengths after it.
    """
    allowed = ops.where(mean > 0, ops.minimum(length, LONGEST * mean), length)
    known = ops.isfinite(length)  # the optimizer skips a step that overflows
    following = ops.where(mean > 0, (1 - LENGTHS) * mean + LENGTHS * allowed, length)
    share = ops.where(known, ops.divide_no_nan(allowed, length), 1.0)
    return share, ops.where(known, following, mean)


def say_unlabelled():
    """That "auto" goes by the loss at the start, for want of labels."""
    warnings.warn(
        "alpha='auto' compares the loss with that on the labels of other samples, and here there "
        "are none: it goes by the loss at the start instead, and waits until the loss has fallen "
        f"{LEARNT:.0%} below it. Give a number if the loss does not fall.",
        stacklevel=2,
    )


def _share_of_memory(steps, memory):
    """The weight of what comes every so many steps in a running mean with this memory, in steps."""
    return ops.convert_to_tensor(-math.expm1(-steps / memory), "float64")


def _length(tensors, scale):
    """`‖tensors / scale‖`; they are divided before they are squared, as they may be very large."""

    def divided(t):
        return t / ops.cast(scale, t.dtype)

    tensors = [slices.of_values(divided, t) for t in tensors]
    return ops.cast(ops.sqrt(norms.squared(tensors)), "float64")
