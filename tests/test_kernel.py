"""The exact functions against brute force, and what they must leave as they found it."""

import gc
import itertools
import warnings
import weakref

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops
from problems import (
    FIRST_AXIS,
    PROBLEMS,
    RECURRENT,
    TRAINING,
    Scale,
    announced,
    batch,
    make,
    randomise,
    sequential,
    subclassed,
)

import keras_mgs
from keras_mgs import pieces

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:The structure of `inputs`"),
]


def close(actual, expected, tolerance=1e-9):
    """Relative to the largest entry: an entry that cancels to 0 has no relative error."""
    expected = np.asarray(expected)
    scale = max(1e-300, np.abs(expected).max(initial=0))
    assert np.shape(actual) == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * scale)


# All functions on all models


@pytest.mark.parametrize("name", PROBLEMS)
def test_jacobian_equals_tape_jacobian_and_finite_differences(name):
    model, x = make(name)
    j = keras_mgs.jacobian(model, x)
    close(j, oracles.jacobian(model, x))
    if name == "stopped gradient":  # differences see through it
        return
    # 1e-5 steps: rounding of 1e-16 / 1e-5 and a third derivative times 1e-10 leave about 1e-8.
    close(j, oracles.jacobian_by_differences(model, x), 1e-7)


# TensorFlow takes seconds to compile derivatives through a loop, or all steps one by one.
SLOW = {"in a map", "in a while loop", *RECURRENT} - {"LSTM", "time distributed"}
MOST = [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in PROBLEMS]


@pytest.mark.parametrize("name", MOST)
def test_traces_equal_those_of_tape_jacobian_at_any_batch_size(name):
    """The second and third size make TensorFlow trace the pass with an unknown batch size."""
    model, x = make(name, n=5)
    for size in (5, 3, 2):
        part = keras.tree.map_structure(lambda leaf: leaf[:size], x)  # noqa: B023
        j = oracles.jacobian(model, part)
        close(keras_mgs.sample_traces(model, part), (j**2).sum((1, 2)))
        close(keras_mgs.trace(model, part), (j**2).sum())


@pytest.mark.filterwarnings("ignore:K is numerically singular")
@pytest.mark.parametrize("name", MOST)
def test_kernel_log_det_and_eigenvalues_equal_those_of_tape_jacobian(name):
    model, x = make(name, n=3)
    k = oracles.kernel(oracles.jacobian(model, x))
    close(keras_mgs.kernel(model, x), k)
    close(keras_mgs.eigenvalues(model, x), np.linalg.eigvalsh(k))
    for epsilon in (1e-6, 1e-3):
        close(keras_mgs.log_det(model, x, epsilon=epsilon), oracles.log_det(k, epsilon))


SOME = ["dense, activations", "conv2d stacked", "layer called at other positions", "own layer"]


@pytest.mark.parametrize("name", [*SOME, "dict of inputs", "embedding"])
def test_kernel_of_two_batches_and_in_chunks_equals_that_of_tape_jacobian(name):
    model, x = make(name, n=5)
    x2 = batch(PROBLEMS[name], 4, np.random.default_rng(1))
    j, j2 = oracles.jacobian(model, x), oracles.jacobian(model, x2)
    for size in (2, 7):
        close(keras_mgs.kernel(model, x, x2, batch_size=size), oracles.kernel(j, j2))
        close(keras_mgs.kernel(model, x, batch_size=size), oracles.kernel(j))


@pytest.mark.parametrize("name", [*SOME, *list(FIRST_AXIS)[:4], "list of inputs"])
def test_chunks_do_not_change_any_result(name):
    model, x = make(name, n=5)
    j = oracles.jacobian(model, x)
    k = oracles.kernel(j)
    size = 2  # and a last one of 1
    close(keras_mgs.jacobian(model, x, batch_size=size), j)
    close(keras_mgs.sample_traces(model, x, batch_size=size), (j**2).sum((1, 2)))
    close(keras_mgs.log_det(model, x, batch_size=size), oracles.log_det(k))


def test_an_index_outside_of_its_table_stays_an_error():
    """XLA would take another row without a word, so it must not be tried instead."""
    model, x = make("embedding")
    x[0, 0] = 99
    with pytest.raises(tf.errors.InvalidArgumentError, match="99 is not in"):
        keras_mgs.trace(model, x)


