"""The raw output f of a network: softmax and sigmoid undone, structures flattened."""

import warnings

import keras
import numpy as np
import tensorflow as tf
from keras import ops

_NORMALISING = {"Softmax", "Sigmoid", "LogSoftmax"}
# These change neither which numbers come out nor their order within a sample.
_TRANSPARENT = {"Identity", "Cast", "Reshape", "StopGradient", "CheckNumerics"}
# These, with constants, leave an output that is still a normalised one.
_ELEMENTWISE = {"AddV2", "Sub", "Mul", "RealDiv", "Maximum", "Minimum", "Neg", "Log", "Transpose"}
_WARNED: set[str] = set()


def raw_outputs(outputs):
    """`f`, (n, q): all outputs before any normalisation, flattened per sample and concatenated.

    `outputs` is what a Keras model returned: a tensor, or a list or dict of tensors. A softmax or
    sigmoid at the end is undone. Paper, section 3: f is the network's raw output.
    """
    parts = []
    for y in keras.tree.flatten(outputs):
        f = _logits(y)
        if "int" in keras.backend.standardize_dtype(f.dtype) or "bool" in str(f.dtype):
            raise TypeError(
                "MGS differentiates the model's outputs, so they must be floating-point. "
                f"Received: an output of dtype {keras.backend.standardize_dtype(f.dtype)}. "
                "Use the model before its argmax, rounding or cast."
            )
        if len(f.shape) == 0:
            raise ValueError(
                "Every output of the model must have the samples on its first axis. "
                "Received: a scalar output. Use a model that returns one row per sample."
            )
        per_sample = 1
        for size in f.shape[1:]:
            if size is None:
                raise ValueError(
                    "MGS must know how many outputs a sample has. "
                    f"Received: an output of shape {tuple(f.shape)}. "
                    "Give inputs whose shape, but for the batch, is fixed."
                )
            per_sample *= size
        parts.append(ops.reshape(f, (-1, per_sample)))
    dtype = keras.backend.result_type(*(p.dtype for p in parts))
    return ops.concatenate([ops.cast(p, dtype) for p in parts], axis=1) if parts[1:] else parts[0]


def predict(model, x, batch_size):
    """The raw outputs of all samples, an array (n, q), `batch_size` at a time."""
    # As a graph, whose history shows a softmax or sigmoid however it is spelled.
    run = tf.function(
        lambda x: raw_outputs(model(x, training=False)), autograph=False, reduce_retracing=True
    )
    n = keras.tree.flatten(x)[0].shape[0]
    pieces = [
        keras.tree.map_structure(lambda leaf: tf.convert_to_tensor(leaf[i : i + batch_size]), x)  # noqa: B023
        for i in range(0, n, batch_size)
    ]
    return np.concatenate([run(piece).numpy() for piece in pieces])


def classes(f):
    """The class that raw outputs (n, q) stand for: the largest, or the sign of the only one."""
    return (f[:, 0] > 0).astype("int64") if f.shape[1] == 1 else f.argmax(axis=1)


def _logits(y):
    """The tensor before a final softmax or sigmoid; `y` itself where there is none."""
    if hasattr(y, "_keras_logits"):  # left there by Keras' own softmax and sigmoid
        return y._keras_logits
    tensor, passed = y, True
    while (operation := _operation(tensor)) is not None:
        if operation.type in {"Softmax", "Sigmoid"} and passed:
            return ops.cast(operation.inputs[0], y.dtype)
        if operation.type in _NORMALISING:
            _warn_once(operation.type)
            return y
        if operation.type in _TRANSPARENT:
            sources = operation.inputs[:1]
        elif operation.type in _ELEMENTWISE:
            passed = False
            sources = [t for t in operation.inputs if t.op.type != "Const"]
        else:
            return y
        if len(sources) != 1:
            return y
        tensor = sources[0]
    if tensor is y and _looks_normalised(y):
        _warn_once("softmax")
    return y


def _looks_normalised(y):
    """Whether an eager tensor, whose history cannot be read, holds probabilities."""
    if not hasattr(y, "numpy") or len(y.shape) < 2 or y.shape[-1] < 2:
        return False
    values = ops.convert_to_numpy(y).astype("float64")
    return bool((values >= 0).all() and (abs(values.sum(-1) - 1) < 1e-2).all())


def _operation(tensor):
    try:
        return tensor.op
    except AttributeError:  # an eager tensor has no history to read
        return None


def _warn_once(kind):
    if kind not in _WARNED:
        _WARNED.add(kind)
        warnings.warn(
            f"The model's output is computed from a {kind} that keras_mgs cannot undo, so K is "
            "that of the output as it is, not of the logits. End the model with the softmax "
            "itself, or return the logits.",
            stacklevel=3,
        )
