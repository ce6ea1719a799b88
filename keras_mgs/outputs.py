"""The raw output f of a network: softmax and sigmoid undone, structures flattened."""

import inspect
import math
import warnings
import weakref

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_mgs import data

_NORMALISING = {"Softmax", "Sigmoid", "LogSoftmax"}
# These only move, select or repeat entries: what they do to probabilities they do to logits.
_MOVING = {
    "BatchToSpaceND", "BroadcastTo", "Cast", "CheckNumerics", "ConcatV2", "EnsureShape",
    "ExpandDims", "Gather", "GatherNd", "GatherV2", "Identity", "IdentityN", "MatrixDiagPartV3",
    "Pack", "ParallelConcat", "Reshape", "ReverseSequence", "ReverseV2", "Roll", "Slice",
    "SpaceToBatchND", "Split", "SplitV", "Squeeze", "StopGradient", "StridedSlice",
    "TensorListConcatV2", "TensorListFromTensor", "TensorListGetItem", "TensorListSetItem",
    "TensorListStack", "Tile", "Transpose", "Unpack",
}  # fmt: skip
# These combine entries: from probabilities and constants they make what cannot be undone.
_COMBINING = _MOVING | {
    "Add", "AddN", "AddV2", "BatchMatMulV2", "BatchMatMulV3", "ClipByValue", "Cumsum", "DivNoNan",
    "Einsum", "Exp", "Log", "Log1p", "MatMul", "Max", "Maximum", "Mean", "Min", "Minimum", "Mul",
    "MulNoNan", "Neg", "Pad", "PadV2", "Pow", "Prod", "RealDiv", "Reciprocal", "ScatterNd",
    "Select", "SelectV2", "Sqrt", "Square", "Sub", "Sum", "TensorListReserve",
    "TensorScatterUpdate", "TopKV2",
}  # fmt: skip
# What runs a function, and the attribute that names it.
_CALLS = {
    "If": "then_branch", "PartitionedCall": "f", "StatefulPartitionedCall": "f",
    "StatelessIf": "then_branch", "StatelessWhile": "body", "While": "body",
}  # fmt: skip
_RENAMED = {"dim", "split_dim", "squeeze_dims"}  # attributes that tf.raw_ops calls `axis`
_WARNED: set = set()
_WARNED_MODELS: weakref.WeakSet = weakref.WeakSet()


def raw_outputs(outputs, model=None):
    """`f`, (n, q): all outputs before any normalisation, flattened per sample and concatenated.

    `outputs` is what a Keras model returned: a tensor, or a list or dict of tensors. A softmax or
    sigmoid at the end is undone. Paper, section 3: f is the network's raw output. `model` is whose
    outputs they are: each model is warned of once.

    Outputs without a derivative (integers, strings), and scalars, which belong to no sample, are
    left out if there are others.
    """
    parts, left_out = [], list[Exception]()
    for y in keras.tree.flatten(outputs):
        if not tf.is_tensor(y) or isinstance(y, tf.RaggedTensor | tf.SparseTensor):
            kind = "None" if y is None else f"a {type(y).__name__}"
            raise TypeError(
                "MGS differentiates the model's outputs, so they must be dense tensors. "
                f"Received: {kind} as an output. Use a model that returns tensors, such as "
                "those of its outputs that a loss belongs to."
            )
        if not y.dtype.is_floating:
            left_out.append(
                TypeError(
                    "MGS differentiates the model's outputs, so they must be floating-point. "
                    f"Received: an output of dtype {y.dtype.name}. "
                    "Use the model before its argmax, rounding or cast."
                )
            )
            continue
        if len(y.shape) == 0:
            left_out.append(
                ValueError(
                    "Every output of the model must have the samples on its first axis. "
                    "Received: a scalar output. Use a model that returns one row per sample."
                )
            )
            continue
        f = _logits(y, model)
        sizes = f.shape[1:]
        per_sample = -1 if None in sizes else math.prod(sizes)
        parts.append(ops.reshape(f, (ops.shape(f)[0] if None in sizes else -1, per_sample)))
    if not parts and left_out:
        raise left_out[0]
    if not parts:
        raise ValueError(
            "Expected the model to return at least one output. "
            f"Received: {outputs!r}. Use a model that returns one row per sample."
        )
    dtype = keras.backend.result_type(*(p.dtype for p in parts))
    return ops.concatenate([ops.cast(p, dtype) for p in parts], axis=1) if parts[1:] else parts[0]


def predict(model, x, batch_size):
    """The raw outputs of all samples, an array (n, q), `batch_size` at a time."""
    # As a graph, whose history shows a softmax or sigmoid however it is spelled.
    run = tf.function(
        lambda x: raw_outputs(model(x, training=False), model),
        autograph=False,
        reduce_retracing=True,
    )
    x = data.inputs("x", model, x)
    n = data.number_of_samples(x)
    pieces = [data.samples(x, i, i + batch_size) for i in range(0, n, batch_size)]
    return np.concatenate([run(piece).numpy() for piece in pieces])