def test_more_samples_than_the_default_chunk_give_the_same():
    model, x = make("dense, activations", n=70)
    j = oracles.jacobian(model, x)
    close(keras_mgs.jacobian(model, x), j)
    close(keras_mgs.kernel(model, x), oracles.kernel(j))
    close(keras_mgs.kernel(model, x, x[:40]), oracles.kernel(j, j[:40]))


@pytest.mark.parametrize("n", [4, 5])
def test_square_first_axes_are_not_mistaken_for_the_batch(n):
    """Time before the batch, as many steps as samples: the shapes alone do not show it."""
    model, x = make("time before the batch", n=n)
    close(keras_mgs.jacobian(model, x), oracles.jacobian(model, x))


def test_one_sample_and_one_output():
    model, x = make("dense", n=1)
    close(keras_mgs.kernel(model, x), oracles.kernel(oracles.jacobian(model, x)))


# Training's forward pass


def test_training_with_dropout_leaves_the_state_untouched_and_repeats_itself():
    model = sequential((4,), layers.Dense(6, "tanh"), layers.Dropout(0.5, seed=3), layers.Dense(2))
    randomise(model, np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(3, 4))
    before = [np.array(v) for v in model.variables]
    first = keras_mgs.trace(model, x, training=True)
    j = keras_mgs.jacobian(model, x, training=True)
    for v, old in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(v, old)
    close(keras_mgs.trace(model, x, training=True), first)
    close(j, oracles.jacobian(model, x, training=True))
    assert abs(first - keras_mgs.trace(model, x)) > 1e-3


def normalised(*more):
    model = sequential(
        (3,),
        layers.Dense(3, "tanh"),
        layers.BatchNormalization(momentum=0.5),
        *more,
        layers.Dense(2),
    )
    randomise(model, np.random.default_rng(0))
    return model, np.random.default_rng(1).normal(size=(4, 3))


@pytest.mark.parametrize("more", [(), (layers.BatchNormalization,)])
def test_training_with_batch_normalization_is_exact_with_the_coupling_of_the_samples(more):
    model, x = normalised(*(layer() for layer in more))
    statistics = [np.array(w) for w in model.non_trainable_weights]
    j = oracles.jacobian(model, x, training=True)
    close(j, oracles.jacobian_by_differences(model, x, training=True), 1e-7)  # see above
    close(keras_mgs.jacobian(model, x, training=True), j)
    close(keras_mgs.kernel(model, x, training=True), oracles.kernel(j))
    close(keras_mgs.trace(model, x, training=True), (j**2).sum())
    close(keras_mgs.log_det(model, x, training=True), oracles.log_det(oracles.kernel(j)))
    for w, old in zip(model.non_trainable_weights, statistics, strict=True):
        np.testing.assert_array_equal(w, old)


# Renormalisation uses statistics that the call itself changes; the spectral one its own kernel.
WITHOUT_A_RULE_IN_TRAINING = {"batch renormalization", "spectral normalization"}
IN_TRAINING = ["batch normalization, options", "batch normalization with a mask", *TRAINING]


@pytest.mark.filterwarnings("ignore:K is numerically singular")
@pytest.mark.parametrize("name", IN_TRAINING)
def test_training_equals_tape_jacobian(name):
    """With a state of its own the oracle's pass draws the same masks, from the same seeds."""
    model, x = make(name, n=4)
    j = oracles.jacobian(model, x, training=True)
    assert np.abs(j - oracles.jacobian(model, x)).max() > 1e-3 * np.abs(j).max()
    slow = announced(lambda: close(keras_mgs.jacobian(model, x, training=True), j))
    assert bool(slow) == (name in WITHOUT_A_RULE_IN_TRAINING)
    close(keras_mgs.sample_traces(model, x, training=True), (j**2).sum((1, 2)))
    close(keras_mgs.trace(model, x, training=True), (j**2).sum())
    k = oracles.kernel(j)
    close(keras_mgs.kernel(model, x, training=True), k)
    close(keras_mgs.log_det(model, x, training=True), oracles.log_det(k))


def test_frozen_batch_normalization_does_not_couple_the_samples():
    model, x = normalised()
    model.layers[1].trainable = False
    j = oracles.jacobian(model, x, training=True)
    close(keras_mgs.jacobian(model, x, training=True, batch_size=2), j)


def test_batch_statistics_that_the_model_itself_asks_for_couple_the_samples_too():
    model = subclassed(
        (3,),
        lambda p, x: p["head"](p["norm"](p["step"](x), training=True)),
        step=layers.Dense(2),
        norm=layers.BatchNormalization(),
        head=layers.Dense(2),
    )
    randomise(model, np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(4, 3))
    close(keras_mgs.jacobian(model, x), oracles.jacobian(model, x))


