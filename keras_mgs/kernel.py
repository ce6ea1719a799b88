"""The exact functions: J, K = J Jᵀ, its trace, log determinant, eigenvalues and likenesses."""

import math
import warnings

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_mgs import autodiff, checks, data, pieces
from keras_mgs.gram import EPSILON, regularised_log_det
from keras_mgs.outputs import raw_outputs
from keras_mgs.sites import survey
from keras_mgs.types import Data

_LARGEST = 2**14  # rows of K; their eigenvalues take minutes at every measurement


@autodiff.as_written
def jacobian(
    model: keras.Model, x: Data, *, training: bool = False, batch_size: int | None = None
) -> tf.Tensor:
    """Jacobian of the raw outputs with respect to the trainable weights.

    `J[i, a] = ∂f_a(x_i) / ∂θ`, θ being `model.trainable_weights`, each flattened in C order, and
    f the outputs before a final softmax or sigmoid, flattened per sample and concatenated. The
    scales of float8, which optimizers overwrite, are no part of θ.

    Args:
        model: a built `keras.Model` with trainable weights.
        x: its inputs, n samples: an array, a tensor, a DataFrame, sparse or of strings where the
            model takes such, a list or dict of them (None: an optional input left out), or a
            `tf.data.Dataset` (of x, or of (x, y) tuples).
        training: whether the forward pass is that of training. The model's state (moving
            statistics, random seeds) is left as it was, so dropout draws the same masks in every
            piece of `batch_size` samples.
        batch_size: samples computed at a time; None: 32, or all of them where they depend on each
            other (batch normalisation with `training=True`, or more outputs in larger batches).

    Returns:
        A tensor (n, q, p) of the outputs' dtype (float32 for half precision), q raw outputs and p
        weights.

    Raises:
        TypeError, ValueError: `model` is not a built Keras model with trainable weights and
            floating-point outputs, or `x` is not finite, non-empty data for it.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> keras_mgs.jacobian(model, np.ones((5, 3))).shape
    TensorShape([5, 2, 8])

    Reference: Szolnoky et al., NeurIPS 2022, section 3.1.
    """
    return _finite(pieces.jacobian(model, x, training, batch_size), model, x, training)


@autodiff.as_written
def kernel(
    model: keras.Model,
    x: Data,
    x2: Data = None,
    *,
    training: bool = False,
    batch_size: int | None = None,
) -> tf.Tensor:
    """The MGS kernel of a batch, or between two: how far learning one sample moves another.

    `K[i*q + a, j*q + b] = J[i, a] · J2[j, b]`, a sum over all trainable weights. A step of gradient
    descent moves the outputs of `x` by −η · kernel(x, x2) @ ∇L(x2), to first order in η.

    Args:
        model, training, batch_size: as for `jacobian`.
        x: n samples.
        x2: m samples; None: those of `x`.

    Returns:
        A tensor (n*q, m*q) of the outputs' dtype; symmetric where `x2` is None.

    Raises:
        TypeError, ValueError: as for `jacobian`.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> keras_mgs.kernel(model, np.ones((5, 3)), np.ones((4, 3))).shape
    TensorShape([10, 8])

    Reference: Szolnoky et al., NeurIPS 2022, section 3.2, equation 3.
    """
    k = pieces.kernel(model, x, x2, training, batch_size, None)
    return _finite(_finite(k, model, x, training), model, x if x2 is None else x2, training)


