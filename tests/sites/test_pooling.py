"""Convolutions seen through max-pooling: the same numbers, from the positions that it keeps."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers, ops
from problems import randomise, sequential

import keras_mgs
from keras_mgs.sites import survey

pytestmark = pytest.mark.usefixtures("float64")


def conv(channels=3, size=3, rank=2, **options):
    options = {"activation": "relu", "padding": "same"} | options
    return getattr(layers, f"Conv{rank}D")(channels, size, **options)


def made(model, n=3, seed=0):
    """The model with random weights, and a batch for it."""
    rng = np.random.default_rng(seed)
    randomise(model, rng)
    return model, rng.normal(size=(n, *model.input_shape[1:]))


def looks_through(model, x, layer):
    """Whether the layer's cotangents are taken after the pooling."""
    kernel, bias = model.layers[layer].weights
    found = survey(model, x, False)
    assert id(bias) not in found.unsound
    return found.shapes[id(kernel)].groups > 1


def check(model, x):
    j = oracles.jacobian(model, x)
    exact = {"rtol": 1e-9, "atol": 1e-9 * np.abs(j).max()}
    np.testing.assert_allclose(keras_mgs.jacobian(model, x), j, **exact)
    k = oracles.kernel(j)
    np.testing.assert_allclose(keras_mgs.kernel(model, x), k, rtol=1e-9, atol=1e-9 * k.max())
    traces = (j**2).sum((1, 2))
    np.testing.assert_allclose(keras_mgs.sample_traces(model, x), traces, rtol=1e-9)


SEEN = {
    "one dimension": ((7, 2), lambda: [conv(rank=1), layers.MaxPooling1D(2)]),
    "two dimensions": ((6, 4, 2), lambda: [conv(), layers.MaxPooling2D((3, 2))]),
    "a rest that no window reaches": ((5, 7, 1), lambda: [conv(), layers.MaxPooling2D()]),
    "padded where nothing is to be padded": (
        (4, 4, 1),
        lambda: [conv(), layers.MaxPooling2D(padding="same")],
    ),
    "no activation": ((4, 4, 2), lambda: [conv(activation=None), layers.MaxPooling2D()]),
    "strides of its own": (
        (9, 6, 2),
        lambda: [conv(2, 2, padding="valid", strides=(2, 1)), layers.MaxPooling2D()],
    ),
    "no bias": ((4, 4, 2), lambda: [conv(2, use_bias=False), layers.MaxPooling2D()]),
}


