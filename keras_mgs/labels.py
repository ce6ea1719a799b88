"""How little a model believes each label that it is given."""

import math
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_mgs import autodiff, checks, data, outputs
from keras_mgs.types import Data

KINDS = ("classes", "multilabel", "regression")
_CHUNK = 32  # samples at a time, unless told otherwise
_ENDINGS = {"Softmax": "classes", "LogSoftmax": "classes", "Sigmoid": "multilabel"}
# Keras' losses, by the names of their functions.
_LOSSES = {
    "classes": {
        "categorical_crossentropy", "categorical_focal_crossentropy",
        "categorical_generalized_cross_entropy", "kl_divergence", "sparse_categorical_crossentropy",
    },
    "multilabel": {"binary_crossentropy", "binary_focal_crossentropy"},
    "regression": {
        "huber", "log_cosh", "mean_absolute_error", "mean_absolute_percentage_error",
        "mean_squared_error", "mean_squared_logarithmic_error", "poisson",
    },
}  # fmt: skip


class Verdict(NamedTuple):
    """What a model makes of its labels.

    Attributes:
        scores: `label_scores`.
        given, predicted: class numbers, or the numbers of a regression, (n,); None where each
            sample has several.
    """

    scores: np.ndarray
    given: np.ndarray | None
    predicted: np.ndarray | None


class _Network(NamedTuple):
    """A traced model: its outputs by `run(x)`, its name, a sample's shape, what it ends with."""

    run: Callable
    name: str
    shape: tuple
    ending: str | None


@autodiff.as_written
def label_scores(
    model: keras.Model,
    x: Data,
    y: Data,
    *,
    kind: str | None = None,
    batch_size: int | None = None,
) -> npt.NDArray[np.float64]:
    """How little the model believes each label: the higher, the more doubtful the label.

    - classes: `1 - p[i, y_i]`, p being the model's probabilities; of a single output, whose p is
      that of class 1, `|y_i - p_i|`;
    - several labels per sample, each 0 or 1: `max_a |y_ia - p_ia|`, for one wrong label makes a
      sample wrong, however many there are, and the mean would hide it;
    - regression: `‖y_i - f_i‖`, the Euclidean norm over the outputs f, in the units of y.

    Sort by it, highest first, to look for wrong labels. Of classes, it orders samples as their
    cross-entropy does. It is meant for networks trained with `MGSModel`: learning in groups, they
    go on to doubt a label that does not suit the group, where a network that learns labels by heart
    comes to believe them all. With classes, `1 - label_scores` is cleanlab's self-confidence; its
    normalised margin is `p[i, y_i] - max_c p[i, c]`, c being the other classes. To go on there:
    `cleanlab.filter.find_label_issues(y, p)`, where p is `model.predict(x)` of a model that ends
    with a softmax, and `keras.ops.softmax(model.predict(x)).numpy()` of logits.

    Args:
        model: a built `keras.Model` or `MGSModel` with one output per sample, of any shape.
        x: its inputs, n samples, as for `jacobian`, in the order of `y`; so a Dataset must not
            shuffle them.
        y: class numbers (n,) or (n, 1), or an array of the outputs' shape: one-hot, of 0 and 1, or
            numbers.
        kind: "classes", "multilabel" or "regression"; None: by the softmax or sigmoid at the end of
            the model, by the loss of Keras that it is compiled with, and by `y`. Outputs without
            either end are logits, unless the loss has `from_logits=False` or each row is of
            probabilities that sum to 1.
        batch_size: samples computed at a time; None: 32.

    Returns:
        A float64 array (n,).

    Raises:
        TypeError, ValueError: `model` is not a built Keras model with one floating-point output;
            `x` is not finite, non-empty data for it; `y` is not finite, does not fit the outputs or
            holds classes that they do not have; the outputs are not finite, or not the
            probabilities that they should be; or `kind` is needed.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Softmax()])
    >>> scores = keras_mgs.label_scores(model, np.log([[9, 1], [9, 1]]), [0, 1])
    >>> scores.round(3).tolist()
    [0.1, 0.9]

    Reference: Northcutt et al., "Confident learning", JAIR 2021, for self-confidence and normalised
    margin; Szolnoky et al., NeurIPS 2022, for the network.
    """
    return judge(model, x, y, kind, batch_size).scores


