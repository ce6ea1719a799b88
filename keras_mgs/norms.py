"""Squared norms of gradients, without writing out a gradient where its two factors suffice."""

import functools

import keras
import tensorflow as tf
from keras import ops

from keras_mgs import slices


def squared(tensors):
    """`‖tensors‖²`, over all their entries, at least in single precision."""
    dtype = dtype_of(tensors)
    return 2 * tf.add_n([_half_squared(t, dtype) for t in tensors])


def of_each(tensors):
    """`‖t‖²` of each tensor, (len(tensors),), in double: those under a loss scale are large."""
    return 2 * tf.stack([_half_squared(t, "float64") for t in tensors])


def of_products(tensors):
    """As `squared`, for tensors that nothing else needs.

    The gradient of a kernel W in `z = u @ W` is `uᵀδ`, and `‖uᵀδ‖² = Σ (u uᵀ) ∘ (δ δᵀ)`: for few
    rows of u this is cheaper, to differentiate too, and the product is then never computed. A
    graph shows which tensors are such products; eager ones are summed as they are.
    """
    dtype = dtype_of(tensors)
    return 2 * tf.add_n([_half_of_product(t, dtype) for t in tensors])


def _half_of_product(t, dtype):
    factors = None if isinstance(t, tf.IndexedSlices) else _factors(t)
    if factors is None:
        return _half_squared(_as_sum(t), dtype)
    u, delta = factors

    def by_grams():
        a, b = ops.cast(u, dtype), ops.cast(delta, dtype)
        grams = tf.matmul(a, a, transpose_b=True), tf.matmul(b, b, transpose_b=True)
        return 0.5 * ops.sum(grams[0] * grams[1])

    k, c = t.shape
    rows = u.shape[0] if u.shape[0] is not None else ops.shape(u)[0]
    fewer = rows * (k + c) < k * c
    if isinstance(fewer, bool):
        return by_grams() if fewer else _half_squared(t, dtype)
    written_out = functools.partial(tf.matmul, u, delta, transpose_a=True)
    return tf.cond(fewer, by_grams, lambda: _half_squared(written_out(), dtype))


def _as_sum(t):
    """A bias's gradient in a graph, summed by an operation whose derivative is four operations.

    TensorFlow's own takes nineteen, for every layer, and all have to be compiled.
    """
    if _is_result_of(t, "Reshape"):  # which keeps the norm
        t = t.op.inputs[0]
    if not _is_result_of(t, "BiasAddGrad") or t.op.get_attr("data_format") != b"NHWC":
        return t
    (delta,) = t.op.inputs
    return t if delta.shape.rank is None else ops.sum(delta, list(range(delta.shape.rank - 1)))


def _is_result_of(t, kind):
    return tf.is_symbolic_tensor(t) and t.op.type == kind


def _factors(t):
    """(u, δ) of a tensor uᵀδ in a graph; None for all others."""
    if not _is_result_of(t, "MatMul") or None in t.shape:
        return None
    operation = t.op
    transposed = operation.get_attr("transpose_a"), operation.get_attr("transpose_b")
    return tuple(operation.inputs) if transposed == (True, False) else None


def _half_squared(t, dtype):
    if isinstance(t, tf.IndexedSlices):
        t = slices.each_row_once(t)
    return tf.nn.l2_loss(ops.cast(t, dtype))  # writes no square to memory


def dtype_of(tensors):
    """That of their squared norm: half precision is too coarse for sums of squares."""
    return keras.backend.result_type(*(t.dtype for t in tensors), "float32")