@pytest.mark.parametrize("name", SEEN)
def test_the_numbers_are_those_of_brute_force(name):
    shape, make = SEEN[name]
    layer, pool = make()
    model, x = made(sequential(shape, layer, pool, layers.Flatten(), layers.Dense(2)))
    assert survey(model, x, False).shapes[id(layer.kernel)].groups == layer.filters
    check(model, x)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(
    sides=st.tuples(st.integers(2, 7), st.integers(2, 7)),
    window=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    channels=st.integers(1, 3),
    size=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_any_sizes(sides, window, channels, size, seed):
    model = sequential(
        (*sides, 2), conv(channels, size), layers.MaxPooling2D(window), layers.Flatten()
    )
    check(*made(model, 2, seed))


UNSEEN = {
    "overlapping windows": lambda: [conv(), layers.MaxPooling2D(3, 2)],
    "padded windows": lambda: [conv(), layers.MaxPooling2D(2, padding="same")],
    "an activation of other slopes": lambda: [conv(activation="tanh"), layers.MaxPooling2D()],
    "a layer between": lambda: [conv(activation=None), layers.ReLU(), layers.MaxPooling2D()],
    "mean pooling": lambda: [conv(), layers.AveragePooling2D(2)],
    "many more features than without": lambda: [conv(32), layers.MaxPooling2D()],
    "a transposed convolution": lambda: [
        layers.Conv2DTranspose(3, 3, activation="relu"),
        layers.MaxPooling2D(),
    ],
}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_it_does_not_hold_for_is_left_as_it_was(name):
    stack = UNSEEN[name]()
    model, x = made(sequential((5, 5, 2), *stack, layers.GlobalAveragePooling2D(), layers.Dense(2)))
    assert not looks_through(model, x, 0)
    check(model, x)


@pytest.mark.parametrize("first", ["the pooling", "the other"])
def test_an_output_that_something_else_reads_too_keeps_all_of_its_positions(first):
    inputs = keras.Input((4, 4, 2))
    a = conv()(inputs)
    readers = [layers.MaxPooling2D(), layers.AveragePooling2D(2)]
    y = layers.add([reader(a) for reader in (readers if first == "the pooling" else readers[::-1])])
    model, x = made(keras.Model(inputs, layers.Flatten()(y)))
    assert not looks_through(model, x, 1)
    check(model, x)


def test_an_output_that_is_an_output_of_the_model_too_keeps_all_of_its_positions():
    inputs = keras.Input((4, 4, 2))
    a = conv()(inputs)
    model, x = made(keras.Model(inputs, [layers.MaxPooling2D()(a), a]))
    assert not looks_through(model, x, 1)
    check(model, x)


def test_a_convolution_that_is_called_twice_adds_up_before_it_is_squared():
    inputs = keras.Input((4, 4, 1))
    shared, pool = conv(), layers.MaxPooling2D()
    turned = layers.Permute((2, 1, 3))(inputs)
    outputs = {
        "both pooled": [pool(shared(inputs)), pool(shared(turned))],
        "one of them": [pool(shared(inputs)), layers.AveragePooling2D(2)(shared(turned))],
    }
    for parts in outputs.values():
        check(*made(keras.Model(inputs, layers.Flatten()(layers.add(parts)))))


def test_a_frozen_kernel_leaves_its_bias():
    layer = conv()
    model, x = made(sequential((4, 4, 1), layer, layers.MaxPooling2D(), layers.Flatten()))
    layer._kernel.trainable = False
    assert [w.name for w in model.trainable_weights] == ["bias"]
    check(model, x)


def gradients(penalty, model, x, jit_compile=False):
    """The penalty's value, and its derivatives by the weights."""

    @tf.function(jit_compile=jit_compile, autograph=False)
    def run(x):
        with tf.GradientTape() as tape:
            _, value = penalty(model, x, 0)
        zero = tf.UnconnectedGradients.ZERO
        return value, *tape.gradient(value, oracles.variables(model), unconnected_gradients=zero)

    return run(ops.convert_to_tensor(x))


def brute_force(kind, model, x):
    with tf.GradientTape() as tape:
        _, value = oracles.penalty(kind, lambda: oracles.flat(model(x)), oracles.variables(model))
    zero = tf.UnconnectedGradients.ZERO
    return value, *tape.gradient(value, oracles.variables(model), unconnected_gradients=zero)


PENALTIES = {
    "exact": keras_mgs.TracePenalty(1.0, estimator="exact", every=1),
    "log_det": keras_mgs.LogDetPenalty(1.0),
}


@pytest.mark.parametrize("kind", PENALTIES)
def test_gradients_of_the_penalties_are_those_of_brute_force(kind):
    """Two convolutions: features and cotangents of the second one depend on the first."""
    stack = [conv(2), layers.MaxPooling2D(), conv(3), layers.MaxPooling2D()]
    model, x = made(sequential((8, 8, 1), *stack, layers.Flatten(), layers.Dense(2)))
    assert looks_through(model, x, 0) and looks_through(model, x, 2)
    found = gradients(PENALTIES[kind], model, x)
    for a, b in zip(found, brute_force(kind, model, x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(b).max())


@pytest.mark.parametrize("kind", PENALTIES)
def test_xla_finds_the_same(kind):
    """One pooling: XLA cannot differentiate the pass through one twice in double precision."""
    stack = [conv(2), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(2)]
    model, x = made(sequential((6, 6, 1), *stack))
    found = gradients(PENALTIES[kind], model, x, jit_compile=True)
    for a, b in zip(found, gradients(PENALTIES[kind], model, x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(b).max())


def test_half_precision_is_right_to_its_rounding():
    shape, stack = (
        (6, 6, 1),
        lambda dtype: [
            conv(dtype=dtype),
            layers.MaxPooling2D(dtype=dtype),
            layers.Flatten(dtype=dtype),
            layers.Dense(2, dtype=dtype),
        ],
    )
    exact, x = made(sequential(shape, *stack("float64")))
    model = sequential(shape, *stack("mixed_bfloat16"))
    model.set_weights(exact.get_weights())
    assert looks_through(model, x, 0)
    expected = (oracles.jacobian(exact, x) ** 2).sum()
    np.testing.assert_allclose(keras_mgs.trace(model, x), expected, rtol=0.02)  # of 8 bits


def test_three_dimensions_in_single_precision():
    """TensorFlow pools these in no other one on a CPU."""
    keras.config.set_floatx("float32")  # put back by the fixture
    keras.config.set_dtype_policy("float32")
    stack = [conv(2, 2, rank=3), layers.MaxPooling3D((2, 2, 1)), layers.Flatten()]
    model, x = made(sequential((2, 4, 2, 1), *stack))
    assert looks_through(model, x, 0)
    j = oracles.jacobian(model, x.astype("float32"))
    np.testing.assert_allclose(keras_mgs.jacobian(model, x), j, rtol=1e-5, atol=1e-5)
