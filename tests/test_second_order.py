"""Second derivatives stay right, or are refused, when Keras computes in another way."""

import contextlib
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from problems import announced, randomise, sequential

import keras_mgs
from keras_mgs import second_order

X, Y = np.random.default_rng(1).normal(size=(4, 4)), np.ones((4, 2))


def stopped(x, axes, keepdims):
    """As TensorFlow had it up to 2.21."""
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.math.squared_difference(x, tf.stop_gradient(mean))
    variance = tf.reduce_mean(variance, axes, keepdims=keepdims)
    return mean if keepdims else tf.squeeze(mean, axes), variance


WAYS = {
    "wrong": stopped,
    "exact": lambda x, axes, keepdims: (
        tf.reduce_mean(x, axes, keepdims=keepdims),
        tf.math.reduce_variance(x, axes, keepdims=keepdims),
    ),
}


@pytest.fixture
def keras_computes_moments(monkeypatch):
    """Keras as it may be one day: its layers do not call what `tf.nn.moments` is at the time."""

    def by(way):
        backend = sys.modules[keras.ops.moments.__module__].backend
        monkeypatch.setattr(
            getattr(backend, "ops", backend).nn,  # `backend.ops` since Keras 3.16
            "moments",
            lambda x, axes, keepdims=False, synchronized=False: WAYS[way](x, axes, keepdims),
        )
        second_order._is_exact.cache_clear()

    yield by
    monkeypatch.undo()
    second_order._is_exact.cache_clear()


def network(normalization):
    model = sequential((4,), layers.Dense(4, "tanh"), normalization, layers.Dense(2))
    randomise(model, np.random.default_rng(0))
    return model


def fit(model, penalty):
    mgs = keras_mgs.MGSModel(model, penalty)
    mgs.compile("sgd", "mse")
    mgs.fit(X, Y, verbose=0)


USES = {
    "trace": lambda model: keras_mgs.trace(model, X, training=True),
    "projection": lambda model: fit(model, keras_mgs.TracePenalty(1.0)),
    "exact": lambda model: fit(model, keras_mgs.TracePenalty(1.0, "exact")),
    "loss gradient": lambda model: fit(model, keras_mgs.LossGradientPenalty(1.0)),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", [layers.BatchNormalization, layers.GroupNormalization])
def test_statistics_with_a_wrong_second_derivative_are_refused(kind, use, keras_computes_moments):
    keras_computes_moments("wrong")
    layer = kind() if kind is layers.BatchNormalization else kind(1)
    with pytest.raises(NotImplementedError, match=f"second derivative of {kind.__name__}"):
        USES[use](network(layer))


@pytest.mark.usefixtures("float64")
def test_what_needs_no_such_statistics_goes_on(keras_computes_moments):
    frozen = layers.BatchNormalization(trainable=False)
    models = [
        network(layer) for layer in (layers.BatchNormalization(), layers.LayerNormalization())
    ]
    expected = [keras_mgs.kernel(model, X) for model in models]
    keras_computes_moments("wrong")
    for model, k in zip(models, expected, strict=True):
        np.testing.assert_allclose(keras_mgs.kernel(model, X), k, rtol=1e-9)
    assert not announced(lambda: keras_mgs.trace(network(frozen), X, training=True))


@pytest.mark.usefixtures("float64")
def test_another_way_that_is_exact_is_taken(keras_computes_moments):
    model = network(layers.BatchNormalization())
    expected = keras_mgs.trace(model, X, training=True)
    keras_computes_moments("exact")
    again = network(layers.BatchNormalization())  # compiled anew
    np.testing.assert_allclose(keras_mgs.trace(again, X, training=True), expected, rtol=1e-9)


def absolute(x):
    return x if tf.reduce_sum(x) > 0 else -x  # in a graph it is AutoGraph that allows this


@pytest.mark.parametrize("autograph", [True, False])
def test_a_function_runs_as_part_of_the_pass_with_autograph_or_without(autograph):
    inner = tf.function(absolute, autograph=autograph)
    outer = tf.function(lambda x: inner(x), autograph=False)
    refused = pytest.raises(TypeError, match="bool")
    with second_order.twice_differentiable(), contextlib.nullcontext() if autograph else refused:
        outer.get_concrete_function(tf.ones(1))


def test_functions_of_tensorflow_s_own_stay_functions():
    """`tf.vectorized_map` makes one of what it is given, and works in a graph only."""
    with second_order.twice_differentiable():
        np.testing.assert_array_equal(tf.vectorized_map(lambda t: t + 1, tf.ones(2)), [2, 2])
