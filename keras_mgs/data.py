"""Inputs of a model and what `fit` is given: read, converted to tensors, fitted to the model."""

import keras
import numpy as np
import tensorflow as tf

from keras_mgs import checks

tree = keras.tree


def inputs(name, model, x):
    """`x` as tensors that the model takes; None for an optional input that is left out."""
    x = tree.map_structure(_to_array, read(name, x))
    arrays = leaves(x)
    for leaf, declared in _beside_declared(model, x):
        may_be_none = declared is None or _is_optional(declared)
        if leaf is not None or not arrays or not may_be_none:
            _check_array(name, leaf, getattr(declared, "dtype", None))
    sizes = {array.shape[0] for array in arrays}
    if len(sizes) != 1:
        raise ValueError(
            f"Expected every array of `{name}` to have the same number of samples. "
            f"Received: {sorted(sizes, key=str) or 'no array at all'}."
        )
    checks.finite(name, x)
    _check_fit(name, model, x)
    return tree.map_structure(_to_tensor, x)


def read(name, data):
    """The inputs in `data`: of a `tf.data.Dataset`, those of all batches joined; else `data`.

    A batch of a Dataset is x, (x, y) or (x, y, sample_weight).
    """
    if not isinstance(data, tf.data.Dataset):
        return data
    if int(data.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"Expected `{name}` to be a finite tf.data.Dataset. Received: one that repeats for "
            "ever. Use its .take(number_of_batches)."
        )
    batches = [keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in data]
    if not batches:
        raise ValueError(
            f"Expected `{name}` to be a tf.data.Dataset with at least one batch. Received: none."
        )
    return tree.map_structure(_joined, *batches)


def leaves(x):
    """The arrays of a structure, without the None of optional inputs."""
    return [leaf for leaf in tree.flatten(x) if leaf is not None]


def samples(x, start, stop):
    """The samples from `start` to `stop` of each dense or sparse tensor of a structure."""

    def sliced(t):
        if isinstance(t, tf.SparseTensor):
            size = tf.minimum(tf.cast(stop, "int64"), t.dense_shape[0]) - start
            first = [start, *[0] * (len(t.shape) - 1)]
            return tf.sparse.slice(t, first, tf.concat([[size], t.dense_shape[1:]], 0))
        return t if t is None else t[start:stop]

    return tree.map_structure(sliced, x)


def number_of_samples(x):
    """n: an integer, or a tensor if it is unknown while a graph is built."""
    t = leaves(x)[0]
    if t.shape[0] is not None:
        return t.shape[0]
    return (t.dense_shape if isinstance(t, tf.SparseTensor) else tf.shape(t))[0]


def takes_dict(model, x):
    """Whether the dict `x` is one batch of `model`; otherwise it is several batches by name."""
    declared = _declared_inputs(model)
    if declared is not None:
        return {i.name for i in declared} <= set(x)
    try:  # a subclassed model declares nothing, so it has to be called
        with keras.StatelessScope():
            model(samples(tree.map_structure(tf.convert_to_tensor, x), 0, 1))
    except Exception:  # of any type: it comes from the user's code
        return False
    return True


def training_data(model, loss, x, y, sample_weight):
    """Check the arguments of `fit` that are arrays; Datasets and generators are not read."""
    given = {"x": x, "y": y, "sample_weight": sample_weight}
    arrays = {
        name: data
        for name, data in given.items()
        if data is not None
        and all(isinstance(d, np.ndarray) or tf.is_tensor(d) for d in tree.flatten(data))
    }
    sizes = {}
    for name, data in arrays.items():
        if name != "y" or _is_of_keras(loss):  # NaN may have a meaning for a loss of the user's
            checks.finite(name, data)
        sizes[name] = {d.shape[0] if d.shape else None for d in tree.flatten(data)}
    if "x" in arrays:
        _check_fit("x", model, x)
    if "y" in arrays and _wants_targets_like_outputs(loss):
        _check_targets(model, y)
    for name in arrays:
        if 0 in sizes[name]:
            raise ValueError(f"Expected `{name}` to have at least one sample. Received: none.")
    if len(set().union(*sizes.values())) > 1:
        received = ", ".join(f"{name}: {sorted(n, key=str)}" for name, n in sizes.items())
        raise ValueError(
            f"Expected {', '.join(f'`{n}`' for n in sizes)} to have the same number of samples. "
            f"Received: {received}."
        )


def _to_array(leaf):
    """DataFrames and SciPy's sparse arrays as `fit` takes them; array-likes as NumPy arrays."""
    package = type(leaf).__module__.split(".")[0]
    if package == "pandas" and hasattr(leaf, "to_numpy"):
        array = leaf.to_numpy()
        return array[:, None] if array.ndim == 1 else array
    if package == "scipy" and hasattr(leaf, "tocoo"):
        leaf = leaf.tocoo()
        indices = np.stack([leaf.row, leaf.col], 1).astype("int64")
        return tf.sparse.reorder(tf.SparseTensor(indices, leaf.data, leaf.shape))
    if isinstance(leaf, np.generic) or tf.is_tensor(leaf) or not hasattr(leaf, "__array__"):
        return leaf
    return leaf if isinstance(leaf, keras.KerasTensor) else np.asarray(leaf)


def _to_tensor(leaf):
    if leaf is None or isinstance(leaf, tf.SparseTensor):
        return leaf
    return tf.convert_to_tensor(leaf)


