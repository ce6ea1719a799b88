"""The raw outputs: however a softmax or sigmoid is spelled, K is that of the logits."""

import warnings

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from keras import layers, ops
from problems import Subclassed, randomise, sequential

import keras_mgs
from keras_mgs import outputs

pytestmark = pytest.mark.usefixtures("float64")
X = np.random.default_rng(1).normal(size=(3, 3))


@pytest.fixture(autouse=True)
def forget_warnings(monkeypatch):
    monkeypatch.setattr(outputs, "_WARNED", set())


def hidden():
    return layers.Dense(3, "tanh")


def functional(end, units=2):
    x = keras.Input((3,))
    return keras.Model(x, end(layers.Dense(units)(hidden()(x))))


def subclassed(end, units=2):
    model = Subclassed(
        {"a": hidden(), "b": layers.Dense(units)}, lambda p, x: end(p["b"](p["a"](x)))
    )
    model(X)
    return model


def identity(x):
    return x


def randomised(model):
    randomise(model, np.random.default_rng(0))
    return model


def logits():
    """J of the network without its end."""
    return oracles.jacobian(randomised(functional(identity)), X)


SPELLINGS = {
    "softmax argument": lambda: sequential((3,), hidden(), layers.Dense(2, "softmax")),
    "sigmoid argument": lambda: sequential((3,), hidden(), layers.Dense(2, "sigmoid")),
    "Activation layer": lambda: sequential(
        (3,), hidden(), layers.Dense(2), layers.Activation("softmax")
    ),
    "Softmax layer": lambda: sequential((3,), hidden(), layers.Dense(2), layers.Softmax()),
    "Activation layer, sigmoid": lambda: sequential(
        (3,), hidden(), layers.Dense(2), layers.Activation("sigmoid")
    ),
    "keras.ops.softmax, functional": lambda: functional(ops.softmax),
    "keras.ops.sigmoid, functional": lambda: functional(ops.sigmoid),
    "keras.ops.softmax, subclassed": lambda: subclassed(ops.softmax),
    "keras.activations.softmax, subclassed": lambda: subclassed(keras.activations.softmax),
    "tf.nn.softmax, subclassed": lambda: subclassed(tf.nn.softmax),
    "tf.sigmoid, subclassed": lambda: subclassed(tf.sigmoid),
    "reshaped afterwards": lambda: functional(lambda t: layers.Reshape((2, 1))(ops.softmax(t))),
    "in a nested model": lambda: keras.Sequential(
        [keras.Input((3,)), sequential((3,), hidden(), layers.Dense(2, "softmax"))]
    ),
    "in an MGSModel": lambda: keras_mgs.MGSModel(
        sequential((3,), hidden(), layers.Dense(2, "softmax"))
    ),
    "dropout before it": lambda: sequential(
        (3,), hidden(), layers.Dense(2), layers.Dropout(0.5), layers.Softmax()
    ),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_final_softmax_or_sigmoid_is_undone_without_a_warning(name):
    model = randomised(SPELLINGS[name]())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        j = keras_mgs.jacobian(model, X)
    np.testing.assert_allclose(j, logits(), rtol=1e-9, atol=1e-12)


def test_softmax_over_another_axis_is_undone_or_announced():
    def build(*more):
        model = sequential((3,), layers.Dense(4), layers.Reshape((2, 2)), *more)
        return randomised(model)

    np.testing.assert_allclose(
        keras_mgs.jacobian(build(layers.Softmax(axis=1)), X),
        oracles.jacobian(build(), X),
        rtol=1e-9,
        atol=1e-12,
    )


def test_outputs_with_an_end_each_are_undone_one_by_one():
    def build(one, two):
        x = keras.Input((3,))
        h = hidden()(x)
        model = keras.Model(
            x, {"zeta": layers.Dense(2, one)(h), "alpha": [layers.Dense(1, two)(h), h]}
        )
        return randomised(model)

    np.testing.assert_allclose(
        keras_mgs.jacobian(build("softmax", "sigmoid"), X),
        oracles.jacobian(build(None, None), X),
        rtol=1e-9,
        atol=1e-12,
    )


ENDS = {
    "log softmax": ops.log_softmax,
    "log of softmax": lambda t: ops.log(ops.softmax(t)),
    "scaled softmax": lambda t: 2.0 * ops.softmax(t),
    "softmax, scaled": lambda t: ops.softmax(t) * 2.0,
    "clipped softmax": lambda t: ops.clip(ops.softmax(t), 1e-7, 1.0),
    "one minus sigmoid": lambda t: 1.0 - ops.sigmoid(t),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_cannot_be_undone_is_said_once_and_k_is_that_of_the_output(name):
    model = randomised(functional(ENDS[name]))
    with pytest.warns(UserWarning, match="cannot undo") as caught:
        j = keras_mgs.jacobian(model, X)
        keras_mgs.trace(model, X)
    assert sum("cannot undo" in str(w.message) for w in caught) == 1
    np.testing.assert_allclose(j, oracles.jacobian(model, X), rtol=1e-9, atol=1e-12)


HIDDEN = {
    "sigmoid, then dense of the same width": lambda: sequential(
        (3,), layers.Dense(2, "sigmoid"), layers.Dense(2)
    ),
    "softmax, then dense": lambda: sequential((3,), layers.Dense(3, "softmax"), layers.Dense(2)),
    "sigmoid, then dense without bias": lambda: sequential(
        (3,), layers.Dense(2, "sigmoid"), layers.Dense(2, use_bias=False)
    ),
    "silu": lambda: sequential((3,), layers.Dense(2, "silu")),
    "gated": lambda: functional(lambda t: ops.sigmoid(t) * t),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_sigmoid_inside_the_network_is_no_normalisation_of_its_output(name):
    model = randomised(HIDDEN[name]())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        j = keras_mgs.jacobian(model, X)
    np.testing.assert_allclose(j, oracles.jacobian(model, X), rtol=1e-9, atol=1e-12)


EAGER = ["softmax argument", "Softmax layer", "keras.ops.softmax, functional",
         "keras.ops.softmax, subclassed", "tf.nn.softmax, subclassed"]  # fmt: skip


@pytest.mark.parametrize("name", EAGER)
def test_eager_training_undoes_it_too_or_says_that_it_cannot(name):
    """Eager tensors have no graph to read: then one warning, never another K in silence."""
    penalty = keras_mgs.TracePenalty(1.0, "exact", every=1)
    mgs = keras_mgs.MGSModel(randomised(SPELLINGS[name]()), penalty)
    mgs.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = mgs.fit(X, np.ones((3, 2)), verbose=0).history
    right = history["mgs_penalty"] == [pytest.approx((logits() ** 2).sum())]
    assert right or any("cannot undo" in str(w.message) for w in caught)


@pytest.mark.parametrize("name", ["softmax argument", "keras.ops.softmax, functional"])
@pytest.mark.parametrize("jit", [False, True])
def test_compiled_training_undoes_it(name, jit):
    penalty = keras_mgs.TracePenalty(1.0, "exact", every=1)
    mgs = keras_mgs.MGSModel(randomised(SPELLINGS[name]()), penalty)
    mgs.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=jit)
    history = mgs.fit(X, np.ones((3, 2)), verbose=0).history
    assert history["mgs_penalty"] == [pytest.approx((logits() ** 2).sum())]
