"""What tracing a model tells of a forward pass before it is run, and recording with that known."""

import contextlib
import math
import weakref
from typing import NamedTuple

import keras

from keras_mgs import autodiff, checks, data
from keras_mgs.outputs import raw_outputs
from keras_mgs.second_order import twice_differentiable
from keras_mgs.sites.site import Shape
from keras_mgs.sites.watching import watch

_SURVEYS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_TRIAL_SIZES = (6, 10)


class Survey(NamedTuple):
    """What tracing a model tells.

    Attributes:
        unsound: the ids of the weights that are left to the fallback.
        slow: how many numbers these weights are.
        outputs: q.
        dtype: that of J.
        coupled: whether a sample's outputs depend on the others: by batch statistics, or because
            they are as many as the batch has samples.
        width: how many numbers a sample's cotangents at all sites are.
        shapes: the `Shape` of each weight that has features, by its id.
        grows: whether q depends on the number of samples.
    """

    unsound: frozenset
    slow: int
    outputs: int
    dtype: str
    coupled: bool
    width: int
    shapes: dict[int, Shape]
    grows: bool

    def numbers(self, n):
        """How many numbers n samples' cotangents, and slow rows of J, are for one output."""
        fast = n * self.width
        return max(1, fast + (n * (fast + self.slow) if self.slow else 0))


@contextlib.contextmanager
def record(model, x, training):
    """Record a forward pass `model(x, training=training)` that runs in this context.

    Layers and weights are watched through attributes of the instances, put back at the end.
    """
    found = survey(model, x, training)
    with watch(model) as recording:
        recording.leave_to_fallback(found.unsound)
        recording.coupled |= found.coupled
        recording.x, recording.training = x, training
        yield recording


def signature(model):
    """Equal for equal states of a model's structure: what is compiled for one holds for both."""
    layers = tuple(id(layer) for layer in model._flatten_layers())
    return layers, tuple(id(w) for w in checks.weights(model))


def survey(model, x, training):
    """What is known of a forward pass on data like `x` before it is run: a `Survey`, cached.

    Whether a site's first axis is the samples' may not show in a pass of unknown batch size, and
    may seem so by chance in one of a known size. So the model is traced, not run, at other sizes.
    """
    leaves = data.leaves(x)
    known = _SURVEYS.setdefault(model, {})
    n = leaves[0].shape[0]
    several = n in (None, _TRIAL_SIZES[0]) or not _declares_outputs(model)
    sizes = _TRIAL_SIZES if several else _TRIAL_SIZES[:1]
    shapes = tuple(
        t if t is None else (type(t), tuple(t.shape[1:]), str(t.dtype))
        for t in keras.tree.flatten(x)
    )
    key = (bool(training), signature(model), shapes, sizes)
    if key not in known:
        known[key] = _look(model, x, training, sizes, n)
    if not known[key].grows or n is None:
        return known[key]
    if (key, n) not in known:  # only a batch of this size tells how many outputs one has
        known[key, n] = _look(model, x, training, (n,), n)._replace(coupled=True, grows=True)
    return known[key, n]


def _look(model, x, training, sizes, n):
    """The `Survey` of passes of some sizes."""
    found, unsound = [], set()

    def trial(x):
        with (
            twice_differentiable(),
            autodiff.tape() as tape,
            watch(model) as recording,
            keras.StatelessScope(),
        ):
            f = raw_outputs(model(x, training=training), model)
        recording.check(tape, f)
        unsound.update(recording.unexplained())
        dtype = keras.backend.result_type(f.dtype, "float32")
        facts = (recording.coupled, recording.width(), recording.shapes())
        found.append((f.shape[1], dtype, *facts))

    for size in sizes:
        try:
            autodiff.trace(trial, x, size)
        except Exception:  # a model for one batch size only; any error of its own comes again
            unsound.update(id(w) for w in checks.weights(model))
    if not found:
        autodiff.trace(trial, x, n)
    slow = sum(math.prod(w.shape) for w in checks.weights(model) if id(w) in unsound)
    grows = len({facts[0] for facts in found}) > 1
    q, dtype, coupled, width, shapes = found[0]
    return Survey(frozenset(unsound), slow, q, dtype, coupled or grows, width, shapes, grows)


def _declares_outputs(model):
    """Whether a model says how many outputs a sample has, so that they cannot grow with it."""
    outputs = getattr(model, "outputs", None)
    return bool(outputs) and all(None not in t.shape[1:] for t in keras.tree.flatten(outputs))
