"""The rule of alpha="auto": functions that compute α from the measurements of training.

A penalty stops the learning where its gradient balances the loss's. So α = share · r, with
r = ‖∇ loss‖ / ‖∇ penalty‖. Without a penalty r falls while a network memorises, as tr K grows. With
a penalty r settles where the two gradients keep their proportion. α follows a running mean of
log r, which is slow to fall, and rises ever more slowly, by a memory that grows with the training.

- The penalty waits until labels are learnt: until the loss is `LEARNT` below the loss on the same
  labels, dealt to other samples of the batch. Then it waits until r is steady, but at most as long
  again. r says nothing while a network stands still, or has just been made.
- The share grows with the epochs, to `SHARE`. What has been seen once or twice can hardly be learnt
  by heart, and a network that has learnt little yet should be left to learn.
- α yields where less is learnt than was before: with the fourth power of how far the loss is below
  that on dealt labels, relative to the farthest so far. Otherwise r would grow without bound in a
  network that dies, and α with it.
- Where labels are clean, ‖∇ loss‖ vanishes, and α with it; and with the square root of the loss
  relative to that on dealt labels, since noise cannot be learnt from other samples.

Where the loss on dealt labels is the loss itself (there are no labels, or one sample in a batch),
the loss at the start takes its place.
"""

import math
from typing import Any, NamedTuple

from keras import ops


class State(NamedTuple):
    """The numbers that "auto" keeps from step to step, in double precision.

    Attributes:
        count: how many penalised steps were measured.
        loss, own, dealt: running means of the three `Gradients.losses`.
        first: the loss at the start.
        comparable: 1 once own and dealt labels have had different losses.
        since: `count` when labels were first learnt; 0 before.
        fast, slow: running means of log r, with short and with long memory.
        ratio: log of the r that α follows; 0 before the penalty acts.
        acts: 1 once the penalty acts.
        peak: the most that was learnt since.
        length: the running mean of the lengths of penalised steps' gradients.
    """

    count: Any
    loss: Any
    own: Any
    dealt: Any
    first: Any
    comparable: Any
    since: Any
    fast: Any
    slow: Any
    ratio: Any
    acts: Any
    peak: Any
    length: Any


# Chosen on problems of the kinds of `reproduce zoo`, RISING with it, the others with a prototype.
SHARE = 0.6  # the share of r that α approaches with the epochs
HALF = 3  # epochs after which the share is half of SHARE
EPOCH = 500  # steps that count as an epoch where epochs are longer, or none are counted
LEARNT = 0.05  # labels are learnt where the loss is so far below that on dealt ones, relative to it
YIELDING = 4  # the power of what is learnt, relative to the most so far, with which α yields
LEFT = 0.5  # the power of what is left of the loss on dealt labels, with which α falls
STEADY = 0.1  # r is steady where fast and slow means of log r differ by less
HEADROOM = 1.7  # r rises under the penalty: the factor by which it is expected to
LOSSES, FAST, SLOW, FALLING = 80, 50, 160, 1500  # memories of running means, in training steps
RISING = 0.5  # the memory with which the ratio rises, in steps so far; at least FAST
STARTING, EVERY = 4, 8  # the penalty begins after STARTING * EVERY steps at the earliest
PATIENCE = 2  # r need not be steady after so many times the steps until labels were learnt
LENGTHS = 0.2  # weight of a new length in the running mean of lengths
LONGEST = 2.0  # the longest gradient of a penalised step, in means of lengths


