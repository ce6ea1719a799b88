"""A part of a batch does alone what it does in the batch, or is not run alone."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from keras import layers
from problems import FIRST_AXIS, SHARING, STRUCTURE, make, randomise, sequential

import keras_mgs
from keras_mgs import MGSModel, TracePenalty, parts

pytestmark = pytest.mark.usefixtures("float64")
N, M = 8, 3


def batch(n=N):
    return tf.constant(np.random.default_rng(1).normal(size=(n, 3)))


def estimate(model, x, samples):
    """(estimate, its gradient) of one training step."""
    with tf.GradientTape() as tape:
        _, value = TracePenalty(1.0, every=1, samples=samples)(model, x, 0)
    return value, tape.gradient(
        value, oracles.variables(model), unconnected_gradients=tf.UnconnectedGradients.ZERO
    )


RANDOM = {
    "dropout": lambda: layers.Dropout(0.5, seed=3),
    "alpha dropout": lambda: layers.AlphaDropout(0.4, seed=3),
    "spatial dropout": lambda: layers.Dropout(0.5, noise_shape=(None, 1), seed=3),
    "shared dropout": lambda: layers.Dropout(0.5, noise_shape=(1, 4), seed=3),
}


def network(more):
    model = sequential((3,), layers.Dense(4, "tanh"), more, layers.Dense(2))
    randomise(model, np.random.default_rng(0))
    return model


@pytest.mark.parametrize("name", RANDOM)
def test_the_estimate_is_that_of_the_first_rows_of_one_forward_pass(name):
    """Random masks included, which are drawn once."""
    model, reference, x = network(RANDOM[name]()), network(RANDOM[name]()), batch()
    value, gradients = estimate(model, x, M)
    weights = oracles.variables(reference)
    with tf.GradientTape() as tape:
        _, expected = oracles.penalty(
            "hutchinson", lambda: reference(x, training=True), weights, samples=M
        )
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    for found, wanted in zip(gradients, tape.gradient(expected, weights), strict=True):
        np.testing.assert_allclose(found, 0.0 if wanted is None else wanted, rtol=1e-9, atol=1e-12)
    for v, w in zip(model.variables, reference.variables, strict=True):
        np.testing.assert_array_equal(v, w)  # the random state has moved on once


WAYS = {"eager": lambda f: f, "graph": tf.function, "xla": tf.function(jit_compile=True)}


@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_float16"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", RANDOM)
def test_a_part_has_the_random_masks_of_the_whole_however_it_is_compiled(name, way, dtype):
    """Generators of random numbers count by position: an odd one, and many numbers, are seen."""
    keras.config.set_dtype_policy(dtype)
    if name == "shared dropout":
        more = layers.Dropout(0.5, noise_shape=(1, 37), seed=3)
    else:
        more = RANDOM[name]()
    model = sequential((3,), layers.Dense(37), more)
    penalty = TracePenalty(1.0, samples=5)

    def run(x):
        with penalty.watching(model, x, 0) as forward:
            whole = forward(model)
        return whole.part.f, whole.f

    for n in (32, 33):
        part, whole = WAYS[way](run)(batch(n))
        assert part.shape == (5, 37)
        # Products of matrices with other numbers of rows may be rounded otherwise.
        tolerance = {"float32": 1e-5, "float64": 1e-12, "mixed_float16": 1e-2}[dtype]
        np.testing.assert_allclose(part, whole[:5], rtol=tolerance, atol=tolerance)


def test_over_shuffled_batches_parts_estimate_the_trace_of_the_whole():
    model, x = make("dense, activations", n=N)
    x, rng = np.asarray(x), np.random.default_rng(2)
    penalty = TracePenalty(1.0, every=1, samples=M)
    run = tf.function(lambda x, seed: penalty(model, x, seed)[1], autograph=False)
    drawn = np.array(
        [run(tf.constant(rng.permutation(x)), tf.constant(seed)) for seed in range(800)]
    )
    error = drawn.std(ddof=1) / np.sqrt(len(drawn))
    exact = float(keras_mgs.trace(model, x))
    assert error < 0.1 * exact
    assert abs(drawn.mean() - exact) < 4 * error


@pytest.mark.parametrize("samples", [None, N, N + 5])
def test_where_there_is_nothing_to_leave_out_the_whole_batch_is_taken(samples):
    model, x = make("dense, activations", n=N)
    x = tf.convert_to_tensor(x)
    value, _ = estimate(model, x, samples)
    weights = oracles.variables(model)
    expected = oracles.penalty("hutchinson", lambda: oracles.flat(model(x)), weights)[1]
    np.testing.assert_allclose(value, expected, rtol=1e-9)


class Fixed(keras.Model):
    """A model that is written for one batch size."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, x):
        return self.dense(keras.ops.reshape(x, (N, 3)))


