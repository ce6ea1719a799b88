"""The raw outputs: however a softmax or sigmoid is spelled, K is that of the logits."""

import warnings
import weakref

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
    monkeypatch.setattr(outputs, "_WARNED_MODELS", weakref.WeakSet())


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


def by_steps(t):
    """A tensor (n, 2) in three time steps."""
    return ops.stack([t, ops.tanh(t), t[:, ::-1]], 1)


# What is done to probabilities, and to logits alike.
MOVES = {
    "squeezed": lambda t: ops.squeeze(t[:, None], 1),
    "expanded": lambda t: ops.expand_dims(t, 1),
    "one of them": lambda t: t[:, 1],
    "a slice": lambda t: t[:, :1],
    "every other, backwards": lambda t: t[:, ::-2],
    "transposed": lambda t: ops.transpose(t[:, :, None], (0, 2, 1)),
    "repeated": lambda t: ops.repeat(t, 3, axis=1),
    "tiled": lambda t: ops.tile(t, (1, 2)),
    "RepeatVector": lambda t: layers.RepeatVector(2)(t),
    "Permute": lambda t: layers.Permute((2, 1))(layers.Reshape((1, 2))(t)),
    "flattened": lambda t: layers.Flatten()(layers.Reshape((2, 1))(t)),
    "gathered": lambda t: ops.take(t, [1, 0, 1], axis=1),
    "cropped": lambda t: layers.Cropping1D(1)(ops.stack([t, t, t], 1)),
    "upsampled": lambda t: layers.UpSampling1D(2)(layers.Reshape((2, 1))(t)),
    "broadcast": lambda t: ops.broadcast_to(t[:, None], (ops.shape(t)[0], 2, 2)),
    "rolled": lambda t: ops.roll(t, 1, axis=1),
    "identity": lambda t: layers.Identity()(tf.identity(t)),
    "stop gradient": lambda t: ops.stack([t, ops.stop_gradient(t)], 1),
}
# The same with several ends: `end` is softmax, sigmoid, or nothing.
SEVERAL = {
    "stacked": lambda end: lambda t: ops.stack([end(t), end(ops.tanh(t))], 1),
    "concatenated": lambda end: lambda t: ops.concatenate([end(t), end(2 * t)], 1),
    "beside raw outputs": lambda end: lambda t: layers.Concatenate()([end(t), ops.tanh(t)]),
    "time distributed": lambda end: (
        lambda t: layers.TimeDistributed(layers.Activation(end))(by_steps(t))
    ),
    "over another axis": lambda end: (
        lambda t: ops.swapaxes(end(ops.swapaxes(by_steps(t), 1, 2)), 1, 2)
    ),
    "split and joined": lambda end: lambda t: ops.concatenate(ops.split(end(t), 2, 1)[::-1], 1),
}