@autodiff.as_written
def similarity(
    model: keras.Model,
    x: Data,
    x2: Data = None,
    *,
    training: bool = False,
    batch_size: int | None = None,
) -> tf.Tensor:
    """How alike samples are to the network: the kernel of samples, scaled to 1 on its diagonal.

    `s[i, j] = k(i, j) / √(k(i, i) · k(j, j))`, where `k(i, j) = Σ_a J[i, a] · J2[j, a]`, the trace
    of K's q × q block of the two samples. So k is their kernel summed over outputs, each with
    itself, and s the cosine of the angle between their Jacobians as vectors: 1 if learning moves
    the two alike, 0 if learning one does not move the other, −1 if it moves them against each
    other. As a matrix over one batch, s is symmetric and positive semidefinite.

    A sample whose Jacobian is zero is like none, itself included: its s are 0.

    K itself is never computed, so the result may be of thousands of samples.

    Args:
        model, training, batch_size: as for `jacobian`.
        x: n samples.
        x2: m samples; None: those of `x`.

    Returns:
        A tensor (n, m) of the outputs' dtype, of numbers from −1 to 1.

    Raises:
        TypeError, ValueError: as for `jacobian`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, use_bias=False)])
    >>> keras_mgs.similarity(model, np.array([[1, 0], [2, 0], [0, 3]])).numpy().tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]

    Reference: Szolnoky et al., NeurIPS 2022, section 3.1, after Charpiat et al., "Input similarity
    from the neural network perspective", NeurIPS 2019, who scale each block by those of both
    samples, K_ii^(-1/2) K_ij K_jj^(-1/2), before its trace is taken.
    """
    k = pieces.sample_kernel(model, x, x2, training, batch_size)
    k = _finite(_finite(k, model, x, training), model, x if x2 is None else x2, training)
    if x2 is None:
        lengths = others = ops.sqrt(ops.diagonal(k))
    else:
        lengths, others = (
            ops.sqrt(sample_traces(model, batch, training=training, batch_size=batch_size))
            for batch in (x, x2)
        )
    s = ops.divide_no_nan(ops.divide_no_nan(k, lengths[:, None]), others)
    return ops.clip(s, -1, 1)  # rounding


@autodiff.as_written
def trace(
    model: keras.Model, x: Data, *, training: bool = False, batch_size: int | None = None
) -> tf.Tensor:
    """Trace of the MGS kernel: `tr K = Σ J² = Σ_i λ_i`, summed over samples and outputs.

    Small: the network learns in groups. Growing: it memorises.

    Args:
        model, x, training, batch_size: as for `jacobian`.

    Returns:
        A scalar tensor of the outputs' dtype.

    Raises:
        TypeError, ValueError: as for `jacobian`.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> float(keras_mgs.trace(model, np.ones((5, 3))))  # 5 samples, 2 outputs, ‖x‖² + 1
    40.0

    Reference: Szolnoky et al., NeurIPS 2022, section 3.3.
    """
    return ops.sum(sample_traces(model, x, training=training, batch_size=batch_size))


@autodiff.as_written
def sample_traces(
    model: keras.Model, x: Data, *, training: bool = False, batch_size: int | None = None
) -> tf.Tensor:
    """Each sample's share of tr K: `Σ_a ‖J[i, a]‖²`, how far the sample can move its own outputs.

    Args:
        model, x, training, batch_size: as for `jacobian`.

    Returns:
        A tensor (n,) of the outputs' dtype.

    Raises:
        TypeError, ValueError: as for `jacobian`.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> keras_mgs.sample_traces(model, np.array([[0, 0, 0], [1, 1, 1]])).numpy().tolist()
    [2.0, 8.0]

    Reference: Szolnoky et al., NeurIPS 2022, section 3.3 and supplement C.
    """
    return _finite(pieces.sample_traces(model, x, training, batch_size), model, x, training)


@autodiff.as_written
def log_det(
    model: keras.Model,
    x: Data,
    *,
    epsilon: float = EPSILON,
    training: bool = False,
    batch_size: int | None = None,
) -> tf.Tensor:
    """Log determinant of the MGS kernel, kept finite where it is singular.

    `log det(K + ε I)` with `ε = epsilon * tr K / (n*q)`, in float64, by Cholesky's decomposition.
    K is singular whenever n·q > p, and often numerically before that: each such eigenvalue then
    counts as log ε, and a warning says how many there are. `eigenvalues` shows which.

    Args:
        model, x, training, batch_size: as for `jacobian`.
        epsilon: positive; relative to the mean eigenvalue of K.

    Returns:
        A float64 scalar tensor.

    Raises:
        TypeError, ValueError: as for `jacobian`, or `epsilon` is not a positive number.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    >>> round(float(keras_mgs.log_det(model, 2 * np.eye(3))), 4)  # K = 4 I, so 3 log 4
    4.1589

    Reference: Szolnoky et al., NeurIPS 2022, section 3.3.
    """
    checks.positive("epsilon", epsilon)
    k = _finite(pieces.kernel(model, x, None, training, batch_size, "float64"), model, x, training)
    _warn_of_singular(k, epsilon)
    return regularised_log_det(k, epsilon)