def test_batch_normalization_in_training_refuses_to_be_cut_into_pieces():
    model, x = normalised()
    with pytest.raises(ValueError, match="Received: batch_size=2"):
        keras_mgs.trace(model, x, training=True, batch_size=2)


def test_batch_normalization_in_training_takes_a_dataset():
    model, x = normalised()
    data = tf.data.Dataset.from_tensor_slices(x).batch(2)
    close(keras_mgs.trace(model, data, training=True), keras_mgs.trace(model, x, training=True))


# What may be passed


@pytest.mark.parametrize("name", ["dense, activations", "dict of inputs", "list of inputs"])
@pytest.mark.parametrize("labels", [False, True])
def test_a_dataset_is_the_same_as_its_arrays(name, labels):
    model, x = make(name, n=5)
    slices = tuple(x) if isinstance(x, list) else x
    if labels or isinstance(x, list):  # a dataset of two bare tensors would be one of (x, y)
        slices = (slices, np.zeros((5, 1)))
    data = tf.data.Dataset.from_tensor_slices(slices).batch(2)
    close(keras_mgs.jacobian(model, data), keras_mgs.jacobian(model, x))
    close(keras_mgs.kernel(model, data, data), keras_mgs.kernel(model, x))


def test_mgs_model_stands_for_the_model_it_wraps():
    model, x = make("conv2d stacked")
    wrapped = keras_mgs.MGSModel(model)
    for function in (keras_mgs.jacobian, keras_mgs.kernel, keras_mgs.trace, keras_mgs.log_det):
        close(function(wrapped, x), function(model, x))


def test_integers_and_single_precision_are_taken_as_the_model_takes_them():
    model, x = make("dense, activations")
    x = np.round(x)
    expected = oracles.jacobian(model, x)
    close(keras_mgs.jacobian(model, x.astype("int64")), expected)
    close(keras_mgs.jacobian(model, tf.constant(x, "float32")), expected)


def test_single_precision_models_agree_to_single_precision():
    keras.config.set_floatx("float32")  # the fixture `float64` restores it
    keras.config.set_dtype_policy("float32")
    model, x = make("conv2d stacked")
    j = keras_mgs.jacobian(model, x)
    assert j.dtype == "float32"
    close(j, oracles.jacobian(model, x), 1e-5)  # float32
    assert keras_mgs.log_det(model, x).dtype == "float64"
    assert keras_mgs.eigenvalues(model, x).dtype == "float64"


def test_layers_of_different_precision_are_summed():
    """As in Keras' recipe for mixed precision: the last layer in more bits than the others."""

    def build(dtype):
        model = sequential((3,), layers.Dense(3, "tanh", dtype=dtype), layers.Dense(2))
        randomise(model, np.random.default_rng(0))
        return model

    mixed, double = build("float32"), build("float64")
    x = np.random.default_rng(1).normal(size=(3, 3))
    for function in (keras_mgs.jacobian, keras_mgs.kernel, keras_mgs.trace, keras_mgs.log_det):
        close(function(mixed, x), function(double, x), 1e-4)  # float32


def test_results_follow_the_weights_and_the_frozen_layers():
    model, x = make("dense, activations")
    close(keras_mgs.jacobian(model, x), oracles.jacobian(model, x))
    randomise(model, np.random.default_rng(5))
    close(keras_mgs.jacobian(model, x), oracles.jacobian(model, x))
    model.layers[1].trainable = False
    close(keras_mgs.jacobian(model, x), oracles.jacobian(model, x))
    model.layers[1].trainable = True
    close(keras_mgs.jacobian(model, x), oracles.jacobian(model, x))


def test_results_follow_a_sequential_model_that_grows():
    model, x = make("dense, activations")
    keras_mgs.jacobian(model, x)
    model.add(layers.Activation("tanh"))  # no weight more, but another function
    close(keras_mgs.jacobian(model, x), oracles.jacobian(model, x))


def test_a_kernel_of_zeros_has_the_log_determinant_minus_infinity():
    model = sequential((3,), layers.Dense(2, use_bias=False))
    x = np.zeros((2, 3))
    assert keras_mgs.trace(model, x) == 0
    assert keras_mgs.log_det(model, x) == -np.inf


