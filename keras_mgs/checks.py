"""What every public function asks of its arguments, said in one voice."""

import math
import numbers

import keras
import numpy as np
import tensorflow as tf

tree = keras.tree


def model(model):
    """A built Keras model with something to differentiate."""
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
    """A number in a sentence: the largest have no digits to be printed."""
    if isinstance(value, numbers.Integral) and abs(int(value)) > 2**99:
        return f"an integer of {int(value).bit_length()} bits"
    return repr(value)


def step(value):
    """The number of a training step: an integer from 0 on, or a tensor or variable of one."""
    if not tf.is_tensor(value) and not isinstance(value, keras.Variable):
        count("step", value, least=0)


def choice(name, value, options):
    """One of a few words."""
    if not isinstance(value, str) or value not in options:
        words = ", ".join(repr(o) for o in options)
        raise ValueError(f"Expected `{name}` to be one of {words}. Received: {name}={value!r}.")
    return value


def batch_size(value):
    """None, or a count."""
    if value is not None:
        count("batch_size", value)


def finite(name, data):
    """Numbers without NaN and infinity, wherever that can be seen before the work starts."""
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
    """The weights θ: the trainable ones, but those that optimizers overwrite (float8's scales)."""
    return [w for w in model.trainable_weights if not is_overwritten(w)]


def is_overwritten(weight):
    """Whether an optimizer puts the gradient in its place."""
    return getattr(weight, "overwrite_with_gradient", False)


def inputs(name, model, x):
    """`x` as tensors that the model takes; None where it allows an input to be left out."""
    x = tree.map_structure(_plain, read(name, x))
    declared = _in_order(model, x)
    dtypes = {} if declared is None else {id(leaf): i.dtype for leaf, i in declared}
    optional = declared is None or {id(leaf) for leaf, i in declared if _is_optional(i)}
    found = leaves(x)
    for leaf in tree.flatten(x):
        if leaf is None and found and (optional is True or id(leaf) in optional):
            continue
        _dense_or_sparse(name, leaf, dtypes.get(id(leaf)))
    sizes = {leaf.shape[0] for leaf in found}
    if len(sizes) != 1:
        raise ValueError(
            f"Expected every array of `{name}` to have the same number of samples. "
            f"Received: {sorted(sizes, key=str) or 'no array at all'}."
        )
    finite(name, x)
    fits(name, model, x)
    return tree.map_structure(lambda t: t if _is_whole(t) else tf.convert_to_tensor(t), x)


def leaves(x):
    """The arrays of a structure, without what is left out."""
    return [leaf for leaf in tree.flatten(x) if leaf is not None]


def samples(x, start, stop):
    """Some samples of a batch: dense and sparse tensors, or None, in any structure."""

    def part(t):
        if isinstance(t, tf.SparseTensor):
            size = tf.minimum(tf.cast(stop, "int64"), t.dense_shape[0]) - start
            first = [start, *[0] * (len(t.shape) - 1)]
            return tf.sparse.slice(t, first, tf.concat([[size], t.dense_shape[1:]], 0))
        return t if t is None else t[start:stop]

    return tree.map_structure(part, x)


def number_of_samples(x):
    """n: an integer, or a tensor where it is not known yet."""
    t = leaves(x)[0]
    if t.shape[0] is not None:
        return t.shape[0]
    return (t.dense_shape if isinstance(t, tf.SparseTensor) else tf.shape(t))[0]


def _is_whole(leaf):
    return leaf is None or isinstance(leaf, tf.SparseTensor)


def _plain(leaf):
    """DataFrames and SciPy's sparse arrays as `fit` takes them; anything else as it is."""
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


def _is_optional(declared):
    return getattr(declared._keras_history.operation, "optional", False)


def _in_order(model, x):
    """(leaf, declared input) in pairs; None where the model declares none, or others."""
    given = _given_in_order(model, x)
    declared = _declared_inputs(model)
    if given is None or len(given) != len(declared):
        return None
    return list(zip(given, declared, strict=True))


def _given_in_order(model, x):
    """The leaves of x as the model declares its inputs; None if it does not, or not by name."""
    declared = _declared_inputs(model)
    if declared is None:
        return None
    if isinstance(x, dict):
        names = [i.name for i in declared]
        if set(names) != set(x):
            return None
        x = [x[n] for n in names]
    return tree.flatten(x)


def _dense_or_sparse(name, leaf, dtype):
    """Look at one non-empty array of numbers, or strings where the model wants them."""
    if isinstance(leaf, tf.RaggedTensor):
        raise TypeError(
            f"Expected `{name}` to be dense arrays or tensors. "
            f"Received: a {type(leaf).__name__}. Convert it to a dense tensor first."
        )
    unlike = not hasattr(leaf, "shape") or not hasattr(leaf, "dtype")
    if unlike or isinstance(leaf, keras.KerasTensor):
        raise TypeError(
            f"Expected `{name}` to be an array, a tensor, a list or dict of them, or a "
            f"tf.data.Dataset. Received: {leaf!r} of type {type(leaf).__name__}. "
            "Use np.asarray on plain numbers."
        )
    kind = tf.as_dtype(leaf.dtype).as_numpy_dtype if tf.is_tensor(leaf) else leaf.dtype
    kind = np.dtype(kind).kind
    text = kind in "SU" or (kind == "O" and _is_text(leaf))
    if dtype == "string" and not text:
        raise TypeError(
            f"Expected `{name}` to hold strings, as the model's input does. "
            f"Received: an array of dtype {_name(leaf.dtype)}. Convert it with astype(str)."
        )
    complex_wanted = dtype is not None and "complex" in dtype
    if kind in "OSUMmV" and not (text and dtype in (None, "string")):
        raise TypeError(
            f"Expected `{name}` to hold numbers. Received: an array of dtype {_name(leaf.dtype)}. "
            "Convert it with astype."
        )
    if kind == "c" and not complex_wanted:
        raise TypeError(
            f"Expected `{name}` to hold real numbers. Received: an array of dtype "
            f"{_name(leaf.dtype)}. Give the real and imaginary parts, or absolute values."
        )
    if len(leaf.shape) == 0 or leaf.shape[0] == 0:
        raise ValueError(
            f"Expected `{name}` to have at least one sample on its first axis. "
            f"Received: an array of shape {tuple(leaf.shape)}."
        )


