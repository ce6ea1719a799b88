"""The first samples of a batch, run apart from the others."""

import weakref

import keras

from keras_mgs import autodiff

_SEPARABLE: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def first(x, size):
    """The first `size` samples of a batch, or all that there are."""
    return keras.tree.map_structure(lambda t: t[:size], x)


def separable(model, x, size, training):
    """Whether the first `size` samples of a batch like `x` do alone what they do in the batch.

    Batch statistics tie samples together, and so do normal random numbers, of which XLA draws
    others for another number of samples. A model may be made for one batch size: tracing it, not
    running it, at `size` shows that.
    """
    leaves = [leaf for leaf in keras.tree.flatten(x) if leaf is not None]
    if leaves[0].shape[0] is not None and leaves[0].shape[0] <= size:
        return False  # nothing to run apart
    if training and any(_ties(layer) for layer in model._flatten_layers()):
        return False
    known = _SEPARABLE.setdefault(model, {})
    key = (size, bool(training), *((tuple(t.shape[1:]), str(t.dtype)) for t in leaves))
    if key not in known:

        def trial(x):
            with keras.StatelessScope():
                model(x, training=training)

        try:
            autodiff.trace(trial, x, size)
            known[key] = True
        except Exception:  # an error of the model's own comes again in the pass of the batch
            known[key] = False
    return known[key]


def _ties(layer):
    """Whether in training a sample's outputs depend on the others, or on how many there are."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return layer.trainable
    return isinstance(layer, keras.layers.GaussianNoise | keras.layers.GaussianDropout)