def classes(f):
    """The class that raw outputs (n, q) stand for: the largest, or the sign of the only one."""
    return (f[:, 0] > 0).astype("int64") if f.shape[1] == 1 else f.argmax(axis=1)


def normalisation(y):
    """ "Softmax", "LogSoftmax" or "Sigmoid" where an output is computed from it; otherwise None.

    `y` is an output of a model that is being traced: only a graph shows how it came about.
    """
    return _made_of(y)


def _logits(y, model=None):
    """The tensor before a final softmax or sigmoid; `y` itself where there is none."""
    if hasattr(y, "_keras_logits"):  # left there by Keras' own softmax and sigmoid
        return y._keras_logits
    remaining: list = []  # what parts of y are made of, that cannot be undone
    found = _undone(y, remaining)
    if found is not None and not remaining:
        return ops.cast(found, y.dtype)
    kind = "softmax" if _looks_normalised(y) else next(iter(remaining), None) or _made_of(y)
    if kind is not None:
        _warn_once(kind, model)
    return y


def _undone(y, remaining):
    """`y`, computed from logits where it was from probabilities; None if it was from none.

    The operations between a softmax or sigmoid and y only move or select entries. They are done
    once more, by TensorFlow's own functions, which tapes see.
    """
    operation = _operation(y)
    if operation is None:
        return None
    if operation.type in {"Softmax", "Sigmoid"}:
        return operation.inputs[0]
    if operation.type not in _MOVING:
        return None
    moved = [t for t in operation.inputs if t.dtype.is_floating]
    found = {id(t): _undone(t, remaining) for t in moved}
    if all(t is None for t in found.values()):
        return None
    kinds = [_made_of(t) for t in moved if found[id(t)] is None]
    remaining.extend(k for k in kinds if k is not None)
    inputs = [t if found.get(id(t)) is None else found[id(t)] for t in operation.inputs]
    return _again(operation, inputs)[y.value_index]


def _again(operation, inputs):
    """The outputs of an operation with other inputs."""
    function, left, given = getattr(tf.raw_ops, operation.type), list(inputs), {}
    for argument in operation.op_def.input_arg:
        if argument.number_attr or argument.type_list_attr:
            types = argument.type_list_attr and operation.get_attr(argument.type_list_attr)
            count = len(types) if types else operation.get_attr(argument.number_attr)
            given[argument.name], left = left[:count], left[count:]
        else:
            given[argument.name], left = left[0], left[1:]
    attributes = [a.name for a in operation.op_def.attr]
    wanted = [name for name in inspect.signature(function).parameters if name != "name"]
    for old in [n for n in (*given, *attributes) if n in _RENAMED and n not in wanted]:
        given["axis"] = given.pop(old) if old in given else operation.get_attr(old)
    arguments = {n: given[n] if n in given else operation.get_attr(n) for n in wanted}
    result = function(**arguments)
    return result if isinstance(result, list | tuple) else [result]


def _made_of(y):
    """Which normalisation `y` is computed from, if from nothing else that has weights."""
    kinds, seen, waiting = [], set(), [y]
    while waiting:
        tensor = waiting.pop()
        operation = _operation(tensor)
        if operation is None:
            return None
        if operation.name in seen:
            continue
        seen.add(operation.name)
        if operation.type in _NORMALISING:
            kinds.append(operation.type)
        elif operation.type in _CALLS:
            kind = _inside(operation, tensor.value_index)
            if kind is not None:
                kinds.append(kind)
            elif _has_weights(tensor):
                return None
        elif operation.type in _COMBINING:
            waiting.extend(operation.inputs)
        elif _has_weights(tensor):
            return None
    return kinds[0] if kinds else None


def _inside(operation, index):
    """As `_made_of`, of an output of a function that was traced before."""
    try:
        name = operation.get_attr(_CALLS[operation.type]).name
        graph = operation.graph._get_function(name).graph
        return _made_of(graph.outputs[index])
    except (AttributeError, IndexError, KeyError, ValueError):  # nothing is known of it
        return None


def _has_weights(tensor):
    """Whether any variable, or anything that cannot be looked into, takes part in a tensor."""
    seen, waiting = set(), [tensor]
    while waiting:
        operation = _operation(waiting.pop())
        if operation is None:
            return True
        if any(t.dtype == tf.resource for t in operation.inputs):
            if any(t.dtype.is_floating or t.dtype == tf.variant for t in operation.outputs):
                return True
            continue  # the state of a random generator
        if operation.name not in seen:
            seen.add(operation.name)
            waiting.extend(operation.inputs)
    return False


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


def _warn_once(kind, model):
    known, key = (_WARNED, kind) if model is None else (_WARNED_MODELS, model)
    if key not in known:
        known.add(key)
        whose = "The model" if model is None else f"'{model.name}'"
        warnings.warn(
            f"{whose} returns what is computed from a {kind} that keras_mgs cannot undo, so K is "
            "that of the output as it is, not of the logits. End the model with the softmax "
            "itself, or return the logits.",
            stacklevel=3,
        )
