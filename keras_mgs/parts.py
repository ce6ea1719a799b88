"""The first samples of a batch, run apart from the others."""

import weakref

import keras
import tensorflow as tf

from keras_mgs import autodiff, data
from keras_mgs.outputs import raw_outputs

_SEPARABLE: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def first(x, size):
    """The first `size` samples of a batch, or all that there are."""
    return data.samples(x, 0, size)


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
        widths = set()

        def trial(x):
            with keras.StatelessScope():
                widths.add(raw_outputs(model(x, training=training), model).shape[1])

        try:
            for n in (size, size + 1):
                autodiff.trace(trial, x, n)
            known[key] = len(widths) == 1
        except Exception:  # an error of the model's own comes again in the pass of the batch
            known[key] = False
    return known[key]


def _ties(layer):
    """Whether in training a sample's outputs depend on the others, or on how many there are."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return layer.trainable
    return isinstance(layer, keras.layers.GaussianNoise | keras.layers.GaussianDropout)
