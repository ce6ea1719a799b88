"""Squared norms by their factors equal those of the tensors written out."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mgs import norms

SIZES = st.integers(1, 12)


def operations(concrete):
    """How many operations of each type run, those that nothing needs left out."""
    seen, todo = set(), [t.op for t in concrete.outputs]
    while todo:
        operation = todo.pop()
        if operation not in seen:
            seen.add(operation)
            todo += [t.op for t in operation.inputs] + list(operation.control_inputs)
    return [operation.type for operation in seen]


@settings(deadline=None, max_examples=30)
@given(n=SIZES, k=SIZES, c=SIZES, known=st.booleans(), seed=st.integers(0, 99))
def test_norm_of_a_product_and_its_gradient_equal_those_written_out(n, k, c, known, seed):
    rng = np.random.default_rng(seed)
    u, delta = rng.normal(size=(n, k)), rng.normal(size=(n, c))
    spec = [tf.TensorSpec((n if known else None, size), tf.float64) for size in (k, c)]

    @tf.function(input_signature=spec, autograph=False)
    def norm(u, delta):
        with tf.GradientTape() as tape:
            tape.watch([u, delta])
            value = norms.of_products([tf.matmul(u, delta, transpose_a=True), tf.constant([2.0])])
        return value, tape.gradient(value, [u, delta])

    value, gradients = norm(u, delta)
    product = u.T @ delta
    np.testing.assert_allclose(value, (product**2).sum() + 4, rtol=1e-9)
    np.testing.assert_allclose(gradients[0], 2 * delta @ product.T, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(gradients[1], 2 * u @ product, rtol=1e-9, atol=1e-12)


def test_the_product_itself_is_not_computed_where_the_factors_are_cheaper():
    def products(n):
        @tf.function(autograph=False)
        def norm(u, delta):
            return norms.of_products([tf.matmul(u, delta, transpose_a=True)])

        concrete = norm.get_concrete_function(tf.TensorSpec((n, 30)), tf.TensorSpec((n, 40)))
        return operations(concrete).count("MatMul")

    assert products(4) == 2  # two Gram matrices
    assert products(64) == 1  # the product


@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, True)])
def test_products_of_another_form_are_summed_as_they_are(transposed):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    form = dict(zip(("transpose_a", "transpose_b"), transposed, strict=True))
    norm = tf.function(lambda: norms.of_products([tf.matmul(tf.constant(a), b, **form)]))
    np.testing.assert_allclose(norm(), float(tf.reduce_sum(tf.matmul(a, b, **form) ** 2)))


@pytest.mark.parametrize("rank", [2, 4, None])
def test_norm_of_a_bias_s_gradient_and_its_derivative_equal_those_written_out(rank):
    delta = np.random.default_rng(0).normal(size=(3, 2, 2, 5) if rank == 4 else (6, 5))
    shape = None if rank is None else (None, *delta.shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float64)], autograph=False)
    def norm(delta):
        with tf.GradientTape() as tape:
            tape.watch(delta)
            bias = tf.reshape(tf.raw_ops.BiasAddGrad(out_backprop=delta), (1, 5))
            value = norms.of_products([bias])
        return value, tape.gradient(value, delta)

    value, gradient = norm(delta)
    written_out = delta.reshape(-1, 5).sum(0)
    np.testing.assert_allclose(value, (written_out**2).sum(), rtol=1e-9)
    np.testing.assert_allclose(gradient, np.broadcast_to(2 * written_out, delta.shape), rtol=1e-9)


def test_half_precision_is_summed_in_single():
    ones = tf.ones((300, 300), "float16")  # 90,000 is beyond its 65,504
    assert float(norms.squared([ones])) == 90_000
    assert norms.squared([ones]).dtype == "float32"
    large = tf.constant([3e30, 4e30])  # whose squares are beyond single precision
    np.testing.assert_allclose(norms.of_each([large, ones]), [25e60, 90_000], rtol=1e-6)
    product = tf.function(lambda: norms.of_products([tf.matmul(ones[:2], ones[:2], True)]))
    assert float(product()) == 4 * 90_000