def judge(model, x, y, kind=None, batch_size=None):
    """The `Verdict`; the arguments are those of `label_scores`."""
    checks.built(model)
    checks.batch_size(batch_size)
    if kind is not None:
        checks.choice("kind", kind, KINDS)
    x = data.inputs("x", model, x)
    n = data.number_of_samples(x)
    y, of_flags = _read(y, n)
    size = batch_size or _CHUNK
    pieces = [data.samples(x, i, i + size) for i in range(0, n, size)]
    network = _traced(model, pieces[0])
    y = _fitted(y, network)
    loss, from_logits = _loss(model)
    kind = kind or _kind(y, of_flags, network, loss)
    if kind != "classes" and y.ndim == 1:
        raise _misfit(y, network)
    if kind == "classes" and y.shape[1:] == (1,):
        kind = "multilabel"  # of a single label
    _check_labels(y, kind, network)

    values, tolerance = _values(network, pieces, n)
    if kind == "regression":
        return _verdict(np.linalg.norm(y - values, axis=1), y, values)
    p = _probabilities(values, kind, network, from_logits, tolerance)
    if kind == "multilabel":
        scores = abs(y - p).max(axis=1)
        return _verdict(scores, y.astype("int64"), (p > 0.5).astype("int64"))
    given = y.astype("int64") if y.ndim == 1 else y.argmax(axis=1)
    return Verdict(1 - p[np.arange(n), given], given, p.argmax(axis=1))


def _verdict(scores, given, predicted):
    """The `Verdict` on rows (n, q)."""
    if given.shape[1] > 1:
        return Verdict(scores, None, None)
    return Verdict(scores, given[:, 0], predicted[:, 0])


def _read(y, n):
    """Labels as float64, and whether they were True and False."""
    try:
        array = np.asarray(y)
    except ValueError:  # rows of several lengths
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        what = f"dtype {array.dtype}" if hasattr(y, "dtype") else f"{type(y).__name__} {y!r:.60}"
        raise TypeError(
            f"Expected `y` to be an array of numbers. Received: {what}. Number the classes from 0."
        )
    if array.ndim == 0:
        raise ValueError(
            f"Expected `y` to have one row per sample. Received: an array of shape {array.shape}."
        )
    if len(array) != n:
        raise ValueError(
            "Expected `x` and `y` to have the same number of samples. "
            f"Received: x: {n}, y: {len(array)}."
        )
    checks.finite("y", array)
    return array.astype("float64"), array.dtype.kind == "b"


def _traced(model, x):
    """The `_Network`, from a batch of which nothing is computed if its graph shows the shape."""
    found = []

    def output(x):
        with keras.StatelessScope():
            leaves = keras.tree.flatten(model(x, training=False))
        if len(leaves) != 1 or not tf.is_tensor(leaves[0]) or not leaves[0].dtype.is_floating:
            kinds = ", ".join(str(getattr(leaf, "dtype", type(leaf).__name__)) for leaf in leaves)
            raise ValueError(
                f"Expected `model` to have one output, of floating-point numbers. Received: "
                f"'{model.name}' with {len(leaves)} ({kinds}). Use a keras.Model of the output "
                "that the labels belong to."
            )
        found.append(outputs.normalisation(leaves[0]))
        return leaves[0]

    run = tf.function(output, autograph=False, reduce_retracing=True)
    shape = run.get_concrete_function(x).output_shapes
    if shape.rank is None or None in shape[1:]:
        shape = run(x).shape
    return _Network(run, model.name, tuple(shape[1:]), found[-1])


def _values(network, pieces, n):
    """The outputs (n, q) in float64, and how far from 1 their probabilities may sum to."""
    found = [network.run(piece) for piece in pieces]
    if sum(len(f) if f.shape.rank else 0 for f in found) != n:
        shapes = ", ".join(str(tuple(f.shape)) for f in found[:3])
        raise ValueError(
            f"Expected '{network.name}' to return one row per sample. Received: outputs of shape "
            f"{shapes} for {n} samples. Use a model that keeps the samples on its first axis."
        )
    values = np.concatenate([f.numpy().astype("float64") for f in found]).reshape(n, -1)
    if not np.isfinite(values).all():
        raise ValueError(
            "Expected the model's outputs on these samples to be finite numbers. Received: "
            f"outputs of '{network.name}' with NaN or infinity. Has its training diverged?"
        )
    return values, 1e-2 if found[0].dtype.size < 4 else 1e-4


def _fitted(y, network):
    """Class numbers as (n,), all other labels as (n, q)."""
    shape, rows = network.shape, y.shape[1:]
    q, n = math.prod(shape), len(y)
    if q > 1 and len(shape) == 1 and rows in ((), (1,)):
        return y.reshape(n)
    if [size for size in rows if size != 1] == [size for size in shape if size != 1]:
        return y.reshape(n, q)
    raise _misfit(y, network)


def _misfit(y, network):
    n, shape = len(y), network.shape
    numbers = f", or to be class numbers, {(n,)}" if len(shape) == 1 else ""
    return ValueError(
        f"Expected `y` to have the shape of the outputs of '{network.name}', {(n, *shape)}"
        f"{numbers}. Received: an array of shape {y.shape}. Reshape it, or check the model's end."
    )


