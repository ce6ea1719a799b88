"""`similarity` against the cosines of brute-force Jacobians, and what makes it a likeness."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from problems import PROBLEMS, Scale, batch, make, randomise, sequential

import keras_mgs
from keras_mgs import pieces

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:The structure of `inputs`"),
]

# Every way to a Gram matrix: one position and many, groups, tables, shared weights, LoRA, a bias
# alone, and weights that no rule explains.
MODELS = [
    "dense, activations", "conv2d stacked", "depthwise conv1d", "separable conv2d", "embedding",
    "einsum dense, groups", "layer called at other positions", "layer normalization, options",
    "LoRA, convolution", "own layer", "list of outputs", "dict of inputs",
]  # fmt: skip


def cosines(j, j2=None):
    """Of the Jacobians of samples, (n, q, p), as vectors."""
    rows, others = (v.reshape(len(v), -1) for v in (j, j if j2 is None else j2))
    lengths, of_others = (np.linalg.norm(v, axis=1) for v in (rows, others))
    return rows @ others.T / lengths[:, None] / of_others


def close(actual, expected, tolerance=1e-9):
    assert np.shape(actual) == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def normalised():
    model = sequential(
        (3,), layers.Dense(3, "tanh"), layers.BatchNormalization(momentum=0.5), layers.Dense(2)
    )
    randomise(model, np.random.default_rng(0))
    return model, np.random.default_rng(1).normal(size=(5, 3))


@pytest.mark.parametrize("name", MODELS)
def test_similarity_equals_the_cosines_of_the_jacobians(name):
    model, x = make(name, n=5)
    x2 = batch(PROBLEMS[name], 4, np.random.default_rng(1))
    j, j2 = oracles.jacobian(model, x), oracles.jacobian(model, x2)
    close(keras_mgs.similarity(model, x), cosines(j))
    close(keras_mgs.similarity(model, x, x2), cosines(j, j2))
    close(keras_mgs.similarity(model, x, x2, batch_size=2), cosines(j, j2))


def test_similarity_is_the_trace_of_the_kernel_s_blocks_scaled():
    model, x = make("conv2d stacked", n=4)
    q = model.output_shape[-1]
    k = np.einsum("iaja->ij", np.reshape(keras_mgs.kernel(model, x), (4, q, 4, q)))
    scale = np.sqrt(np.diag(k))
    close(keras_mgs.similarity(model, x), k / scale[:, None] / scale)


@pytest.mark.parametrize("name", ["dense with a 4D output", "conv2d dilated", "own layer on top"])
@pytest.mark.parametrize("numbers", [1, 100, 200])
def test_pieces_of_the_outputs_do_not_change_it(name, numbers, monkeypatch):
    """Two batches of different sizes leave memory for different numbers of rows at a time."""
    model, x = make(name, n=5)
    x2 = batch(PROBLEMS[name], 2, np.random.default_rng(1))
    j, j2 = oracles.jacobian(model, x), oracles.jacobian(model, x2)
    monkeypatch.setattr(pieces, "_NUMBERS", numbers)
    close(keras_mgs.similarity(model, x, batch_size=2), cosines(j))
    close(keras_mgs.similarity(model, x, x2), cosines(j, j2))
    close(keras_mgs.similarity(model, x2, x), cosines(j2, j))


@pytest.mark.parametrize("numbers", [1, 60, 200, 2**26])
def test_the_coupling_of_samples_by_batch_normalization_is_in_it(numbers, monkeypatch):
    model, x = normalised()
    x2 = np.random.default_rng(2).normal(size=(3, 3))
    j, j2 = (oracles.jacobian(model, batch, training=True) for batch in (x, x2))
    monkeypatch.setattr(pieces, "_NUMBERS", numbers)
    close(keras_mgs.similarity(model, x, training=True), cosines(j))
    close(keras_mgs.similarity(model, x, x2, training=True), cosines(j, j2))


def test_no_computed_matrix_has_a_row_for_every_output(monkeypatch):
    """Of 40 outputs, K of 6 samples would have 240² entries, and each tile of 2 samples 80²."""
    model = sequential((3,), layers.Dense(4, "tanh"), layers.Dense(40))
    x, sizes = np.random.default_rng(0).normal(size=(6, 3)), []

    def gram(blocks, others, dtype):
        k = original(blocks, others, dtype)
        sizes.append(k.shape.num_elements())
        return k

    original = pieces.gram
    monkeypatch.setattr(pieces, "gram", gram)
    keras_mgs.similarity(model, x, batch_size=2)
    assert sizes and set(sizes) == {4}


def test_single_precision_is_exact_to_single_precision():
    keras.config.set_floatx("float32")  # the fixture `float64` restores it
    keras.config.set_dtype_policy("float32")
    model, x = make("conv2d stacked", n=4)
    s = keras_mgs.similarity(model, x)
    assert s.dtype == "float32"
    close(s, cosines(oracles.jacobian(model, x)), 1e-5)  # float32
    assert np.abs(s).max() <= 1


def test_a_dataset_is_the_same_as_its_arrays():
    model, x = make("dense, activations", n=5)
    data = tf.data.Dataset.from_tensor_slices((x, np.zeros(5))).batch(2)
    close(keras_mgs.similarity(model, data, data), cosines(oracles.jacobian(model, x)))


def test_a_sample_without_a_gradient_is_like_none_as_documented():
    model = sequential((2,), layers.Dense(3, use_bias=False))
    x = np.array([[0, 0], [1, 2], [2, 4]])
    expected = np.array([[0, 0, 0], [0, 1, 1], [0, 1, 1]], "float64")
    close(keras_mgs.similarity(model, x), expected)
    close(keras_mgs.similarity(model, x, x[::-1]), expected[:, ::-1])


def test_opposite_samples_have_the_similarity_minus_one():
    model = sequential((2,), layers.Dense(3, use_bias=False))
    close(keras_mgs.similarity(model, np.array([[1, 2]]), np.array([[-2, -4]])), -np.ones((1, 1)))


def test_derivatives_that_are_not_finite_are_an_error_that_says_so():
    model = sequential((3,), layers.Dense(2), layers.Activation(tf.sqrt))
    model.layers[0].kernel.assign(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="finite, but their derivatives"):
        keras_mgs.similarity(model, np.ones((2, 3)))


@settings(max_examples=4, deadline=None, derandomize=True)
@given(
    units=st.integers(1, 4),
    outputs=st.integers(1, 3),
    n=st.integers(1, 6),
    hidden=st.sampled_from(["tanh", "relu", "softplus"]),
    middle=st.sampled_from([[], [Scale]]),
    seed=st.integers(0, 10**6),
)
def test_similarity_has_the_properties_of_cosines(units, outputs, n, hidden, middle, seed):
    hidden = [layers.Dense(units, hidden), *(layer() for layer in middle)]
    model, rng = sequential((2,), *hidden, layers.Dense(outputs)), np.random.default_rng(seed)
    randomise(model, rng)
    x, x2 = rng.normal(size=(n, 2)), rng.normal(size=(3, 2))
    s = keras_mgs.similarity(model, x).numpy()
    np.testing.assert_allclose(s, s.T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.diag(s), 1, rtol=1e-12)  # the last bias keeps every J from 0
    assert np.abs(s).max() <= 1
    assert np.linalg.eigvalsh(s).min() >= -1e-12 * n
    close(keras_mgs.similarity(model, x, x2), np.transpose(keras_mgs.similarity(model, x2, x)))
    order = rng.permutation(n)
    close(keras_mgs.similarity(model, x[order]), s[np.ix_(order, order)])
