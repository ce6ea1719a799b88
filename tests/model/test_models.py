"""Every kind of Keras model trains with a penalty as in a plain eager loop, number for number."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fitting import BATCH, EPSILON, PENALTIES, N, same_weights, slices, slow, trains_as_a_plain_loop
from keras import layers
from oracles import train
from problems import TwoLayers, built, make, randomise, sequential, subclassed

from keras_mgs import MGSModel


def random_only_in_training():
    """Dropout and batch statistics, one level down: `training` must reach them."""
    inner = sequential(
        (3,),
        layers.Dense(4, "tanh"),
        layers.BatchNormalization(momentum=0.5),
        layers.Dropout(0.5, seed=7),
    )
    return sequential((3,), inner, layers.Dense(2))


def frozen_statistics():
    """A frozen batch normalisation uses its moving statistics in training too."""
    norm = layers.BatchNormalization(momentum=0.5)
    model = sequential((3,), layers.Dense(4, "tanh"), norm, layers.Dense(2))
    norm.trainable = False
    return model


def frozen_layer():
    """The layers on both sides of it train: with the last one alone K would be constant."""
    frozen = layers.Dense(4, "tanh")
    model = sequential((3,), layers.Dense(4, "tanh"), frozen, layers.Dense(2))
    frozen.trainable = False
    return model


def frozen_submodel():
    inner = sequential((4,), layers.Dense(4, "tanh"))
    model = sequential((3,), layers.Dense(4, "tanh"), inner, layers.Dense(2))
    inner.trainable = False
    return model


def nested_outputs():
    return subclassed(
        (3,),
        lambda p, x: {"b": [p["one"](x), p["two"](p["one"](x))], "a": p["three"](x)},
        one=layers.Dense(3, "tanh"),
        two=layers.Dense(1),
        three=layers.Dense(2, "tanh"),
    )


def pixels():
    """Bytes as inputs."""
    return sequential(
        (2, 2, 1), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(3, "tanh"),
        layers.Dense(2), dtype="uint8",
    )  # fmt: skip


rng = np.random.default_rng(2)
NUMBERS = rng.normal(size=(N, 3))
# Models of this file's own: name -> how to build it and its data.
OWN = {
    "dropout and batch normalization in a nested model": (random_only_in_training, NUMBERS),
    "frozen layer": (frozen_layer, NUMBERS),
    "frozen batch normalization": (frozen_statistics, NUMBERS),
    "frozen nested model": (frozen_submodel, NUMBERS),
    "subclassed, whose call takes no `training`": (lambda: built(TwoLayers), NUMBERS),
    "lists in a dict of outputs": (nested_outputs, NUMBERS),
    "bytes": (pixels, rng.integers(256, size=(N, 2, 2, 1)).astype("uint8")),
}
SHARED = [
    "residual",
    "dense, activations",
    "subclassed",
    "list of inputs",
    "list of inputs, given as a dict",
    "dict of inputs",
    "list of outputs",
    "dict of outputs",
    "nested",
    "embedding",
    "batch normalization",
    "dropout",
    "LSTM",
    "attention",
    "frozen bias",
]


def problem(name):
    """How to build the model, with the same weights each time, and its data."""
    if name in OWN:
        build, x = OWN[name]

        def built():
            model = build()
            randomise(model, np.random.default_rng(0))
            return model

    else:
        x = make(name, N)[1]

        def built():
            return make(name)[0]

    outputs = built()(x)
    rng = np.random.default_rng(1)
    return built, x, keras.tree.map_structure(lambda f: rng.normal(size=f.shape), outputs)


def mean_squares(y, f):
    """The mean square of every output, added up; `f` has them side by side."""
    leaves = [tf.reshape(t, (t.shape[0], -1)) for t in keras.tree.flatten(y)]
    parts = tf.split(f, [t.shape[1] for t in leaves], 1)
    return sum(tf.reduce_mean((p - t) ** 2) for p, t in zip(parts, leaves, strict=True))


DETERMINANTS = [
    "residual",
    "dict of outputs",
    "embedding",
    "LSTM",
    "dropout and batch normalization in a nested model",
    "frozen layer",
]


@pytest.mark.parametrize(
    ("name", "kind", "every"),
    [
        *((name, "hutchinson", 2) for name in [*SHARED, *OWN]),
        *((name, "exact", 1) for name in DETERMINANTS),
        *(slow(name, "exact", 1) for name in [*SHARED, *OWN] if name not in DETERMINANTS),
        *(slow(name, "log_det", 1) for name in DETERMINANTS),
    ],
)
def test_a_model_trains_as_in_a_plain_loop(name, kind, every):
    build, x, y = problem(name)
    loss = keras.tree.map_structure(lambda _: "mse", y)
    trains_as_a_plain_loop(build, x, y, loss, mean_squares, kind, every=every)


TARGETS = np.random.default_rng(1).normal(size=(N, 2))


def deep():
    model = sequential((3,), layers.Dense(4, "tanh"), layers.Dense(4, "tanh"), layers.Dense(2))
    randomise(model, np.random.default_rng(0))
    return model


def fit(model):
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    return model.fit(NUMBERS, TARGETS, **options).history


def loop(model, kind, optimizer):
    return train(
        model, mean_squares, optimizer, slices(NUMBERS, TARGETS), kind, 0.01, epsilon=EPSILON
    )


@pytest.mark.parametrize(
    ("kind", "fits"),
    [("hutchinson", (True, False)), ("exact", (True, False)), ("exact", (False, True))],
)
def test_a_layer_frozen_or_freed_between_fits_trains_as_in_plain_loops(kind, fits):
    """Compiled anew, as Keras demands, and K is that of what is trainable then."""
    mgs, reference = MGSModel(deep(), PENALTIES[kind](1, 1)), deep()
    for trainable in fits:
        for model in (mgs.model, reference):
            model.layers[1].trainable = trainable
        before = mgs.model.layers[1].get_weights()
        mgs.compile(keras.optimizers.Adam(0.05), "mse")
        mgs._steps.assign(0)  # the loop counts from 0 again, too
        history = fit(mgs)
        losses, penalties = loop(reference, kind, keras.optimizers.Adam(0.05))
        same_weights(mgs.model, reference)
        np.testing.assert_allclose(history["loss"], np.mean(losses), rtol=1e-9)
        np.testing.assert_allclose(history["mgs_penalty"], np.mean(penalties), rtol=1e-9)
        moved = [
            (v != w).any() for v, w in zip(before, mgs.model.layers[1].get_weights(), strict=True)
        ]
        assert moved == [trainable] * 2


@pytest.mark.parametrize(("kind", "eager"), [("hutchinson", False), ("exact", True)])
def test_freezing_without_compiling_anew_does_what_it_does_to_the_plain_model(kind, eager):
    """The compiled step stays what it was; an eager one sees the change at once."""
    mgs, plain, reference = MGSModel(deep(), PENALTIES[kind](1, 1)), deep(), deep()
    networks = (mgs.model, plain)
    for model in (mgs, plain):
        model.compile(keras.optimizers.SGD(0.05), "mse", run_eagerly=eager)
        fit(model)
    before = [model.layers[1].get_weights() for model in networks]
    for model in networks:
        model.layers[1].trainable = False
    for model in (mgs, plain):
        fit(model)
    for model, weights in zip(networks, before, strict=True):
        same = [(v == w).all() for v, w in zip(weights, model.layers[1].get_weights(), strict=True)]
        assert same == [eager] * 2

    def both_fits():
        yield from slices(NUMBERS, TARGETS)
        reference.layers[1].trainable = not eager
        yield from slices(NUMBERS, TARGETS)

    sgd = keras.optimizers.SGD(0.05)
    train(reference, mean_squares, sgd, both_fits(), kind, 0.01, epsilon=EPSILON)
    for v, w in zip(mgs.model.weights, reference.weights, strict=True):
        np.testing.assert_allclose(v, w, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("eager", [False, True])
def test_freeing_a_layer_without_compiling_anew_does_what_it_does_to_the_plain_model(eager):
    """An eager optimizer does not know the weights; a compiled step never asks for them."""
    errors = []
    for wrap in (MGSModel, lambda model: model):
        network = deep()
        network.layers[1].trainable = False
        model = wrap(network)
        model.compile("adam", "mse", run_eagerly=eager)
        fit(model)
        network.layers[1].trainable = True
        try:
            fit(model)
            errors.append(None)
        except Exception as error:
            errors.append(type(error))
    assert errors[0] == errors[1]
