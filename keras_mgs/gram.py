"""The Gram matrix K = J Jᵀ of the blocks of J, and its regularised log determinant."""

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
    size = ops.cast(ops.shape(k)[0], k.dtype)
    mean = tf.linalg.trace(k) / size
    k = ops.divide_no_nan(k, mean) + epsilon * tf.eye(ops.shape(k)[0], dtype=k.dtype)
    factor = tf.linalg.cholesky(k)
    return 2 * ops.sum(ops.log(tf.linalg.diag_part(factor))) + size * ops.log(mean)
