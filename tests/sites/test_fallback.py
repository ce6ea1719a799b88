"""The fallback: announced once by name, and used for nothing that a rule explains."""

import logging

import numpy as np
import oracles
import pytest
import tensorflow as tf
from keras import layers, ops
from problems import FALLBACK, Scale, announced, make, sequential

import keras_mgs

pytestmark = pytest.mark.usefixtures("float64")


def test_layers_without_a_rule_are_named_once_and_the_others_not():
    model = sequential((3,), layers.Dense(3, name="known"), Scale(name="mine"), layers.Dense(2))
    x = np.ones((2, 3))
    messages = announced(lambda: (keras_mgs.trace(model, x), keras_mgs.log_det(model, x)))
    assert len(messages) == 1
    assert "mine (Scale)" in messages[0]
    assert "known" not in messages[0]
    assert not announced(lambda: keras_mgs.jacobian(model, x))


@pytest.mark.parametrize("name", FALLBACK)
def test_layers_without_a_rule_are_announced(name):
    model, x = make(name)
    assert announced(lambda: keras_mgs.trace(model, x))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("kernel read by another layer", "Dense"),
        ("embedding read by another layer", "Embedding"),
        ("cells one above the other", "LSTMCell"),
        ("time folded into the batch", "Dense"),
    ],
)
def test_what_no_rule_explains_is_announced(name, layer):
    model, x = make(name)
    (message,) = announced(lambda: keras_mgs.trace(model, x))
    assert layer in message


@pytest.mark.parametrize(
    "name",
    ["nested", "layer called twice", "sub-model used twice", "residual", "dict of inputs",
     "function", "functions in functions, compiled",
     "in the open and in a function", "function with a signature",
     "list of outputs", "subclassed", "frozen layer", "layers called by keyword"],
)  # fmt: skip
def test_structures_that_the_rules_explain_stay_fast(name):
    model, x = make(name)
    if name == "nested":
        assert all(
            "Scale" in m and "Dense" not in m for m in announced(lambda: keras_mgs.trace(model, x))
        )
    else:
        assert not announced(lambda: keras_mgs.trace(model, x))


def test_coupled_samples_are_not_announced_and_exact():
    model, x = make("one normalization, called twice")
    expected = (oracles.jacobian(model, x, training=True) ** 2).sum()

    def check():
        actual = keras_mgs.trace(model, x, training=True)
        np.testing.assert_allclose(actual, expected, rtol=1e-9)

    assert not announced(check)


class Scanned(layers.Layer):
    """A recurrence of the user's own, which TensorFlow cannot vectorise."""

    def build(self, shape):
        self.dense = layers.Dense(3, "tanh")
        self.dense.build((None, 3))

    def call(self, x):
        first, steps = ops.zeros_like(x[:, 0]), ops.swapaxes(x, 0, 1)
        return ops.scan(lambda c, t: (self.dense(c + t), None), first, steps)[0]


def test_what_is_done_another_way_is_not_logged_by_tensorflow_as_an_error():
    model = sequential((5, 3), Scanned(), layers.Dense(2))
    x = np.random.default_rng(0).normal(size=(3, 5, 3))
    records, handler = [], logging.Handler()
    handler.emit = records.append
    logger = tf.get_logger()
    filters = list(logger.filters)
    logger.addHandler(handler)
    try:
        found = keras_mgs.trace(model, x)
    finally:
        logger.removeHandler(handler)
    np.testing.assert_allclose(found, (oracles.jacobian(model, x) ** 2).sum(), rtol=1e-9)
    assert not [r for r in records if r.levelno >= logging.ERROR]
    assert logger.filters == filters