def _joined(*parts):
    """The same input of several batches, as one tensor."""
    if parts[0] is None:
        return None
    if isinstance(parts[0], tf.SparseTensor):
        return tf.sparse.concat(0, list(parts))
    return tf.concat(parts, 0)


def _declared_inputs(model):
    """The inputs of a Functional or Sequential model; None of a subclassed one."""
    return getattr(getattr(model, "model", model), "inputs", None)  # MGSModel wraps one


def _is_optional(declared):
    return getattr(declared._keras_history.operation, "optional", False)


def _in_declared_order(declared, x):
    """The leaves of `x` in the order of declared inputs; None if a dict has other names."""
    if isinstance(x, dict):
        names = [i.name for i in declared]
        if set(names) != set(x):
            return None
        x = [x[n] for n in names]
    return tree.flatten(x)


def _beside_declared(model, x):
    """Pairs of a leaf and its declared input; None for that where they cannot be paired."""
    declared = _declared_inputs(model)
    given = None if declared is None else _in_declared_order(declared, x)
    if given is None or len(given) != len(declared):
        return [(leaf, None) for leaf in tree.flatten(x)]
    return list(zip(given, declared, strict=True))


def _check_array(name, leaf, dtype):
    """A non-empty array of real numbers; of text or complex ones if that is the input's `dtype`."""
    if isinstance(leaf, tf.RaggedTensor):
        raise TypeError(
            f"Expected `{name}` to be dense arrays or tensors. "
            f"Received: a {type(leaf).__name__}. Convert it to a dense tensor first."
        )
    is_array = hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    if not is_array or isinstance(leaf, keras.KerasTensor):
        raise TypeError(
            f"Expected `{name}` to be an array, a tensor, a list or dict of them, or a "
            f"tf.data.Dataset. Received: {leaf!r} of type {type(leaf).__name__}. "
            "Use np.asarray on plain numbers."
        )
    kind = np.dtype(getattr(leaf.dtype, "as_numpy_dtype", leaf.dtype)).kind
    is_text = kind in "SU" or (kind == "O" and _holds_text(leaf))
    dtype_name = getattr(leaf.dtype, "name", leaf.dtype)
    if dtype == "string" and not is_text:
        raise TypeError(
            f"Expected `{name}` to hold strings, as the model's input does. "
            f"Received: an array of dtype {dtype_name}. Convert it with astype(str)."
        )
    if kind in "OSUMmV" and not (is_text and dtype in (None, "string")):
        raise TypeError(
            f"Expected `{name}` to hold numbers. Received: an array of dtype {dtype_name}. "
            "Convert it with astype."
        )
    if kind == "c" and "complex" not in (dtype or ""):
        raise TypeError(
            f"Expected `{name}` to hold real numbers. Received: an array of dtype "
            f"{dtype_name}. Give the real and imaginary parts, or absolute values."
        )
    if len(leaf.shape) == 0 or leaf.shape[0] == 0:
        raise ValueError(
            f"Expected `{name}` to have at least one sample on its first axis. "
            f"Received: an array of shape {tuple(leaf.shape)}."
        )


def _holds_text(leaf):
    return tf.is_tensor(leaf) or all(isinstance(v, str | bytes) for v in leaf.flat)


def _check_fit(name, model, x):
    """Compare names and shapes with the inputs that the model declares, if it declares any."""
    declared = _declared_inputs(model)
    if declared is None:
        return
    required = [i.name for i in declared if not _is_optional(i)]
    if isinstance(x, dict) and not set(required) <= set(x):
        raise ValueError(
            f"Expected `{name}` to hold the inputs of '{model.name}' by their names, "
            f"{', '.join(map(repr, required))}. Received: {', '.join(map(repr, x))}."
        )
    given = _in_declared_order(declared, x)
    if given is None:
        return
    allowed = [tuple(i.shape) for i in declared]
    shapes = [leaf if leaf is None else tuple(leaf.shape) for leaf in given]
    if len(shapes) != len(allowed) or not all(
        shape is None or _matches(shape, pattern)
        for shape, pattern in zip(shapes, allowed, strict=True)
    ):
        raise ValueError(
            f"Expected `{name}` to fit the inputs of '{model.name}', "
            f"{', '.join(map(str, allowed))}. Received: {', '.join(map(str, shapes))}."
        )


def _check_targets(model, y):
    """Targets of a model with one output: of its shape, or class numbers."""
    outputs = getattr(model, "outputs", None)
    if outputs is None or len(outputs) != 1 or not hasattr(y, "shape"):
        return
    output, shape = tuple(outputs[0].shape), tuple(y.shape)
    allowed = [output[1:], output[1:-1], (*output[1:-1], 1), (*output[1:], 1)]
    if not any(_matches(shape, (None, *pattern)) for pattern in allowed):
        raise ValueError(
            f"Expected `y` to fit the output of '{model.name}', {output}, or to be class numbers "
            f"for it. Received: {shape}."
        )


def _matches(shape, pattern):
    """Whether two shapes agree; None agrees with any size."""
    return len(shape) == len(pattern) and all(
        None in (a, b) or a == b for a, b in zip(shape, pattern, strict=True)
    )


def _is_of_keras(loss):
    """Whether there is a loss, and all are Keras' own."""
    losses = [part for part in tree.flatten(loss) if part is not None]
    return bool(losses) and all(
        isinstance(f, str) or (getattr(f, "__module__", None) or "").startswith("keras.")
        for f in losses
    )


def _wants_targets_like_outputs(loss):
    """Whether a loss is Keras' own, CTC apart; a user's may take targets of any shape."""
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return _is_of_keras(loss) and name.lower() != "ctc"
