"""explain: how the exact functions compute the kernel of a model, and at what cost."""

import math
from typing import Any

import keras
import tensorflow as tf

from keras_mgs import checks, data
from keras_mgs.pieces import CHUNK, rows_at_a_time
from keras_mgs.sites import find, survey


def explain(
    model: keras.Model, x: Any = None, *, training: bool = False, batch_size: int = CHUNK
) -> None:
    """Print, layer by layer, how the exact tr K of a model is computed, and at what cost.

    A layer's class has a rule, or the layer takes the fallback. The fallback is exact, too: each
    sample has its own copies of the layer's weights, and there are q reverse passes, as for rules,
    but all rows of J are written out. Where layers mix samples or draw random numbers, where
    TensorFlow cannot run the samples one by one, and in training under XLA, there is a reverse pass
    for each of the `batch_size * q` rows.

    The costs are those of one batch, without the reverse passes. For features (S, G, k) and
    cotangents (S, G, c) of q outputs, a sample costs k + q·c multiply-adds where S = G = 1, and
    else the smaller of S²·G·(k + q·c) and S·G·k·q·c.

    Args:
        model: a built `keras.Model` with trainable weights.
        x: inputs as for `jacobian`; only their shapes matter. None takes the shapes of the model's
            own inputs, which a subclassed model does not know.
        training: as for `jacobian`.
        batch_size: samples computed at a time.

    Raises:
        TypeError, ValueError: as for `jacobian`; or `x` is None and the model does not know its
            inputs.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="top")])
    >>> keras_mgs.explain(model)
    layer        weights             way                   multiply-adds   MB
    top (Dense)  kernel 3x2, bias 2  dense, outer product            224  0.0
    32 samples, 2 outputs: 2 rows of J for each sample at a time, whose cotangents are 0.0 MB.

    Reference: Szolnoky et al., NeurIPS 2022, section 5, on the cost of K.
    """
    checks.model(model)
    checks.flag("training", training)
    size = checks.count("batch_size", batch_size)
    x = _inputs(model) if x is None else data.inputs("x", model, x)
    structure = survey(model, x, training)
    q = structure.outputs
    rows = min(q, rows_at_a_time(structure, size))
    size_of_number = 8 if structure.dtype == "float64" else 4

    def megabytes(numbers):
        return f"{numbers * size_of_number / 1e6:.1f}"

    lines = [("layer", "weights", "way", "multiply-adds", "MB")]
    for layer, weights in _by_layer(model).items():
        falls_back = any(id(w) in structure.unsound for w in weights)
        rule = "fallback" if falls_back else find(layer).__name__.replace("_", " ")
        routes: dict[str, None] = {}
        cost = numbers = 0
        for w in weights:
            numbers += size * rows * math.prod(w.shape) if falls_back else 0
            if not falls_back and id(w) in structure.shapes:
                shape = structure.shapes[id(w)]
                routes[shape.route] = None
                cost += size * _multiply_adds(shape, q)
                numbers += size * _numbers(shape, rows)
        names = ", ".join(f"{w.name} {'x'.join(map(str, w.shape))}" for w in weights)
        rule_and_routes = ", ".join([rule, *routes])
        name = f"{layer.name} ({type(layer).__name__})"
        lines.append((name, names, rule_and_routes, f"{cost:,}", megabytes(numbers)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            t.ljust(w) if i < 3 else t.rjust(w)
            for i, (t, w) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells))
    print(
        f"{size} samples, {q} outputs: {rows} rows of J for each sample at a time, whose "
        f"cotangents are {megabytes(size * structure.width * rows)} MB."
    )
    if structure.coupled:
        print("The samples depend on each other: every row takes a reverse pass over the batch.")


def _multiply_adds(shape, q):
    """The multiply-adds of one sample's share of tr K."""
    read = 1 if shape.one_hot else shape.k  # a one-hot row is stored as its index
    if shape.route == "outer product":
        return read + q * shape.c
    if shape.route == "gram":
        return shape.positions**2 * shape.groups * (read + q * shape.c)
    return shape.positions * shape.groups * read * shape.c * q


def _numbers(shape, rows):
    """How many numbers are held for one sample: features, and a Gram matrix or rows of J."""
    features = shape.positions * shape.groups * (1 if shape.one_hot else shape.k)
    if shape.route == "outer product":
        return features
    if shape.route == "gram":
        return features + 2 * shape.groups * shape.positions**2
    return features + rows * shape.groups * shape.k * shape.c


def _by_layer(model):
    """Trainable weights by the layer that owns them."""
    owners = {id(w): layer for layer in model._flatten_layers() for w in layer._trainable_variables}
    weights: dict = {}
    for w in checks.weights(model):
        weights.setdefault(owners[id(w)], []).append(w)
    return weights


def _inputs(model):
    """A batch of zeros in the shapes of the model's own inputs."""
    if isinstance(model, keras.Sequential):
        model = model._functional or model
    inputs = getattr(model, "_inputs_struct", None)
    if inputs is None or any(None in t.shape[1:] for t in keras.tree.flatten(inputs)):
        raise ValueError(
            f"'{model.name}' does not say which shapes its inputs have. Received: x=None. "
            "Give `x`, a batch for it."
        )
    return keras.tree.map_structure(lambda t: tf.zeros((2, *t.shape[1:]), t.dtype), inputs)
