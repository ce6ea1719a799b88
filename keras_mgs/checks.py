"""Checks of single arguments: each refuses a wrong value in one sentence."""

import math
import numbers

import keras
import numpy as np
import tensorflow as tf

tree = keras.tree


def model(model):
    """A built Keras model with trainable weights."""
    built(model)
    if not weights(model):
        raise ValueError(
            "Expected `model` to have trainable weights. "
            f"Received: '{model.name}' with {len(model.weights)} weights, none of them trainable. "
            "Set `trainable = True` on the layers that MGS shall look at."
        )


def built(model):
    """A built Keras model."""
    if not isinstance(model, keras.Model):
        kind = type(model)
        raise TypeError(
            "Expected `model` to be a keras.Model of Keras 3. "
            f"Received: {model!r} of type {kind.__module__}.{kind.__qualname__}. "
            "Wrap layers in keras.Sequential or keras.Model first; rebuild a model of another "
            "framework, or of Keras 2 (tf_keras), in Keras 3."
        )
    if not model.built:
        raise ValueError(
            "Expected `model` to be built, so that it has weights. "
            f"Received: the unbuilt {type(model).__name__} '{model.name}'. "
            "Give it an Input, call model.build(input_shape), or call it on a batch."
        )


def number(name, value):
    """A finite real number; True and False are not."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(f"Expected `{name}` to be a number. Received: {name}={value!r}.")
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        finite = False
    if not finite:
        raise ValueError(f"Expected `{name}` to be finite. Received: {name}={_short(value)}.")
    return float(value)


def positive(name, value):
    """A finite number above zero."""
    if number(name, value) <= 0:
        raise ValueError(f"Expected `{name}` to be positive. Received: {name}={value!r}.")
    return float(value)


def count(name, value, least=1, most=2**31 - 1):
    """A whole number from 1 (or `least`) on, up to what TensorFlow and NumPy count with."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise TypeError(f"Expected `{name}` to be an integer. Received: {name}={value!r}.")
    if value < least:
        raise ValueError(
            f"Expected `{name}` to be at least {least}. Received: {name}={_short(value)}."
        )
    if value > most:
        raise ValueError(
            f"Expected `{name}` to be at most {most}. Received: {name}={_short(value)}."
        )
    return int(value)


def _short(value):
    """A number as text; Python prints no integer of more than 4300 digits."""
    if isinstance(value, numbers.Integral) and abs(int(value)) > 2**99:
        return f"an integer of {int(value).bit_length()} bits"
    return repr(value)


def step(value):
    """The number of a training step: an integer from 0 on, or a tensor or variable of one."""
    if not tf.is_tensor(value) and not isinstance(value, keras.Variable):
        count("step", value, least=0)


def choice(name, value, options):
    """One of the words in `options`."""
    if not isinstance(value, str) or value not in options:
        words = ", ".join(map(repr, options))
        raise ValueError(f"Expected `{name}` to be one of {words}. Received: {name}={value!r}.")
    return value


def batch_size(value):
    """None, or a count."""
    if value is not None:
        count("batch_size", value)


def finite(name, data):
    """Arrays without NaN and infinity; symbolic tensors pass, for they have no values yet."""
    for path, leaf in tree.flatten_with_path(data):
        leaf = leaf.values if isinstance(leaf, tf.SparseTensor) else leaf
        if tf.is_symbolic_tensor(leaf) or not hasattr(leaf, "dtype"):
            continue
        array = np.asarray(leaf)
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            where = "".join(f"[{p!r}]" for p in path)
            raise ValueError(
                f"Expected `{name}` to be finite. Received: {name}{where} of shape {array.shape} "
                f"with {int((~np.isfinite(array)).sum())} NaN or infinite entries. "
                "Remove or fill them first."
            )


def flag(name, value):
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"Expected `{name}` to be True or False. Received: {name}={value!r}.")
    return bool(value)


def weights(model):
    """The weights θ: those that are trained by their gradients, so not the scales of float8."""
    return [w for w in model.trainable_weights if not is_overwritten(w)]


def is_overwritten(weight):
    """Whether optimizers replace the weight by its gradient, as they do with scales of float8."""
    return getattr(weight, "overwrite_with_gradient", False)


def probes(x):
    """A dict of at least one probe batch, with strings as names."""
    if not x:
        raise ValueError(
            "Expected `x` to name at least one probe batch. Received: no probe, x={}. "
            "A fixed batch of the training data will do."
        )
    for name in x:
        if not isinstance(name, str):
            raise TypeError(
                f"Expected the names of the probe batches to be strings. Received: {name!r}."
            )
    return x