def test_dropout_masks_repeat_in_every_chunk_as_documented():
    """The seed's state is left as it was, so every chunk starts from it."""
    model = sequential((3,), layers.Dense(40), layers.Dropout(0.5, seed=1), layers.Dense(1))
    x = np.ones((4, 3))
    traces = keras_mgs.sample_traces(model, x, training=True, batch_size=2).numpy()
    np.testing.assert_array_equal(traces[:2], traces[2:])
    assert traces[0] != traces[1]


# Derivatives


def total(function, model, x):
    return lambda: function(model, x)


@pytest.mark.parametrize("name", ["dense, activations", "conv2d same, strided", "own layer on top"])
@pytest.mark.parametrize("function", [keras_mgs.trace, keras_mgs.log_det])
def test_gradient_of_the_function_equals_finite_differences(function, name):
    model, x = make(name)
    weights = model.trainable_weights
    with tf.GradientTape() as tape:
        value = function(model, x)
    gradient = tape.gradient(
        value, oracles.variables(model), unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    expected = oracles.finite_differences(total(function, model, x), weights)
    actual = np.concatenate([np.ravel(g) for g in gradient])
    # Log det K may have eigenvalues down to ε: its second differences are as large as 1/ε.
    close(actual, expected, 1e-7 if function is keras_mgs.trace else 1e-5)


EACH_FAMILY = [
    "conv2d stacked",
    "separable conv2d",
    "einsum dense, groups",
    "reversible embedding" if "reversible embedding" in PROBLEMS else "embedding",
    "layer normalization, options",
    "GRU, reset before",
    "LoRA, dense",
    "own layer",
]


@pytest.mark.parametrize("way", ["eager", "compiled", "XLA"])
@pytest.mark.parametrize("name", EACH_FAMILY)
def test_each_way_of_running_gives_the_same(name, way):
    model, x = make(name)
    expected = oracles.kernel(oracles.jacobian(model, x))
    if way == "eager":
        tf.config.run_functions_eagerly(True)
        try:
            close(keras_mgs.kernel(model, x), expected)
        finally:
            tf.config.run_functions_eagerly(False)
    else:
        compiled = tf.function(lambda x: keras_mgs.kernel(model, x), jit_compile=way == "XLA")
        close(compiled(keras.tree.map_structure(tf.constant, x)), expected)


# Equation 3 of the paper


def test_a_gradient_step_moves_the_outputs_by_the_kernel_to_first_order():
    model, x = make("conv2d stacked", n=4)
    x2 = batch(PROBLEMS["conv2d stacked"], 3, np.random.default_rng(1))
    y2 = np.random.default_rng(2).normal(size=(3, 2))
    k = keras_mgs.kernel(model, x, x2)
    start, f = model.get_weights(), model(x).numpy()

    def error(rate):
        model.set_weights(start)
        with tf.GradientTape() as tape:
            outputs = model(x2)
            tape.watch(outputs)
            loss = tf.reduce_sum(tf.square(outputs - y2)) / 2
        for w, g in zip(
            model.trainable_weights, tape.gradient(loss, oracles.variables(model)), strict=True
        ):
            w.assign_sub(rate * g)
        moved = model(x).numpy() - f
        predicted = -rate * (k @ tf.reshape(outputs - y2, (-1, 1)))
        return np.linalg.norm(moved.ravel() - predicted.numpy().ravel())

    errors = [error(rate) for rate in (1e-4, 5e-5, 2.5e-5)]
    for wide, narrow in itertools.pairwise(errors):
        assert 3.9 < wide / narrow < 4.1  # second order: half the rate, a quarter of the error


def test_eigenvalues_interlace_with_those_of_the_centred_scatter_matrix():
    """Supplement H: λ₁ ≤ λ̃₁ ≤ λ₂ ≤ …, λ of the gradients' scatter about their mean, λ̃ of K."""
    model, x = make("conv2d stacked", n=4)
    rows = keras_mgs.jacobian(model, x).numpy().reshape(8, -1)
    centred = rows - rows.mean(axis=0)
    # The scatter matrix, p × p, has the eigenvalues of this one and zeros.
    inner, outer = np.linalg.eigvalsh(centred @ centred.T), keras_mgs.eigenvalues(model, x).numpy()
    rounding = 1e-12 * outer[-1]
    assert (inner <= outer + rounding).all()
    assert (outer[:-1] <= inner[1:] + rounding).all()
    assert inner[-1] < 0.99 * outer[-1]  # the mean is not zero, so the two spectra differ


# Memory: what is computed in pieces


@pytest.mark.parametrize("name", ["dense with a 4D output", "conv2d dilated", "own layer on top"])
@pytest.mark.parametrize("numbers", [1, 100, 200])
def test_pieces_of_the_outputs_do_not_change_any_result(name, numbers, monkeypatch):
    model, x = make(name, n=5)
    x2 = batch(PROBLEMS[name], 3, np.random.default_rng(1))
    j, j2 = oracles.jacobian(model, x), oracles.jacobian(model, x2)
    monkeypatch.setattr(pieces, "_NUMBERS", numbers)
    close(keras_mgs.jacobian(model, x), j)
    close(keras_mgs.sample_traces(model, x), (j**2).sum((1, 2)))
    close(keras_mgs.kernel(model, x, batch_size=2), oracles.kernel(j))
    close(keras_mgs.kernel(model, x, x2, batch_size=2), oracles.kernel(j, j2))


@pytest.mark.parametrize("numbers", [1, 60, 200])
def test_pieces_of_a_coupled_batch_do_not_change_any_result(numbers, monkeypatch):
    model, x = normalised(layers.BatchNormalization())
    j = oracles.jacobian(model, x, training=True)
    monkeypatch.setattr(pieces, "_NUMBERS", numbers)
    close(keras_mgs.jacobian(model, x, training=True), j)
    close(keras_mgs.sample_traces(model, x, training=True), (j**2).sum((1, 2)))
    close(keras_mgs.kernel(model, x, training=True), oracles.kernel(j))


# Numerics


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
def test_half_precision_models_give_finite_results_of_at_least_single_precision(policy):
    def build(policy):
        keras.config.set_dtype_policy(policy)  # the fixture `float64` restores it
        model = sequential(
            (6, 6, 2),
            layers.Conv2D(3, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(3),
        )
        randomise(model, np.random.default_rng(0))
        return model

    x = np.random.default_rng(1).normal(size=(4, 6, 6, 2))
    expected = keras_mgs.kernel(build("float64"), x)
    half = build(policy)
    # 11 and 8 bits of mantissa, over a few layers.
    close(keras_mgs.kernel(half, x), expected, 0.01 if "bfloat" not in policy else 0.1)
    assert keras_mgs.trace(half, x).dtype == "float32"
    assert np.isfinite(keras_mgs.log_det(half, x))


def test_squares_that_half_precision_cannot_hold_are_summed_in_single():
    keras.config.set_dtype_policy("mixed_float16")  # the fixture `float64` restores it
    model = sequential((3,), layers.Dense(2))
    x = np.full((2, 3), 1000.0)  # squares of 1e6 overflow float16
    np.testing.assert_allclose(keras_mgs.trace(model, x), 2 * 2 * (3e6 + 1), rtol=1e-3)


SINGULAR = {
    "more rows than weights": lambda: (sequential((1,), layers.Dense(2)), np.eye(4)[:, :1] + 1),
    "the same sample twice": lambda: (sequential((3,), layers.Dense(2)), np.ones((2, 3))),
    "dead units": lambda: (
        sequential(
            (3,),
            layers.Dense(4, "relu", bias_initializer=keras.initializers.Constant(-100)),
            layers.Dense(1),
        ),
        np.eye(3),
    ),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_the_log_determinant_of_a_singular_kernel_is_finite_and_as_defined(name):
    model, x = SINGULAR[name]()
    k = oracles.kernel(oracles.jacobian(model, x))
    assert np.linalg.matrix_rank(k) < len(k)
    with pytest.warns(UserWarning, match="numerically singular"):
        close(keras_mgs.log_det(model, x), oracles.log_det(k))


def test_a_regular_kernel_is_not_called_singular():
    model, x = make("dense, activations")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keras_mgs.log_det(model, x)


def test_equal_samples_have_the_eigenvalues_of_one_times_their_number():
    """As dead networks see them. TensorFlow's own solver ends in an error on this very K."""
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3), layers.Dense(10)])
    rng = np.random.default_rng(269)
    model.set_weights([np.round(8 * rng.normal(size=w.shape)) / 8 for w in model.get_weights()])
    one = keras_mgs.eigenvalues(model, np.ones((1, 2)))
    found = keras_mgs.eigenvalues(model, np.ones((32, 2))).numpy()
    np.testing.assert_allclose(found[-10:], 32 * one, rtol=1e-9)
    np.testing.assert_allclose(found[:-10], 0, atol=1e-9)
    callback = keras_mgs.MGSMetrics(np.ones((32, 2)))
    callback.set_model(model)
    callback.on_train_begin()
    logs = {}
    callback.on_epoch_end(0, logs)
    assert logs["mgs_singular"] == 310 and np.isfinite(logs["mgs_log_det"])


