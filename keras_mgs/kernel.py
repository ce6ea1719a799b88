"""The exact functions: J, K = J Jᵀ, its trace, log determinant and eigenvalues."""

import contextlib
import itertools
import math
import warnings
import weakref

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_mgs import autodiff, checks, data
from keras_mgs.outputs import raw_outputs
from keras_mgs.sites import jacobian_blocks, record, signature, survey

EPSILON = 1e-6
CHUNK = 32
_LARGEST = 2**14  # rows of K; their eigenvalues take minutes at every measurement
_NUMBERS = 2**26  # that the cotangents of one piece may be
_COMPILED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


@autodiff.as_written
def jacobian(model, x, *, training=False, batch_size=None):
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
    pieces, n, q = _pieces(model, x, training, batch_size)
    run = _compiled(model, _jacobian, training)
    parts = [ops.concatenate([run(*p) for p in group], axis=1)[:, :q] for group in pieces]
    return _finite(ops.concatenate(parts)[:n], model, x, training)


@autodiff.as_written
def kernel(model, x, x2=None, *, training=False, batch_size=None):
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
    k = _kernel(model, x, x2, training, batch_size, None)
    return _finite(_finite(k, model, x, training), model, x if x2 is None else x2, training)


@autodiff.as_written
def trace(model, x, *, training=False, batch_size=None):
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
def sample_traces(model, x, *, training=False, batch_size=None):
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
    return _finite(_traces(model, x, training, batch_size), model, x, training)


@autodiff.as_written
def log_det(model, x, *, epsilon=EPSILON, training=False, batch_size=None):
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
    k = _finite(_kernel(model, x, None, training, batch_size, "float64"), model, x, training)
    _warn_of_singular(k, epsilon)
    return regularised_log_det(k, epsilon)


@autodiff.as_written
def eigenvalues(model, x, *, training=False, batch_size=None):
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
    k = _kernel(model, x, None, training, batch_size, "float64")
    return ops.convert_to_tensor(_eigenvalues(_finite(k, model, x, training)))


def regularised_log_det(k, epsilon):
    """`log det(K + epsilon · tr K / size · I)`; differentiable in K."""
    size = ops.cast(ops.shape(k)[0], k.dtype)
    mean = tf.linalg.trace(k) / size
    k = ops.divide_no_nan(k, mean) + epsilon * tf.eye(ops.shape(k)[0], dtype=k.dtype)
    factor = tf.linalg.cholesky(k)
    return 2 * ops.sum(ops.log(tf.linalg.diag_part(factor))) + size * ops.log(mean)


def measure(model, x, metrics, training, batch_size):
    """ "trace", "log_det" and "singular" (eigenvalues of K up to ε) as asked for, in one pass.

    Of a model that has diverged they are NaN.
    """
    x = _samples(model, x, training, batch_size)
    if survey(model, x, training).coupled:
        batch_size = None
    if "log_det" not in metrics:
        return {"trace": ops.sum(_traces(model, x, training, batch_size))}
    k = _kernel(model, x, None, training, batch_size, "float64").numpy()
    if not np.isfinite(k).all():
        return dict.fromkeys((*metrics, "singular"), math.nan)
    values = _eigenvalues(k)
    shift = EPSILON * values.mean()
    with np.errstate(divide="ignore"):  # of a K of zeros: minus infinity
        found = {"trace": values.sum(), "log_det": np.log(values + shift).sum()}
    found["singular"] = (values <= shift).sum()
    return {k: v for k, v in found.items() if k in (*metrics, "singular")}


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
            f"to be free in memory, which 'log_det' needs. Received: {n} samples of {q:,} outputs "
            f"each, a K of {rows:,} x {rows:,}, {size / 1e9:.1f} GB. Use metrics=('trace',), which "
            "needs no K, or fewer samples."
        )


def _eigenvalues(k):
    """Ascending; by NumPy where it can: TensorFlow's solver fails on some K of dead networks."""
    return tf.linalg.eigvalsh(k) if tf.is_symbolic_tensor(k) else np.linalg.eigvalsh(k)