def update(old, losses, loss_length, penalty_length, every):
    """The `State` after a penalised step; `old` where a gradient vanishes or overflows.

    Args:
        old: the `State` before it.
        losses: as in `Gradients`.
        loss_length, penalty_length: the lengths of the gradients of the loss and of the penalty.
        every: steps from one penalised step to the next.
    """
    log_ratio = ops.log(loss_length) - ops.log(penalty_length)
    known = ops.isfinite(log_ratio + sum(losses))
    count = old.count + 1

    means = ops.stack([old.loss, old.own, old.dealt, old.fast, old.slow])
    memories = [LOSSES] * 3 + [FAST, SLOW]
    shares = ops.maximum(_shares_of_memory(every, memories), 1 / count)
    means += shares * (ops.stack([*losses, log_ratio, log_ratio]) - means)
    loss, own, dealt, fast, slow = ops.unstack(means)
    starting = count * every <= STARTING * EVERY
    new = old._replace(
        count=count,
        loss=loss,
        own=own,
        dealt=dealt,
        first=ops.where(starting, loss, old.first),
        comparable=ops.where(ops.not_equal(losses[1], losses[2]), 1.0, old.comparable),
        fast=fast,
        slow=slow,
    )
    ready = ops.logical_and(learnt(new) > LEARNT, count * every >= STARTING * EVERY)
    first_time = ops.logical_and(ready, old.since == 0)
    new = new._replace(since=ops.where(first_time, count, old.since))
    steady = ops.abs(new.fast - new.slow) < STEADY
    patient = ops.logical_or(new.since == 0, count < PATIENCE * new.since)
    waits = ops.logical_and(ops.logical_not(steady), patient)
    begins = ops.logical_and(old.acts == 0, ops.logical_and(ready, ops.logical_not(waits)))
    # By the mean: quick to rise by single values, the ratio would rise by noise alone. As r rises
    # with α, most with batch normalisation, a short memory would let both run ahead for ever.
    away = new.fast - old.ratio
    memory = ops.where(away > 0, ops.maximum(RISING * count * every, FAST), FALLING)
    away *= -ops.expm1(-every / memory)
    ratio = ops.where(begins, new.fast + math.log(HEADROOM), old.ratio)
    ratio = ops.where(old.acts > 0, old.ratio + away, ratio)
    acts = ops.where(begins, 1.0, old.acts)
    new = new._replace(
        ratio=ratio,
        acts=acts,
        peak=acts * ops.maximum(old.peak, learnt(new)),
    )
    return State(*ops.unstack(ops.where(known, ops.stack(new), ops.stack(old))))


def learnt(state):
    """How far the loss is below that on dealt labels, relative to the larger of the two."""
    own, dealt = _compared(state)
    largest = ops.maximum(ops.abs(dealt), ops.abs(own))  # losses may be negative
    return ops.divide_no_nan(dealt - own, largest)


def left(state):
    """The loss relative to that on dealt labels, at most 1; 1 where it is negative."""
    own, dealt = _compared(state)
    return ops.where(own < 0, 1.0, ops.clip(ops.divide_no_nan(own, dealt), 0.0, 1.0))


def _compared(state):
    """The loss, and that on dealt labels; where they cannot differ, that at the start."""
    comparable = state.comparable > 0
    own = ops.where(comparable, state.own, state.loss)
    return own, ops.where(comparable, state.dealt, state.first)


def share(epochs, steps):
    """The share of r that α is after so many epochs and steps."""
    seen = ops.maximum(ops.cast(epochs, "float64"), ops.cast(steps, "float64") / EPOCH)
    return SHARE * seen / (seen + HALF)


def choose(state, share):
    """α for this `State` and share of r; 0 before the penalty acts."""
    yielding = ops.divide_no_nan(ops.maximum(learnt(state), 0.0), state.peak) ** YIELDING
    alpha = share * ops.exp(state.ratio) * yielding * left(state) ** LEFT
    return ops.where(state.acts > 0, alpha, 0.0)


def shorten(mean, length):
    """Keep one penalised step from undoing the learning, by the lengths of those before it.

    The penalty of such a step weighs `every` times α. Where tr K rises steeply, at the start,
    one step can push it so far down that the network never recovers.

    Args:
        mean: the running mean of the lengths of such steps' gradients; 0 before the first.
        length: the length of this step's gradient.

    Returns:
        The factor by which to shorten the gradient, and the running mean after this step.
    """
    allowed = ops.where(mean > 0, ops.minimum(length, LONGEST * mean), length)
    known = ops.isfinite(length)  # the optimizer skips a step that overflows
    following = ops.where(mean > 0, (1 - LENGTHS) * mean + LENGTHS * allowed, length)
    share = ops.where(known, ops.divide_no_nan(allowed, length), 1.0)
    return share, ops.where(known, following, mean)


def _shares_of_memory(steps, memories):
    """The weight of a new value, one per `steps`, in running means over so many steps each."""
    return ops.convert_to_tensor([-math.expm1(-steps / memory) for memory in memories], "float64")
