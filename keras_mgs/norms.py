"""Squared norms of gradients, without writing out a gradient where its two factors suffice."""

import keras
import tensorflow as tf
from keras import ops

from keras_mgs import slices


def squared(tensors):
    """`‖tensors‖²`, over all their entries, at least in single precision."""
    return sum(_squared(t, dtype_of(tensors)) for t in tensors)


def of_products(tensors):
    """As `squared`, for tensors that nothing else needs.

    The gradient of a kernel W in `z = u @ W` is `uᵀδ`, and `‖uᵀδ‖² = Σ (u uᵀ) ∘ (δ δᵀ)`: for few
    rows of u this is cheaper, to differentiate too, and the product is then never computed. A
    graph shows which tensors are such products; eager ones are summed as they are.
    """
    dtype = dtype_of(tensors)
    return sum(_of_product(t, dtype) for t in tensors)


def _of_product(t, dtype):
    factors = None if isinstance(t, tf.IndexedSlices) else _factors(t)
    if factors is None:
        return _squared(t, dtype)
    u, delta = factors

    def by_grams():
        a, b = ops.cast(u, dtype), ops.cast(delta, dtype)
        return ops.sum(tf.matmul(a, a, transpose_b=True) * tf.matmul(b, b, transpose_b=True))

    k, c = t.shape
    rows = u.shape[0] if u.shape[0] is not None else ops.shape(u)[0]
    fewer = rows * (k + c) < k * c
    if isinstance(fewer, bool):
        return by_grams() if fewer else _squared(t, dtype)
    return tf.cond(fewer, by_grams, lambda: _squared(tf.matmul(u, delta, transpose_a=True), dtype))


def _factors(t):
    """(u, δ) of a tensor uᵀδ in a graph; None for all others."""
    operation = None if not tf.is_symbolic_tensor(t) else t.op
    if operation is None or operation.type != "MatMul" or None in t.shape:
        return None
    transposed = operation.get_attr("transpose_a"), operation.get_attr("transpose_b")
    return tuple(operation.inputs) if transposed == (True, False) else None


def _squared(t, dtype):
    if isinstance(t, tf.IndexedSlices):
        t = slices.each_row_once(t)
    return 2 * tf.nn.l2_loss(ops.cast(t, dtype))  # writes no square to memory


def dtype_of(tensors):
    """That of their squared norm: half precision is too coarse for sums of squares."""
    return keras.backend.result_type(*(t.dtype for t in tensors), "float32")