def _loss(model):
    """Which kind the model's loss is of, and its `from_logits`; None where it is not known."""
    loss = getattr(model, "loss", None) or getattr(getattr(model, "model", None), "loss", None)
    losses = [part for part in keras.tree.flatten(loss) if part is not None]
    if len(losses) != 1:
        return None, None
    loss = keras.losses.get(losses[0])
    function = getattr(loss, "fn", loss)
    name = getattr(function, "__name__", None)
    kind = next((kind for kind, names in _LOSSES.items() if name in names), None)
    if kind is None or not function.__module__.startswith("keras."):
        return None, None
    return kind, None if kind == "regression" else getattr(loss, "from_logits", False)


def _kind(y, of_flags, network, loss):
    """The kind of labels: the model's end counts before the loss, and the loss before `y`."""
    ending = _ENDINGS.get(network.ending)
    if y.ndim == 1:
        return "regression" if loss == "regression" and ending is None else "classes"
    if not _bits(y).all():
        return loss or (ending if (y == np.round(y)).all() else None) or "regression"
    if ending or loss:
        return ending or loss
    if y.shape[1] > 1 and (y.sum(axis=1) == 1).all():
        return "classes"
    if of_flags:
        return "multilabel"
    raise ValueError(
        "Expected `kind`, for `y` holds 0 and 1 alone, and neither the end of "
        f"'{network.name}' nor a loss tells labels from numbers. Received: kind=None. Give "
        "kind='multilabel' ('classes' for a single output) or kind='regression', or compile the "
        "model with its loss."
    )


def _bits(y):
    return (y == 0) | (y == 1)


def _check_labels(y, kind, network):
    """That labels are of their kind, and that the model's end suits it."""
    name, advice = network.name, "Use kind='regression' if they are numbers to be met."
    if kind == "classes" and y.ndim == 1:
        broken, c = y[y != np.round(y)], network.shape[0]
        if broken.size:
            raise ValueError(
                f"Expected `y` to hold class numbers, which are whole numbers. Received: "
                f"{broken[0]:g}. Number the classes from 0."
            )
        outside = y[(y < 0) | (y >= c)]
        if outside.size:
            raise ValueError(
                f"Expected `y` to hold class numbers from 0 to {c - 1}, the classes of '{name}'. "
                f"Received: {outside[0]:g}. Number the classes from 0."
            )
    elif kind == "classes":
        wrong = y[~_bits(y).all(axis=1) | (y.sum(axis=1) != 1)]
        if wrong.size or len(network.shape) != 1:
            what = f"the row {wrong[0][:8].tolist()}" if wrong.size else "a grid of labels each"
            raise ValueError(
                f"Expected `y` to hold one class per sample, one-hot. Received: {what}. {advice}"
            )
    elif kind == "multilabel":
        other = y[~_bits(y)]
        if other.size:
            raise ValueError(
                f"Expected `y` to hold labels that are 0 or 1. Received: {other[0]:g}. {advice}"
            )
        if _ENDINGS.get(network.ending) == "classes":
            single = y.shape[1] == 1
            why = "a softmax over one output, which is always 1" if single else "a softmax"
            raise ValueError(
                f"Expected '{name}' to end with a sigmoid, for labels that are 0 or 1 each. "
                f"Received: {why}. Replace it, or use one-hot labels."
            )


def _probabilities(values, kind, network, from_logits, tolerance):
    """The outputs as probabilities: as they are, or of logits."""
    exclusive, sums = kind == "classes", values.sum(axis=1)
    good = bool((values >= 0).all() and (values <= 1 + tolerance).all())
    good = good and not (exclusive and abs(sums - 1).max() > tolerance)
    if good and exclusive:
        return values
    if network.ending in ("Softmax", "Sigmoid") or from_logits is False:
        if good:
            return values
        rows = f", in rows that sum to {sums.min():.4g} to {sums.max():.4g}" if exclusive else ""
        raise ValueError(
            f"Expected the outputs of '{network.name}' to be probabilities"
            f"{', whose rows sum to 1' if exclusive else ''}. Received: numbers from "
            f"{values.min():.4g} to {values.max():.4g}{rows}. {_advice(network, exclusive)}"
        )
    if exclusive:
        e = np.exp(values - values.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    return (1 + np.tanh(values / 2)) / 2  # the sigmoid, without overflow


def _advice(network, exclusive):
    if network.ending == "Sigmoid" and exclusive:
        return (
            "The model ends with a sigmoid: give `y` as rows of 0 and 1, or end it with a softmax."
        )
    if network.ending in _ENDINGS:
        return "End the model with the softmax or sigmoid itself, or return the logits."
    return "Compile the model with a loss of from_logits=True if they are logits."