FUNCTIONS = [
    keras_mgs.jacobian,
    keras_mgs.kernel,
    keras_mgs.trace,
    keras_mgs.sample_traces,
    keras_mgs.log_det,
    keras_mgs.eigenvalues,
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_outputs_that_are_not_finite_are_an_error_that_says_so(function):
    model, x = make("dense, activations")
    model.layers[0].kernel.assign(np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="outputs of 'sequential.*' with NaN or infinity"):
        function(model, x)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_derivatives_that_are_not_finite_are_an_error_that_says_so(function):
    model = sequential((3,), layers.Dense(2), layers.Activation(ops.sqrt))
    model.layers[0].kernel.assign(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="finite, but their derivatives"):
        function(model, np.ones((2, 3)))


# Properties


@st.composite
def networks(draw):
    seed = draw(st.integers(0, 10**6))
    units, outputs = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    n, width = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    hidden = draw(st.sampled_from(["tanh", "relu", "linear", "softplus"]))
    middle = draw(st.sampled_from([lambda: [], lambda: [Scale()]]))
    model = sequential(
        (width,), layers.Dense(units, hidden), *middle(), layers.Dense(outputs, use_bias=n > 2)
    )
    rng = np.random.default_rng(seed)
    randomise(model, rng)
    return model, rng.normal(size=(n, width)), rng


@settings(max_examples=4, deadline=None, derandomize=True)
@given(networks())
def test_kernel_has_the_properties_of_a_kernel(problem):
    model, x, rng = problem
    n = len(x)
    k = keras_mgs.kernel(model, x).numpy()
    values = keras_mgs.eigenvalues(model, x).numpy()
    scale = np.trace(k)
    np.testing.assert_allclose(k, k.T, rtol=0, atol=1e-12 * scale)
    assert values.min() >= -1e-12 * scale
    assert (np.diff(values) >= 0).all()
    close(scale, values.sum())
    close(scale, keras_mgs.trace(model, x))
    close(scale, keras_mgs.sample_traces(model, x).numpy().sum())
    close(keras_mgs.kernel(model, x, batch_size=2), k)

    x2 = rng.normal(size=(3, x.shape[1]))
    close(keras_mgs.kernel(model, x, x2), tf.transpose(keras_mgs.kernel(model, x2, x)))

    order, q = rng.permutation(n), len(k) // n
    rows = (order[:, None] * q + np.arange(q)).ravel()
    close(keras_mgs.kernel(model, x[order]), k[np.ix_(rows, rows)])


# What stays as it was


def attributes(model):
    found = []
    for layer in model._flatten_layers():
        found.append((layer, "call" in vars(layer), getattr(layer, "activation", None)))
        found += [(v, "_maybe_autocast" in vars(v), None) for v in layer.variables]
    return found


@pytest.mark.parametrize("name", ["conv2d stacked", "nested", "dense, activation with weights"])
def test_the_model_carries_no_trace_of_the_calls(name):
    model, x = make(name)
    before, weights = attributes(model), [w.path for w in model.weights]
    keras_mgs.jacobian(model, x)
    keras_mgs.log_det(model, x)
    assert attributes(model) == before
    assert not any(patched for _, patched, _ in before)
    assert [w.path for w in model.weights] == weights


class Failing(layers.Layer):
    fails = True

    def call(self, x):
        if self.fails:
            raise RuntimeError("as asked")
        return x


def test_the_model_carries_no_trace_of_a_call_that_failed_and_works_afterwards():
    failing = Failing()
    failing.fails = False
    model = sequential((3,), layers.Dense(3, "tanh"), failing, layers.Dense(2))
    before = attributes(model)
    x = np.ones((2, 3))
    failing.fails = True
    with pytest.raises(RuntimeError, match="as asked"):
        keras_mgs.trace(model, x)
    assert attributes(model) == before
    failing.fails = False
    close(keras_mgs.jacobian(model, x), oracles.jacobian(model, x))


@pytest.mark.parametrize("name", ["dense, activations", "conv2d valid", "own layer"])
def test_a_model_that_was_measured_can_be_freed(name):
    model, x = make(name)
    keras_mgs.jacobian(model, x)
    keras_mgs.log_det(model, x)
    reference = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert reference() is None