def _is_text(leaf):
    return tf.is_tensor(leaf) or all(isinstance(v, str | bytes) for v in leaf.flat)


def _name(dtype):
    return getattr(dtype, "name", dtype)


def training_data(model, loss, x, y, sample_weight):
    """What `fit` is given, as far as it comes as arrays."""
    given = {"x": x, "y": y, "sample_weight": sample_weight}
    arrays = {
        name: data
        for name, data in given.items()
        if data is not None
        and all(isinstance(d, np.ndarray) or tf.is_tensor(d) for d in tree.flatten(data))
    }
    lengths = {}
    for name, data in arrays.items():
        if name != "y" or _is_of_keras(loss):  # a loss of the user's may know what NaN stands for
            finite(name, data)
        lengths[name] = {d.shape[0] if d.shape else None for d in tree.flatten(data)}
    if "x" in arrays:
        fits("x", model, x)
    if "y" in arrays and _wants_targets_like_outputs(loss):
        _targets(model, y)
    for name, sizes in lengths.items():
        if 0 in sizes:
            raise ValueError(f"Expected `{name}` to have at least one sample. Received: none.")
    if len(set().union(*lengths.values())) > 1:
        words = ", ".join(f"{name}: {sorted(n, key=str)}" for name, n in lengths.items())
        raise ValueError(
            f"Expected {', '.join(f'`{n}`' for n in lengths)} to have the same number of samples. "
            f"Received: {words}."
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


def _targets(model, y):
    """Targets like the one output, or class numbers for it."""
    outputs = getattr(model, "outputs", None)
    if outputs is None or len(outputs) != 1 or not hasattr(y, "shape"):
        return
    output, shape = tuple(outputs[0].shape), tuple(y.shape)
    allowed = [output[1:], output[1:-1], (*output[1:-1], 1), (*output[1:], 1)]
    if not any(
        len(a) == len(shape) - 1
        and all(None in p or p[0] == p[1] for p in zip(a, shape[1:], strict=True))
        for a in allowed
    ):
        raise ValueError(
            f"Expected `y` to fit the output of '{model.name}', {output}, or to be class numbers "
            f"for it. Received: {shape}."
        )


def read(name, data):
    """`data`, but of a `tf.data.Dataset` of x, (x, y) or (x, y, weight) all x as one structure."""
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


def _joined(*parts):
    """Batches as one."""
    if parts[0] is None:
        return None
    if isinstance(parts[0], tf.SparseTensor):
        return tf.sparse.concat(0, list(parts))
    return tf.concat(parts, 0)


def fits(name, model, x):
    """The names and shapes that the model declares, where it declares any."""
    wanted = [i.name for i in _declared_inputs(model) or () if not _is_optional(i)]
    if isinstance(x, dict) and not set(wanted) <= set(x):
        raise ValueError(
            f"Expected `{name}` to hold the inputs of '{model.name}' by their names, "
            f"{', '.join(map(repr, wanted))}. Received: {', '.join(map(repr, x))}."
        )
    given = _given_in_order(model, x)
    if given is None:
        return
    declared = [tuple(i.shape) for i in _declared_inputs(model)]
    shapes = [leaf if leaf is None else tuple(leaf.shape) for leaf in given]
    matches = len(shapes) == len(declared) and all(
        s is None
        or (len(s) == len(d) and all(None in (a, b) or a == b for a, b in zip(s, d, strict=True)))
        for s, d in zip(shapes, declared, strict=True)
    )
    if not matches:
        raise ValueError(
            f"Expected `{name}` to fit the inputs of '{model.name}', {_words(declared)}. "
            f"Received: {_words(shapes)}."
        )


def probes(x):
    """Several probe batches by their names."""
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


def takes_dict(model, x):
    """Whether a dict is one batch that `model` takes, and not several batches with names."""
    inputs = _declared_inputs(model)
    if inputs is not None:
        return {i.name for i in inputs} <= set(x)
    try:  # a subclassed model only shows what it takes when it is called
        with keras.StatelessScope():
            model(samples(tree.map_structure(tf.convert_to_tensor, x), 0, 1))
    except Exception:  # whatever the user's code raises where the structure is another one
        return False
    return True


def _declared_inputs(model):
    """The inputs of a Functional or Sequential model; None of a subclassed one."""
    return getattr(getattr(model, "model", model), "inputs", None)  # MGSModel wraps one


def _words(shapes):
    return ", ".join(str(s) for s in shapes)
