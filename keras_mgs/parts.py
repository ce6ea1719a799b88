"""The first samples of a batch, run apart from the others."""

import contextlib
import weakref

import keras
import tensorflow as tf

from keras_mgs import autodiff, data
from keras_mgs.outputs import raw_outputs

_SEPARABLE: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def first(x, size):
    """The first `size` samples of a batch; where a graph does not know how many there are, `size`.

    There the last sample takes the place of those that are missing, zeros that of an empty batch.
    Sparse tensors are as short as the batch.
    """
    if any(isinstance(t, tf.SparseTensor) for t in data.leaves(x)):
        return data.samples(x, 0, size)

    def filled(t):
        if t is None or t.shape[0] is not None:
            return t if t is None else t[:size]
        zeros = tf.zeros([1, *tf.unstack(tf.shape(t))[1:]], t.dtype)
        last = tf.maximum(tf.shape(t)[0] - 1, 0)
        return tf.gather(tf.concat([t[:size], zeros], 0), tf.minimum(tf.range(size), last))

    return keras.tree.map_structure(filled, x)


def dealt(labels):
    """Labels moved on by half a batch, so that each sample has another's; None stays None."""

    def deal(t):
        return None if t is None else tf.roll(t, tf.shape(t)[0] // 2, 0)

    return keras.tree.map_structure(deal, labels)


def separable(model, x, size, training):
    """Whether the first `size` samples of a batch like `x` do alone what they do in the batch.

    Batch statistics tie samples together, and so do normal random numbers, of which XLA draws
    others for another number of samples. A model may be made for one batch size, or have outputs
    whose number grows with it: tracing it, not running it, at other sizes shows that.
    """
    leaves = data.leaves(x)
    if leaves[0].shape[0] is not None and leaves[0].shape[0] <= size:
        return False  # nothing to run apart
    if training and any(_ties(layer) for layer in model._flatten_layers()):
        return False
    known = _SEPARABLE.setdefault(model, {})
    key = (size, bool(training), *((tuple(t.shape[1:]), str(t.dtype)) for t in leaves))
    if key not in known:
        known[key] = _was_built_for_any_size(model) or _is_of_any_size(model, x, size, training)
    return known[key]


def _was_built_for_any_size(model):
    """Whether Keras has found so, layer by layer, of a model that has no code of its own."""
    model = getattr(model, "model", model)  # what an MGSModel wraps
    if any(map(_is_of_others, model._flatten_layers())):
        return False
    ends = [*(getattr(model, "inputs", None) or ()), *(getattr(model, "outputs", None) or ())]
    shapes = [tuple(t.shape) for t in ends]  # a scalar, which belongs to no sample, has none
    return bool(ends) and all(s[:1] == (None,) and None not in s[1:] for s in shapes)


def _is_of_others(layer):
    calls_others = isinstance(layer, keras.layers.Lambda | keras.layers.TFSMLayer)
    return calls_others or not type(layer).__module__.startswith("keras.")


def _is_of_any_size(model, x, size, training):
    """Whether a model takes batches of any size, and has a row of outputs for each sample.

    A number of outputs that a graph knows while it does not know the batch's size is that of any
    size. Where it does not, or the model cannot be traced so, two sizes tell.
    """
    shapes = []

    def trial(x):
        with keras.StatelessScope():
            shapes.append(raw_outputs(model(x, training=training), model).shape)

    with contextlib.suppress(Exception):
        autodiff.trace(trial, x, None)
        rows, width = shapes.pop()
        if width is not None:
            return rows is None
    try:
        for n in (size, size + 1):
            autodiff.trace(trial, x, n)
    except Exception:  # an error of the model's own comes again in the pass of the batch
        return False
    return len({width for _, width in shapes}) == 1


def _ties(layer):
    """Whether in training a sample's outputs depend on the others, or on how many there are."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return layer.trainable
    return isinstance(layer, keras.layers.GaussianNoise | keras.layers.GaussianDropout)