def undoes(build):
    """`build(end)`: what a model with this end is; J is that without it, and nobody is warned."""
    for end in (ops.softmax, ops.sigmoid, tf.nn.softmax):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            j = keras_mgs.jacobian(randomised(build(end)), X)
        expected = oracles.jacobian(randomised(build(identity)), X)
        np.testing.assert_allclose(j, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", MOVES)
def test_what_moves_or_selects_probabilities_is_done_to_logits(name):
    undoes(lambda end: subclassed(lambda t: MOVES[name](end(t))))


@pytest.mark.parametrize("name", SEVERAL)
def test_ends_of_parts_are_undone_one_by_one(name):
    undoes(lambda end: subclassed(SEVERAL[name](end)))


def test_an_end_inside_a_function_is_undone():
    def build(end):
        model = functional(identity)
        inside = tf.function(lambda t: ops.tile(end(t), (1, 2)))
        outer = Subclassed({"model": model}, lambda p, x: inside(p["model"](x)))
        outer(X)
        return outer

    undoes(build)


ENDS = {
    "log softmax": ops.log_softmax,
    "log of softmax": lambda t: ops.log(ops.softmax(t)),
    "scaled softmax": lambda t: 2.0 * ops.softmax(t),
    "softmax, scaled": lambda t: ops.softmax(t) * 2.0,
    "clipped softmax": lambda t: ops.clip(ops.softmax(t), 1e-7, 1.0),
    "one minus sigmoid": lambda t: 1.0 - ops.sigmoid(t),
    "average": lambda t: layers.Average()([ops.softmax(t), ops.softmax(ops.tanh(t))]),
    "mean over steps": lambda t: ops.mean(ops.softmax(by_steps(t)), 1),
    "pooled": lambda t: layers.GlobalMaxPooling1D()(ops.sigmoid(by_steps(t))),
    "product with a constant": lambda t: ops.matmul(ops.softmax(t), np.ones((2, 3))),
    "expected value": lambda t: ops.sum(ops.softmax(t) * np.arange(2.0), 1, keepdims=True),
    "mixture": lambda t: ops.softmax(t) * ops.sigmoid(t[:, :1]),
    "both classes of a sigmoid": lambda t: ops.concatenate([1 - ops.sigmoid(t), ops.sigmoid(t)], 1),
    "padded": lambda t: ops.pad(ops.softmax(t), [[0, 0], [0, 1]]),
    "rescaled": lambda t: layers.Rescaling(2.0, 1.0)(ops.sigmoid(t)),
    "dropout after it": lambda t: DROPOUT(ops.softmax(t), training=True),
    "in a map": lambda t: tf.map_fn(tf.nn.softmax, t),
    "in a branch": lambda t: tf.cond(tf.reduce_sum(t) < 1e9, lambda: tf.nn.softmax(t), lambda: t),
}


DROPOUT = layers.Dropout(0.5)
NEEDS_TENSORS = {"dropout after it", "in a map", "in a branch"}


@pytest.mark.parametrize("name", ENDS)
def test_what_cannot_be_undone_is_said_once_and_k_is_that_of_the_output(name):
    model = randomised((subclassed if name in NEEDS_TENSORS else functional)(ENDS[name]))
    with pytest.warns(UserWarning, match="cannot undo") as caught:
        j = keras_mgs.jacobian(model, X)
        keras_mgs.trace(model, X)
    assert sum("cannot undo" in str(w.message) for w in caught) == 1
    if name != "dropout after it":  # whose mask is another one
        np.testing.assert_allclose(j, oracles.jacobian(model, X), rtol=1e-9, atol=1e-12)


def test_each_model_is_warned_of():
    for _ in range(2):
        with pytest.warns(UserWarning, match="cannot undo"):
            keras_mgs.trace(randomised(functional(ENDS["average"])), X)


def test_an_exported_model_that_ends_in_a_softmax_is_warned_of(tmp_path):
    sequential((3,), layers.Dense(2), layers.Softmax()).export(tmp_path, verbose=False)
    end = layers.TFSMLayer(tmp_path, call_endpoint="serve")
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3), end])
    with pytest.warns(UserWarning, match="cannot undo"):
        found = keras_mgs.trace(model, X)
    np.testing.assert_allclose(found, (oracles.jacobian(model, X) ** 2).sum(), rtol=1e-9)


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
    "attention": lambda: functional(
        lambda t: ops.matmul(ops.softmax(t[:, :, None] * t[:, None]), t[:, :, None])
    ),
    "LSTM": lambda: sequential((3,), layers.Reshape((3, 1)), layers.LSTM(2)),
    "embedded, then weighed": lambda: sequential(
        (3,), layers.Dense(2, "softmax"), layers.EinsumDense("ab,bc->ac", 2)
    ),
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
    if name in ("softmax argument", "Softmax layer"):  # of which Keras itself keeps the logits
        assert right
    assert right or any("cannot undo" in str(w.message) for w in caught)


@pytest.mark.parametrize("name", ["softmax argument", "keras.ops.softmax, functional"])
@pytest.mark.parametrize("jit", [False, True])
def test_compiled_training_undoes_it(name, jit):
    penalty = keras_mgs.TracePenalty(1.0, "exact", every=1)
    mgs = keras_mgs.MGSModel(randomised(SPELLINGS[name]()), penalty)
    mgs.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=jit)
    history = mgs.fit(X, np.ones((3, 2)), verbose=0).history
    assert history["mgs_penalty"] == [pytest.approx((logits() ** 2).sum())]
