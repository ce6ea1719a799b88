"""Blocks of J kept as their factors, against sums over everything, written out."""

import numpy as np
import oracles
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from problems import randomise, sequential

import keras_mgs
from keras_mgs.sites.blocks import Bias, Factors
from keras_mgs.sites.site import OneHot, Shape

SMALL = st.integers(1, 3)
# positions, groups, k, c, table: one for each way to K, and what is special about it
ROUTES = {
    "outer product": Shape(1, 1, 3, 2),
    "rows": Shape(4, 1, 3, 2),
    "rows, groups": Shape(3, 2, 3, 2),
    "rows, element by element": Shape(2, 3, 1, 1),
    "rows, table": Shape(4, 1, 2, 2, True),
    "gram": Shape(2, 1, 9, 4),
    "gram, groups": Shape(2, 2, 9, 4),
    "gram, table": Shape(2, 1, 7, 2, True),
    "gram, table and one position": Shape(1, 1, 7, 2, True),
}


def factors(shape, n, r, rng):
    """(u, δ): features, or indices, and cotangents."""
    positions, groups, k, c, one_hot = shape
    u = rng.normal(size=(n, positions, groups, k))
    if one_hot:
        u = rng.integers(k, size=(n, positions))
    return tf.constant(u), tf.constant(rng.normal(size=(r, n, positions, groups, c)))


def gram(shape, pair, pair2):
    """By the code."""
    first = block(shape, *pair)
    second = first if pair2 is pair else block(shape, *pair2)
    return first.gram(second, "float64")


def block(shape, u, delta):
    return Factors(OneHot(u, shape.k) if shape.one_hot else u, delta)


def written_out(shape, pair, pair2):
    """By J, each entry a sum over the positions."""

    def jacobian(u, delta):
        u = tf.one_hot(u, shape.k, dtype=delta.dtype)[:, :, None] if shape.one_hot else u
        return tf.einsum("nsgk,rnsgc->nrkgc", u, delta)

    return tf.einsum("nrkgc,mtkgc->nrmt", jacobian(*pair), jacobian(*pair2))


def close(actual, expected):
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("name", ROUTES)
def test_every_way_to_the_kernel_is_taken_by_the_shape_that_is_named_after_it(name):
    assert ROUTES[name].kernel_route(3) == name.split(",")[0]


@given(
    positions=SMALL,
    groups=SMALL,
    k=st.integers(1, 12),
    c=st.integers(1, 6),
    one_hot=st.booleans(),
    n=SMALL,
    m=SMALL,
    r=SMALL,
    r2=SMALL,
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_the_kernel_of_two_batches_is_j_times_j(
    positions, groups, k, c, one_hot, n, m, r, r2, seed
):
    shape = Shape(positions, 1 if one_hot else groups, k, c, one_hot)
    rng = np.random.default_rng(seed)
    pair, pair2 = factors(shape, n, r, rng), factors(shape, m, r2, rng)
    close(gram(shape, pair, pair2), written_out(shape, pair, pair2))
    close(gram(shape, pair, pair), written_out(shape, pair, pair))


@pytest.mark.parametrize("name", ROUTES)
def test_derivatives_of_the_kernel_of_a_batch_are_those_of_j_times_j(name):
    """To the second order, by all that has one: a product with itself has a derivative of its own.

    The first, which is all that training needs, by XLA too.
    """
    shape, rng = ROUTES[name], np.random.default_rng(0)
    u, delta = factors(shape, 3, 3, rng)
    of = [delta] if shape.one_hot else [u, delta]
    upstream = tf.constant(rng.normal(size=(3, 3, 3, 3)))  # not symmetric
    along = [tf.constant(rng.normal(size=t.shape)) for t in of]

    def first(way):
        with tf.GradientTape() as tape:
            tape.watch(of)
            pair = (u, delta)
            total = tf.reduce_sum(way(shape, pair, pair) * upstream)
        return tape.gradient(total, of)

    def second(way):
        with tf.GradientTape() as tape:
            tape.watch(of)
            slope = sum(tf.reduce_sum(g * a) for g, a in zip(first(way), along, strict=True))
        return tape.gradient(slope, of)

    by_xla = tf.function(lambda: first(gram), jit_compile=True)()
    for found, expected in (
        (first(gram), first(written_out)),
        (by_xla, first(written_out)),
        (second(gram), second(written_out)),
    ):
        for actual, wanted in zip(found, expected, strict=True):
            close(actual, wanted)


@pytest.mark.parametrize("name", ROUTES)
def test_the_kernel_in_double_precision_needs_no_j_in_double_precision(name):
    """Only products of two rows cancel: K from rounded rows of J is that of a J that is near."""
    shape, rng = ROUTES[name], np.random.default_rng(0)
    u, delta = factors(shape, 4, 3, rng)
    rounded = (u if shape.one_hot else tf.cast(u, "float32"), tf.cast(delta, "float32"))
    k = gram(shape, rounded, rounded)
    assert k.dtype == "float64"
    k = np.reshape(k, (12, 12))
    np.testing.assert_allclose(k, k.T, rtol=1e-15, atol=1e-15 * np.abs(k).max())
    values = np.linalg.eigvalsh(k)
    assert values.min() > -1e-14 * values.max()  # of a K in float32: -1e-7
    exact = tuple(t if t.dtype.is_integer else tf.cast(t, "float64") for t in rounded)
    expected = np.asarray(written_out(shape, exact, exact)).reshape(12, 12)
    # Rounding of a sum of a few products in float32: 6e-8 of each term.
    np.testing.assert_allclose(k, expected, rtol=0, atol=5e-7 * np.abs(expected).max())


BIASES = {
    "dense": lambda: layers.Dense(3),
    "einsum, of every output": lambda: layers.EinsumDense("ab,bcd->acd", (2, 3), bias_axes="cd"),
    "einsum, shared by some outputs": lambda: layers.EinsumDense(
        "ab,bcd->acd", (2, 3), bias_axes="d"
    ),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", BIASES)
def test_a_bias_has_the_products_of_its_kernel_where_it_is_of_every_output(name):
    model = sequential((4,), BIASES[name](), layers.Flatten(), layers.Dense(2))
    rng = np.random.default_rng(0)
    randomise(model, rng)
    x, x2 = rng.normal(size=(3, 4)), rng.normal(size=(2, 4))
    j, j2 = oracles.jacobian(model, x), oracles.jacobian(model, x2)
    close(keras_mgs.kernel(model, x), oracles.kernel(j))
    close(keras_mgs.kernel(model, x, x2), oracles.kernel(j, j2))
    close(keras_mgs.sample_traces(model, x), (j**2).sum((1, 2)))


@given(k=SMALL, c=SMALL, n=SMALL, m=SMALL, r=SMALL, seed=st.integers(0, 99))
@settings(deadline=None)
def test_a_block_of_a_bias_is_its_cotangents(k, c, n, m, r, seed):
    rng = np.random.default_rng(seed)
    kernels = [
        block(Shape(1, 1, k, c), *factors(Shape(1, 1, k, c), size, r, rng)) for size in (n, m)
    ]
    j, j2 = (tf.transpose(kernel.delta[:, :, 0, 0], (1, 0, 2)) for kernel in kernels)
    bias, other = Bias(j, kernels[0]), Bias(j2, kernels[1])
    close(bias.jacobian(), j)
    close(bias.sample_traces(), tf.reduce_sum(j**2, (1, 2)))
    close(bias.gram(other, "float64"), tf.einsum("nrc,mtc->nrmt", j, j2))
    close(bias.gram(bias, "float64"), tf.einsum("nrc,mtc->nrmt", j, j))
