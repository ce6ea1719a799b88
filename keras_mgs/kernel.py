"""The exact functions: J, K = J Jᵀ, its trace, log determinant and eigenvalues."""

import contextlib
import weakref

import keras
import tensorflow as tf
from keras import ops

from keras_mgs import autodiff, checks
from keras_mgs.outputs import raw_outputs
from keras_mgs.sites import couples_samples, jacobian_blocks, record, signature

EPSILON = 1e-6
_CHUNK = 32
_COMPILED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def jacobian(model, x, *, training=False, batch_size=None):
    """Jacobian of the raw outputs with respect to the trainable weights.

    `J[i, a] = ∂f_a(x_i) / ∂θ`, θ being `model.trainable_weights`, each flattened in C order, and
    f the outputs before a final softmax or sigmoid, flattened per sample and concatenated.

    Args:
        model: a built `keras.Model` with trainable weights.
        x: its inputs, n samples: an array, a tensor, a list or dict of them as the model takes it,
            or a `tf.data.Dataset` (of x, or of (x, y) tuples).
        training: whether the forward pass is that of training. The model's state (moving
            statistics, random seeds) is left as it was, so dropout draws the same masks in every
            piece of `batch_size` samples.
        batch_size: samples computed at a time; None: 32, or all of them where they depend on each
            other (batch normalisation with `training=True`).

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
    chunks = _chunks(model, x, training, batch_size)
    run = _compiled(model, _jacobian, training)
    return ops.concatenate([run(c) for c in chunks])


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
    return _kernel(model, x, x2, training, batch_size, None)


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
    chunks = _chunks(model, x, training, batch_size)
    run = _compiled(model, _sample_traces, training)
    return ops.concatenate([run(c) for c in chunks])


def log_det(model, x, *, epsilon=EPSILON, training=False, batch_size=None):
    """Log determinant of the MGS kernel, kept finite where it is singular.

    `log det(K + ε I)` with `ε = epsilon * tr K / (n*q)`, in float64, by Cholesky's decomposition.
    K is singular whenever n·q > p, and often numerically before that: each such eigenvalue then
    counts as log ε. `eigenvalues` shows which they are.

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
    return regularised_log_det(_kernel(model, x, None, training, batch_size, "float64"), epsilon)


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
    return tf.linalg.eigvalsh(_kernel(model, x, None, training, batch_size, "float64"))


def regularised_log_det(k, epsilon):
    """`log det(K + epsilon · tr K / size · I)`; differentiable in K."""
    size = ops.cast(ops.shape(k)[0], k.dtype)
    mean = tf.linalg.trace(k) / size
    k = ops.divide_no_nan(k, mean) + epsilon * tf.eye(ops.shape(k)[0], dtype=k.dtype)
    factor = tf.linalg.cholesky(k)
    return 2 * ops.sum(ops.log(tf.linalg.diag_part(factor))) + size * ops.log(mean)


def measure(model, x, metrics, training, batch_size):
    """ "trace", "log_det" and "singular" (eigenvalues of K up to ε) as asked for, in one pass."""
    if "log_det" not in metrics:
        return {"trace": trace(model, x, training=training, batch_size=batch_size)}
    values = eigenvalues(model, x, training=training, batch_size=batch_size)
    shift = EPSILON * ops.mean(values)
    found = {
        "trace": ops.sum(values),
        "log_det": ops.sum(ops.log(values + shift)),
        "singular": ops.sum(ops.cast(values <= shift, values.dtype)),
    }
    return {k: v for k, v in found.items() if k in (*metrics, "singular")}


def assemble(blocks, others=None):
    """`K = Σ_weights J J'ᵀ`, (n*q, m*q), from blocks of J (and of J')."""
    k = sum(b.gram(o) for b, o in zip(blocks, others or blocks, strict=True))
    n, q, m, q2 = ops.shape(k)
    return ops.reshape(k, (n * q, m * q2))


def _kernel(model, x, x2, training, batch_size, dtype):
    rows = _chunks(model, x, training, batch_size)
    columns = rows if x2 is None else _chunks(model, x2, training, batch_size, "x2")
    tile = _compiled(model, _tile, training, dtype)
    tiles = [[None] * len(columns) for _ in rows]
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            if x2 is None and j < i:
                tiles[i][j] = ops.transpose(tiles[j][i])
            else:
                tiles[i][j] = tile(row, None if column is row else column)
    return ops.concatenate([ops.concatenate(row, axis=1) for row in tiles])


def _jacobian(model, x, training):
    return ops.concatenate([b.jacobian() for b in _blocks(model, x, training)], axis=2)


def _sample_traces(model, x, training):
    return sum(b.sample_traces() for b in _blocks(model, x, training))


def _tile(model, x, x2, training, dtype):
    blocks, others = (
        None
        if data is None
        else [b.cast(dtype) if dtype else b for b in _blocks(model, data, training)]
        for data in (x, x2)
    )
    return assemble(blocks, others)


def _blocks(model, x, training):
    """The blocks of J for one chunk, of a forward pass that leaves the model's state alone."""
    state = keras.StatelessScope() if training else contextlib.nullcontext()
    with record(model, x, training) as recording, autodiff.tape() as tape, state:
        f = raw_outputs(model(x, training=training))
    return jacobian_blocks(tape, f, recording, couples_samples(model, training))


def _chunks(model, x, training, batch_size, name="x"):
    """The samples in pieces, checked."""
    checks.model(model)
    checks.batch_size(batch_size)
    if isinstance(x, tf.data.Dataset):
        x = checks.dataset(x)
    if couples_samples(model, training):
        if batch_size is not None:
            raise ValueError(
                "With training=True the samples of a model with batch normalisation depend on each "
                f"other, so they cannot be computed in pieces. Received: batch_size={batch_size}. "
                "Leave it out, or use training=False."
            )
        return checks.inputs(name, model, x)
    return checks.inputs(name, model, x, batch_size or _CHUNK)


def _compiled(model, function, training, *extra):
    """`function(model, …)` as a compiled function of the data, kept as long as the model lives."""
    kept = _COMPILED.setdefault(model, {})
    key = (function, bool(training), extra, signature(model))
    if key not in kept:
        reference = weakref.ref(model)  # a strong one would keep the model alive for ever

        @tf.function(autograph=False)
        def run(*data):
            return function(reference(), *data, training, *extra)

        kept[key] = run
    return kept[key]