def gram(blocks, others, dtype):
    """`K = Σ_weights J J'ᵀ`, (n, r, m, r'), from blocks of J and of J', in `dtype`."""
    return sum(b.gram(o, dtype) for b, o in zip(blocks, others, strict=True))


def as_matrix(k):
    """K, (n, r, m, r'), as (n*r, m*r')."""
    n, r, m, r2 = ops.shape(k)
    return ops.reshape(k, (n * r, m * r2))


def every_row(f, coupled):
    """The rows of J that `jacobian_blocks` is to compute: all of them."""
    if not coupled:
        return tf.eye(ops.shape(f)[1], dtype=f.dtype)
    return tf.reshape(tf.eye(tf.size(f), dtype=f.dtype), (-1, *tf.unstack(tf.shape(f))))


def _traces(model, x, training, batch_size):
    pieces, n, _ = _pieces(model, x, training, batch_size, one_sample=True)
    run = _compiled(model, _sample_traces, training)
    return ops.concatenate([sum(run(*p) for p in group) for group in pieces])[:n]


def _kernel(model, x, x2, training, batch_size, dtype):
    rows, n, q = _pieces(model, x, training, batch_size)
    columns, m, _ = (rows, n, q) if x2 is None else _pieces(model, x2, training, batch_size, "x2")
    dtype = dtype or survey(model, rows[0][0][0], training).dtype
    run = _compiled(model, _tile, training, dtype)
    tiles: dict = {}
    for row, column in itertools.product(_indices(rows), _indices(columns)):
        if x2 is None and (column, row) in tiles:
            tiles[row, column] = ops.transpose(tiles[column, row], (2, 3, 0, 1))
        else:
            (i, a), (j, b) = row, column
            other = () if x2 is None and row == column else columns[j][b]
            tiles[row, column] = run(*rows[i][a], *other)

    def joined(i, j):
        """The part of K that belongs to two groups of samples."""
        lines = [
            _join([tiles[(i, a), (j, b)] for b in range(len(columns[j]))], 3)
            for a in range(len(rows[i]))
        ]
        return _join(lines, 1)[:, :q, :, :q]

    if len(tiles) == 1:  # as for any small batch: nothing was padded
        return as_matrix(next(iter(tiles.values())))
    lines = [
        _join([joined(i, j) for j in range(len(columns))], 2)[:, :, :m] for i in range(len(rows))
    ]
    return as_matrix(_join(lines, 0)[:n])


def _join(parts, axis):
    return ops.concatenate(parts, axis) if parts[1:] else parts[0]


def _indices(pieces):
    return [(i, a) for i, group in enumerate(pieces) for a in range(len(group))]


def _jacobian(model, training, x, rows):
    j = ops.concatenate([b.jacobian() for b in _blocks(model, x, rows, training)], axis=2)
    return ops.reshape(j, (*_counts(x, rows), j.shape[2]))


def _sample_traces(model, training, x, rows):
    return sum(b.sample_traces() for b in _blocks(model, x, rows, training))


def _tile(model, training, dtype, x, rows, x2=None, rows2=None):
    """A piece of K, (n, r, m, r2)."""
    first = _blocks(model, x, rows, training)
    second = first if x2 is None else _blocks(model, x2, rows2, training)
    counts = _counts(x, rows) if x2 is None else _counts(x2, rows2)
    return ops.reshape(gram(first, second, dtype), (*_counts(x, rows), *counts))


def _samples(model, x, training, batch_size=None, name="x"):
    """The samples, checked."""
    checks.model(model)
    checks.flag("training", training)
    checks.batch_size(batch_size)
    return data.inputs(name, model, x)


def _counts(x, rows):
    """How many samples a piece is about, and how many rows of J for each of them."""
    samples = rows.shape[0] if len(rows.shape) == 4 else data.number_of_samples(x)
    return samples, rows.shape[-3] if len(rows.shape) == 4 else rows.shape[0]


def _blocks(model, x, rows, training):
    """The blocks of J for one piece, of a forward pass that leaves the model's state alone."""
    with contextlib.ExitStack() as stack:
        recording = stack.enter_context(record(model, x, training))
        stack.enter_context(autodiff.twice_differentiable())
        tape = stack.enter_context(autodiff.tape())
        stack.enter_context(keras.StatelessScope())
        f = raw_outputs(model(x, training=training), model)
    rows = ops.cast(rows, f.dtype)
    if len(rows.shape) == 4:
        rows = ops.reshape(rows, (-1, *rows.shape[2:]))
    return jacobian_blocks(tape, f, recording, rows)


