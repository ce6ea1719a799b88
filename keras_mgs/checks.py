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
    if not model.trainable_weights:
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
        if tf.is_symbolic_tensor(leaf) or not hasattr(leaf, "dtype"):
            continue
        array = np.asarray(leaf)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            where = "".join(f"[{p!r}]" for p in path)
            raise ValueError(
                f"Expected `{name}` to be finite. Received: {name}{where} of shape {array.shape} "
                f"with {int((~np.isfinite(array)).sum())} NaN or infinite entries. "
                "Remove or fill them first."
            )


def inputs(name, model, x):
    """`x` as tensors that the model takes."""
    leaves = [_array(name, leaf) for leaf in tree.flatten(x)]
    sizes = {leaf.shape[0] for leaf in leaves}
    if len(sizes) != 1:
        raise ValueError(
            f"Expected every array of `{name}` to have the same number of samples. "
            f"Received: {sorted(sizes, key=str) or 'no array at all'}."
        )
    x = tree.pack_sequence_as(x, leaves)
    finite(name, x)
    fits(name, model, x)
    return tree.map_structure(tf.convert_to_tensor, x)


def _array(name, leaf):
    """One dense, non-empty array of numbers, samples first."""
    if isinstance(leaf, tf.SparseTensor | tf.RaggedTensor):
        raise TypeError(
            f"Expected `{name}` to be dense arrays or tensors. "
            f"Received: a {type(leaf).__name__}. Convert it to a dense tensor first."
        )
    if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
        raise TypeError(
            f"Expected `{name}` to be an array, a tensor, a list or dict of them, or a "
            f"tf.data.Dataset. Received: {leaf!r} of type {type(leaf).__name__}. "
            "Use np.asarray on plain numbers."
        )
    leaf = leaf if tf.is_tensor(leaf) else np.asarray(leaf)
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "OSUMmc":
        raise TypeError(
            f"Expected `{name}` to hold numbers. Received: an array of dtype {leaf.dtype}. "
            "Convert it with astype."
        )
    if len(leaf.shape) == 0 or leaf.shape[0] == 0:
        raise ValueError(
            f"Expected `{name}` to have at least one sample on its first axis. "
            f"Received: an array of shape {tuple(leaf.shape)}."
        )
    return leaf


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


def _wants_targets_like_outputs(loss):
    """Whether a loss is Keras' own, CTC apart; a user's may take targets of any shape."""
    name = loss if isinstance(loss, str) else type(loss).__name__
    own = isinstance(loss, str) or type(loss).__module__.startswith("keras.")
    return own and name.lower() != "ctc"


def _targets(model, y):
    """Targets like the one output, or class numbers for it."""
    outputs = getattr(model, "outputs", None)
    if outputs is None or len(outputs) != 1 or not hasattr(y, "shape"):
        return
    output, shape = tuple(outputs[0].shape), tuple(y.shape)
    allowed = [output[1:], output[1:-1], (*output[1:-1], 1)]
    if not any(
        len(a) == len(shape) - 1
        and all(None in p or p[0] == p[1] for p in zip(a, shape[1:], strict=True))
        for a in allowed
    ):
        raise ValueError(
            f"Expected `y` to fit the output of '{model.name}', {output}, or to be class numbers "
            f"for it. Received: {shape}."
        )


def read(data):
    """`data`, but of a `tf.data.Dataset` of x, (x, y) or (x, y, weight) all x as one structure."""
    if not isinstance(data, tf.data.Dataset):
        return data
    if int(data.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "Expected a finite tf.data.Dataset. Received: one that repeats for ever. "
            "Use its .take(number_of_batches)."
        )
    batches = [keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in data]
    if not batches:
        raise ValueError("Expected a tf.data.Dataset with at least one batch. Received: none.")
    return tree.map_structure(lambda *leaves: tf.concat(leaves, 0), *batches)


def fits(name, model, x):
    """The shapes that the model declares, where it declares any."""
    inputs = _declared_inputs(model)
    if inputs is None:
        return
    declared = [tuple(i.shape) for i in inputs]
    if isinstance(x, dict):  # in the order of the inputs that the keys name
        names = [i.name for i in inputs]
        if set(names) != set(x):
            return
        x = [x[n] for n in names]
    shapes = [tuple(leaf.shape) for leaf in tree.flatten(x)]
    matches = len(shapes) == len(declared) and all(
        len(s) == len(d) and all(None in (a, b) or a == b for a, b in zip(s, d, strict=True))
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
            model(tree.map_structure(lambda leaf: tf.convert_to_tensor(leaf[:1]), x))
    except Exception:  # whatever the user's code raises where the structure is another one
        return False
    return True


def _declared_inputs(model):
    """The inputs of a Functional or Sequential model; None of a subclassed one."""
    return getattr(getattr(model, "model", model), "inputs", None)  # MGSModel wraps one


def _words(shapes):
    return ", ".join(str(s) for s in shapes)