@autodiff.as_written
def eigenvalues(
    model: keras.Model, x: Data, *, training: bool = False, batch_size: int | None = None
) -> tf.Tensor:
    """Eigenvalues of the MGS kernel in ascending order, in float64.

    Those below about 1e-12 of the largest are rounding in a float32 model, and may be negative.

    Args:
        model, x, training, batch_size: as for `jacobian`.

    Returns:
        A float64 tensor (n*q,).

    Raises:
        TypeError, ValueError: as for `jacobian`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    >>> keras_mgs.eigenvalues(model, np.diag([1, 3])).numpy().tolist()
    [1.0, 9.0]

    Reference: Szolnoky et al., NeurIPS 2022, section 3.3.
    """
    k = pieces.kernel(model, x, None, training, batch_size, "float64")
    return ops.convert_to_tensor(_eigenvalues(_finite(k, model, x, training)))


def measure(model, x, metrics, training, batch_size):
    """What is asked for of "trace", "log_det", "kernel" (K) and "eigenvalues", in one pass.

    With "log_det" comes "singular", the number of eigenvalues up to ε. Of a model that has
    diverged the numbers are NaN.
    """
    x = pieces.samples(model, x, training, batch_size)
    if survey(model, x, training).coupled:
        batch_size = None
    if set(metrics) == {"trace"}:
        return {"trace": ops.sum(pieces.sample_traces(model, x, training, batch_size))}
    k = pieces.kernel(model, x, None, training, batch_size, "float64").numpy()
    finite = np.isfinite(k).all()
    values = np.asarray(_eigenvalues(k)) if finite else np.full(len(k), math.nan)
    shift = EPSILON * values.mean()
    found = {"kernel": k, "eigenvalues": values, "trace": values.sum()}
    with np.errstate(divide="ignore"):  # of a K of zeros: minus infinity
        found["log_det"] = np.log(values + shift).sum()
    found["singular"] = (values <= shift).sum() if finite else math.nan
    wanted = {*metrics, *(("singular",) if "log_det" in metrics else ())}
    return {name: value for name, value in found.items() if name in wanted}


def check_size(name, model, x, training):
    """That K of these samples can be computed, and its eigenvalues found, on this machine."""
    n, q = data.number_of_samples(x), survey(model, x, training).outputs
    rows = n * q
    size = 8 * rows**2
    fits = rows <= _LARGEST
    if fits and size > 2**26:  # K, what the decomposition works on, and its other memory
        try:
            np.empty(3 * size, dtype="int8")
        except MemoryError:
            fits = False
    if not fits:
        raise ValueError(
            f"Expected K of `{name}` to have at most {_LARGEST:,} rows, and three times its size "
            f"to be free in memory, for 'log_det' and `images`. Received: {n} samples of {q:,} "
            f"outputs each, a K of {rows:,} x {rows:,}, {size / 1e9:.1f} GB. Use fewer samples, or "
            "metrics=('trace',) without `images`, which needs no K."
        )


def _eigenvalues(k):
    """Ascending; by NumPy where it can: TensorFlow's solver fails on some K of dead networks."""
    return tf.linalg.eigvalsh(k) if tf.is_symbolic_tensor(k) else np.linalg.eigvalsh(k)


def _warn_of_singular(k, epsilon):
    """Warn if eigenvalues of K are so small that ε stands in for them."""
    if not hasattr(k, "numpy"):
        return
    values = np.linalg.eigvalsh(k.numpy())
    count = int((values <= epsilon * values.mean()).sum())
    if count:
        warnings.warn(
            f"K is numerically singular: {count} of its {len(values)} eigenvalues are at most ε, "
            "which stands in for them in log det(K + ε I). Fewer samples, or a smaller `epsilon`, "
            "may leave fewer such eigenvalues.",
            stacklevel=4,  # past `as_written`
        )


def _finite(result, model, x, training):
    """`result`, if it is finite; an error that says why not, otherwise."""
    if not hasattr(result, "numpy") or bool(tf.reduce_all(tf.math.is_finite(result))):
        return result
    x = data.inputs("x", model, x)
    with keras.StatelessScope():
        f = raw_outputs(model(x, training=training), model)
    if not bool(tf.reduce_all(tf.math.is_finite(f))):
        raise ValueError(
            "Expected the model's outputs on these samples to be finite numbers. Received: "
            f"outputs of '{model.name}' with NaN or infinity. Has its training diverged?"
        )
    raise ValueError(
        f"The outputs of '{model.name}' are finite, but their derivatives with respect to its "
        f"weights, or the squares of these, are not in {f.dtype.name}. Look for an operation "
        "without a derivative, such as a square root at 0, or compute in a wider dtype."
    )