def _pieces(model, x, training, batch_size, name="x", one_sample=False):
    """What is computed at a time: (x, rows of J) in a list per group of samples; n; q.

    Rows are (r, q) where samples are independent, and (samples of the group, r, n, q), of the whole
    batch's outputs, where they are not. Both are padded with zeros to equal sizes, so that one
    compiled function serves them all.
    """
    x = _samples(model, x, training, batch_size, name)
    found, n = survey(model, x, training), data.leaves(x)[0].shape[0]
    if found.outputs is None:
        raise ValueError(
            "MGS must know how many outputs a sample has. "
            f"Received: `{name}`, for which '{model.name}' does not tell. "
            "Give inputs whose shape, but for the batch, is fixed."
        )
    if found.coupled and (n is None or batch_size is not None):
        raise ValueError(
            "The samples of this model depend on each other, by batch normalisation as in "
            "training or because their outputs grow with the batch, so they cannot be computed in "
            "pieces, and their number must be known. "
            f"Received: batch_size={batch_size}, and {n} samples in `{name}`. "
            "Leave batch_size out, or use training=False if it is batch normalisation."
        )
    size = n if found.coupled else min(batch_size or CHUNK, n or CHUNK)
    chunks = [x]
    if n is not None and n > size:
        chunks = [data.samples(x, start, start + size) for start in range(0, n, size)]
    q, most = found.outputs, rows_at_a_time(found, size)
    count = math.ceil(q / most)
    r = math.ceil(q / count)
    rows = np.eye(count * r, q).reshape(count, r, q)
    if not found.coupled:
        return [[(c, part) for part in rows] for c in chunks], n, q
    group = 1 if one_sample else min(n, max(1, most // q))
    samples = np.eye(-(-n // group) * group, n).reshape(-1, group, n)
    of_batch = np.einsum("gin,erq->geirnq", samples, rows)
    return [[(chunks[0], part) for part in parts] for parts in of_batch], n, q


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


def rows_at_a_time(survey, n):
    """How many rows of J are computed at once for each of n samples: as memory allows."""
    return max(1, _NUMBERS // survey.numbers(n))


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


def _compiled(model, function, training, *extra):
    """`function(model, …)` as a compiled function of the data, kept as long as the model lives."""
    kept = _COMPILED.setdefault(model, {})
    key = (function, bool(training), extra, signature(model))
    if key not in kept:
        reference = weakref.ref(model)  # a strong one would keep the model alive for ever

        def run(*data):
            return function(reference(), training, *extra, *data)

        kept[key] = _with_xla_where_needed(run)
    return kept[key]


def _with_xla_where_needed(function):
    """`function` compiled; by XLA where TensorFlow's own kernels cannot run it on this device.

    On a CPU these are the gradients of grouped convolutions and whatever has its channels first.
    """
    plain = tf.function(function, autograph=False)
    by_xla = tf.function(function, autograph=False, jit_compile=True)
    chosen = [plain]

    def run(*data):
        try:
            return chosen[0](*data)
        except tf.errors.UnknownError as error:
            if "pyfunc_" not in error.message:
                raise
            raise NotImplementedError(
                "The exact functions take several reverse passes through the model, of which "
                "TensorFlow allows a tf.py_function only one. Write what it does with operations "
                "of TensorFlow or keras.ops, or keep it to the data, before all weights."
            ) from error
        except tf.errors.OpError as error:
            if chosen[0] is by_xla or not _xla_may_do_better(error):
                raise
        result = by_xla(*data)
        chosen[0] = by_xla
        return result

    return run


def _xla_may_do_better(error):
    """Whether TensorFlow, not the model or its data, is at fault: XLA does not check the latter."""
    # AlreadyExistsError: TensorFlow 2.21's graph optimiser trips over sums in ConvNeXtTiny.
    faults = (tf.errors.UnimplementedError, tf.errors.AlreadyExistsError)
    return isinstance(error, faults) or "support" in error.message
