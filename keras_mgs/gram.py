"""The Gram matrix K = J Jᵀ of the blocks of J, and what is made of K + ε I."""

import tensorflow as tf
from keras import ops

EPSILON = 1e-6  # relative to the mean eigenvalue of K


def gram(blocks, others, dtype):
    """`K = Σ_weights J J'ᵀ`, (n, r, m, r'), from blocks of J and of J', in `dtype`."""
    return sum(b.gram(o, dtype) for b, o in zip(blocks, others, strict=True))


def as_matrix(k):
    """K, (n, r, m, r'), as (n*r, m*r')."""
    n, r, m, r2 = ops.shape(k)
    return ops.reshape(k, (n * r, m * r2))


def regularised_log_det(k, epsilon):
    """`log det(K + epsilon · tr K / size · I)`; differentiable in K."""
    mean, factor = _regularised(k, epsilon)
    size = ops.cast(ops.shape(k)[0], k.dtype)
    return 2 * ops.sum(ops.log(tf.linalg.diag_part(factor))) + size * ops.log(mean)


def regularised_norm(k, f, epsilon):
    """`fᵀ (K + epsilon · tr K / size · I)⁻¹ f` of f, (size,); differentiable once in K and f."""
    mean, factor = _regularised(ops.stop_gradient(k), epsilon)
    solution = tf.linalg.cholesky_solve(factor, ops.stop_gradient(f)[:, None])[:, 0] / mean
    # With a = (K + ε I)⁻¹ f held constant this has the derivatives, 2 a and −a aᵀ: none of a
    # decomposition is needed.
    shift = epsilon * _mean(k) * ops.sum(ops.square(solution))
    return 2 * ops.sum(f * solution) - ops.sum(solution * tf.linalg.matvec(k, solution)) - shift


def _regularised(k, epsilon):
    """The mean eigenvalue of K, and the Cholesky factor of `K / mean + epsilon · I`."""
    mean = _mean(k)
    k = ops.divide_no_nan(k, mean) + epsilon * tf.eye(ops.shape(k)[0], dtype=k.dtype)
    return mean, tf.linalg.cholesky(k)


def _mean(k):
    return tf.linalg.trace(k) / ops.cast(ops.shape(k)[0], k.dtype)