def stateful():
    cell = layers.SimpleRNN(2, stateful=True, unroll=True)
    return keras.Sequential([keras.Input((2, 3), batch_size=N), cell, layers.Dense(2)])


def with_a_scalar():
    inputs = keras.Input((3,))
    f = layers.Dense(2)(inputs)
    return keras.Model(inputs, [f, keras.ops.sum(f)])


def normalised(trainable=True):
    layer = layers.BatchNormalization()
    layer.trainable = trainable
    return sequential((3,), layers.Dense(4), layer, layers.Dense(2))


def fixed():
    model = Fixed()
    model(batch())
    return model


UNDIVIDED = {
    "batch statistics": normalised,
    "one batch size": fixed,
    "stateful": stateful,
    "gaussian noise": lambda: network(layers.GaussianNoise(0.3, seed=3)),
    "gaussian dropout": lambda: network(layers.GaussianDropout(0.3, seed=3)),
}


@pytest.mark.parametrize("name", UNDIVIDED)
def test_a_batch_that_cannot_be_divided_is_penalised_whole(name):
    shape = (N, 2, 3) if name == "stateful" else (N, 3)
    x = tf.constant(np.random.default_rng(1).normal(size=shape))
    model, reference = UNDIVIDED[name](), UNDIVIDED[name]()
    reference.set_weights(model.get_weights())
    value, _ = estimate(model, x, M)
    expected = oracles.penalty(
        "hutchinson", lambda: reference(x, training=True), oracles.variables(reference)
    )[1]
    np.testing.assert_allclose(value, expected, rtol=1e-9)


def test_frozen_batch_statistics_tie_no_samples_together():
    x = batch()
    assert parts.separable(normalised(trainable=False), x, M, training=True)
    assert parts.separable(normalised(), x, M, training=False)
    model = normalised()
    assert not parts.separable(model, x, M, training=True)
    model.layers[1].trainable = False
    assert parts.separable(model, x, M, training=True)


@pytest.mark.parametrize("n", [0, 1, 3, 5])
def test_a_part_has_its_size_in_a_graph_whatever_the_batch_has(n):
    x = {"numbers": np.arange(2.0 * n).reshape(n, 2), "text": np.array(["a"] * n, dtype="object")}

    @tf.function(
        input_signature=[
            {
                "numbers": tf.TensorSpec((None, 2), "float64"),
                "text": tf.TensorSpec((None,), "string"),
            }
        ]
    )
    def part(x):
        found = parts.first(x, M)
        assert all(len(t) == M for t in found.values())
        return found

    found = part(
        keras.tree.map_structure(tf.constant, x)
        if n
        else {"numbers": tf.zeros((0, 2), "float64"), "text": tf.zeros((0,), "string")}
    )
    repeated = np.minimum(np.arange(M), n - 1)
    expected = x["numbers"][repeated] if n else np.zeros((M, 2))
    np.testing.assert_array_equal(found["numbers"], expected)
    assert set(found["text"].numpy()) == {b"a" if n else b""}


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_a_last_batch_smaller_than_the_part_is_taken_whole(n):
    """`fit` compiles one step for batches of any size."""
    x, y = np.random.default_rng(1).normal(size=(n, 3)), np.zeros((n, 2))
    mgs = MGSModel(normalised(trainable=False), TracePenalty(0.1, every=1, samples=M))
    randomise(mgs.model, np.random.default_rng(0))
    reference = normalised(trainable=False)
    reference.set_weights(mgs.model.get_weights())
    mgs.compile(keras.optimizers.SGD(0.0), "mse")
    found = mgs.fit(x, y, batch_size=M, shuffle=False, verbose=0).history["mgs_penalty"][0]
    expected = []
    for step, i in enumerate(range(0, n, M)):
        f = lambda i=i: reference(tf.constant(x[i : i + M]))  # noqa: E731
        weights = oracles.variables(reference)
        expected.append(0.1 * oracles.penalty("hutchinson", f, weights, step, samples=M)[1])
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-9)


@pytest.mark.parametrize("name", sorted({**SHARING, **STRUCTURE, **FIRST_AXIS}))
def test_what_keras_inferred_of_a_model_is_what_tracing_it_shows(name):
    model, x = make(name)
    x = keras.tree.map_structure(tf.convert_to_tensor, x)
    if parts._was_built_for_any_size(model):
        assert parts._is_of_any_size(model, x, M, training=True)


@pytest.mark.parametrize(
    "own",
    [
        lambda: sequential((3,), layers.Lambda(lambda x: x), layers.Dense(2)),
        fixed,
        stateful,
        lambda: keras.Sequential([keras.Input((None, 3)), layers.Dense(2)]),
        with_a_scalar,
    ],
)
def test_code_of_others_one_batch_size_open_lengths_and_scalars_are_traced(own):
    assert not parts._was_built_for_any_size(own())
