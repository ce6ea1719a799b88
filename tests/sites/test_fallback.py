"""The fallback: announced once by name, and used for nothing that a rule explains."""

import logging

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from keras import layers, ops
from problems import FALLBACK, Scale, announced, make, sequential

import keras_mgs
from keras_mgs import autodiff

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


class OfTheBatch(layers.Layer):
    """Adds the mean over the batch, times a weight that may be zero: then f does not show it."""

    def __init__(self, gate, **kwargs):
        super().__init__(**kwargs)
        self.first = gate

    def build(self, shape):
        self.gate = self.add_weight(shape=(shape[-1],), initializer=self.initial, name="gate")

    def initial(self, shape, dtype=None):
        return ops.full(shape, self.first, dtype)

    def call(self, x):
        return x + self.gate * ops.mean(x, axis=0, keepdims=True)


@pytest.mark.parametrize("gate", [0.0, 0.5])
def test_layers_of_ones_own_that_mix_samples_are_found_out(gate):
    """The weights before them, too: these have no rule either."""
    model = sequential((3,), Scale(), OfTheBatch(gate), Scale(), layers.Dense(2))
    x = np.random.default_rng(0).normal(size=(5, 3))
    j = oracles.jacobian(model, x)
    for _ in range(2):  # once it is known, copies are not tried
        np.testing.assert_allclose(
            np.ravel(keras_mgs.jacobian(model, x)), np.ravel(j), rtol=1e-9, atol=1e-12
        )
    np.testing.assert_allclose(keras_mgs.trace(model, x), (j**2).sum(), rtol=1e-9)


def own_layers(*more):
    return sequential((4, 4, 3), Scale(), layers.Conv2D(2, 2), *more, Scale(), layers.Flatten())


def test_independent_samples_take_a_reverse_pass_per_output_and_not_per_sample(monkeypatch):
    """So many rows of cotangents go back, and the slower way is never taken."""

    def never(*_):
        raise AssertionError("a reverse pass for each sample")

    monkeypatch.setattr(autodiff, "row_jacobian", never)
    model, x = own_layers(), np.random.default_rng(0).normal(size=(5, 4, 4, 3))
    j = oracles.jacobian(model, x)
    np.testing.assert_allclose(keras_mgs.trace(model, x), (j**2).sum(), rtol=1e-9)
    k = oracles.kernel(j)
    np.testing.assert_allclose(keras_mgs.kernel(model, x, batch_size=2), k, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_half_precision_has_j_to_its_rounding(policy):
    def network():
        return sequential((3,), Scale(), layers.Dense(4, "tanh"), Scale(), layers.Dense(2))

    x, reference = np.random.default_rng(0).normal(size=(5, 3)), network()
    keras.config.set_dtype_policy(policy)
    model = network()
    model.set_weights(reference.get_weights())
    found = keras_mgs.trace(model, x)
    assert found.dtype == "float32"
    # bfloat16 keeps eight bits, and five operations round.
    np.testing.assert_allclose(found, (oracles.jacobian(reference, x) ** 2).sum(), rtol=0.03)


def test_it_serves_a_function_of_the_users_own_with_sparse_inputs():
    model = keras.Sequential(
        [keras.Input((3,), sparse=True), layers.Dense(4), Scale(), layers.Dense(2)]
    )
    x = tf.sparse.from_dense(tf.constant([[1.0, 0, 0], [0, 2, 0]], "float64"))
    expected = keras_mgs.trace(model, x)
    np.testing.assert_allclose(
        tf.function(lambda x: keras_mgs.trace(model, x))(x), expected, rtol=1e-9
    )


@pytest.mark.parametrize("way", [lambda f: f, tf.function, tf.function(jit_compile=True)])
@pytest.mark.parametrize("mixing", [False, True])
@pytest.mark.parametrize(("kind", "penalty"), [
    ("exact", keras_mgs.TracePenalty(1.0, "exact", every=1)),
    ("log_det", keras_mgs.LogDetPenalty(1.0, epsilon=1e-3)),
])  # fmt: skip
def test_exact_penalties_of_such_layers_have_the_gradient_of_the_plain_loop(
    kind, penalty, mixing, way
):
    more = [OfTheBatch(0.5)] if mixing else []
    model = sequential((3,), Scale(), *more, layers.Dense(2, "tanh"), Scale())
    x = tf.constant(np.random.default_rng(0).normal(size=(4, 3)))
    weights = oracles.variables(model)

    def gradient():
        with tf.GradientTape() as tape:
            _, value = penalty(model, x, 0)
        return value, tape.gradient(value, weights)

    with tf.GradientTape() as tape:
        _, expected = oracles.penalty(kind, lambda: model(x), weights, epsilon=1e-3)
    value, found = way(gradient)()
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    for g, e in zip(found, tape.gradient(expected, weights), strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-8, atol=1e-9)  # log det's second derivative


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
