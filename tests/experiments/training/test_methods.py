import functools

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from keras_mgs.experiments.data.dataset import Dataset
from keras_mgs.experiments.training import fitting
from keras_mgs.experiments.training.fitting import train
from keras_mgs.experiments.training.methods import (
    CYCLES,
    METHODS,
    Triangular,
    generalised_cross_entropy,
    label_smoothing,
)
from keras_mgs.experiments.training.networks import fcn
from keras_mgs.experiments.training.rivals import SAM, Mixup

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture(scope="module")
def shapes():
    """Sixty images of four classes."""
    rng = np.random.default_rng(0)
    x, y = rng.random((60, 8, 8, 1), "float32"), np.arange(60, dtype="int32") % 4
    return Dataset("shapes", "classification", x[:40], y[:40], x[40:], y[40:])


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Tracing takes nearly all of the time."""
    monkeypatch.setitem(fitting.NETWORKS, "fcn", functools.partial(fcn, widths=(4,)))


def log_softmax(f):
    return f - np.log(np.exp(f).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains(method, shapes):
    curves = train(shapes, "fcn", method, epochs=2, batch_size=16, seed=0)
    assert curves["epoch"].tolist() == [1, 2]
    assert np.isfinite(curves.to_numpy()).all() and curves["test"].between(0, 100).all()


def test_a_strength_is_what_a_method_differs_by(shapes):
    options = {"epochs": 1, "batch_size": 16, "seed": 0}
    own, other = (
        train(shapes, "fcn", "label_smoothing", strength=s, **options)["loss"][0]
        for s in (None, 0.1)
    )
    assert own != other
    assert METHODS["label_smoothing"].at(0.7) is METHODS["label_smoothing"]


@pytest.mark.parametrize(
    "method, strength, words",
    [
        ("unregularised", 1.0, "no strength for 'unregularised'.*Received: strength=1.0"),
        ("dropout", 1.5, "'dropout' to be at most 1. Received: strength=1.5"),
        ("sam", 0.0, "`strength` to be positive. Received: strength=0.0"),
        ("sam", float("nan"), "finite. Received: strength=nan"),
    ],
)
def test_a_strength_without_a_meaning_is_refused(method, strength, words):
    with pytest.raises(ValueError, match=words):
        METHODS[method].at(strength)


@pytest.mark.usefixtures("float64")
def test_label_smoothing_is_the_cross_entropy_of_smoothed_labels():
    f, y = np.random.default_rng(0).normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
    labels = 0.8 * np.eye(3)[y] + 0.2 / 3
    expected = -(labels * log_softmax(f)).sum(axis=1)
    np.testing.assert_allclose(label_smoothing(y, tf.constant(f), 0.2), expected, rtol=1e-9)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("q", [0.3, 0.7, 1.0])
def test_generalised_cross_entropy_is_that_of_its_paper(q):
    f, y = np.random.default_rng(0).normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
    p = np.exp(log_softmax(f))[np.arange(5), y]
    found = generalised_cross_entropy(y, tf.constant(f), q)
    np.testing.assert_allclose(found, (1 - p**q) / q, rtol=1e-9)


def test_generalised_cross_entropy_has_a_gradient_where_the_probability_vanishes():
    f = tf.Variable([[0.0, 1000.0]])
    with tf.GradientTape() as tape:
        loss = generalised_cross_entropy(np.array([0]), f, 0.7)
    assert np.isfinite(tape.gradient(loss, f)).all()


def test_the_cyclical_rate_goes_up_and_down():
    rate = Triangular(0.1, steps=200, ratio=10)
    corners = np.tile([0.01, 0.1], CYCLES)
    expected = np.interp(np.arange(191), np.arange(0, 200, 10), corners)
    np.testing.assert_allclose([float(rate(step)) for step in range(191)], expected, rtol=1e-4)


@pytest.mark.usefixtures("float64")
def test_mixup_trains_on_weighted_means_of_pairs(monkeypatch):
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(4, 3)), np.array([0, 1, 1, 0]), rng.normal(size=(3, 2))
    order, share = np.array([2, 0, 3, 1]), 0.3
    monkeypatch.setattr(keras.random, "shuffle", lambda *_, **__: order)
    monkeypatch.setattr(keras.random, "beta", lambda *_, **__: tf.constant(share, "float64"))
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)])
    network.set_weights([w])
    model = Mixup(network, 1.0)
    model.compile(keras.optimizers.SGD(0.5), CROSS_ENTROPY)

    mixed = share * x + (1 - share) * x[order]
    labels = share * np.eye(2)[y] + (1 - share) * np.eye(2)[y[order]]
    f = mixed @ w
    gradient = mixed.T @ (np.exp(log_softmax(f)) - labels) / 4
    loss = model.train_on_batch(x, y)
    assert loss == pytest.approx(-(labels * log_softmax(f)).sum() / 4, rel=1e-6)
    np.testing.assert_allclose(network.get_weights()[0], w - 0.5 * gradient, atol=1e-9)


def test_mixup_draws_anew_at_every_step_and_by_the_seed(shapes):
    network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    model = Mixup(network, 8.0)
    shares = [float(keras.random.beta((), 8.0, 8.0, seed=model.seed)) for _ in range(5)]
    assert len(set(shares)) == 5 and all(0 < share < 1 for share in shares)
    a, b = (train(shapes, "fcn", "mixup", epochs=2, batch_size=16, seed=3) for _ in "ab")
    pd.testing.assert_frame_equal(a.drop(columns="seconds"), b.drop(columns="seconds"))


@pytest.mark.usefixtures("float64")
def test_sam_takes_the_steps_of_an_eager_loop():
    rng = np.random.default_rng(0)
    batches = [(rng.normal(size=(8, 3)), rng.integers(2, size=8)) for _ in range(5)]
    build = [keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(2)]
    network = keras.Sequential(build)
    loop = keras.models.clone_model(network)
    loop.set_weights(network.get_weights())

    def gradient(x, y):
        with tf.GradientTape() as tape:
            loss = CROSS_ENTROPY(y, loop(x))
        return loss, tape.gradient(loss, loop.trainable_variables)

    model = SAM(network, 0.05)
    model.compile(keras.optimizers.SGD(0.1), CROSS_ENTROPY)
    for x, y in batches:
        before = loop.get_weights()
        loss, first = gradient(x, y)
        length = np.sqrt(sum(np.sum(g.numpy() ** 2) for g in first))
        loop.set_weights([w + 0.05 * g / length for w, g in zip(before, first, strict=True)])
        _, second = gradient(x, y)
        loop.set_weights([w - 0.1 * g for w, g in zip(before, second, strict=True)])
        model.reset_metrics()
        assert model.train_on_batch(x, y) == pytest.approx(float(loss), rel=1e-6)
        for found, expected in zip(network.get_weights(), loop.get_weights(), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-9)


def test_early_stopping_reports_the_best_epoch_so_far(shapes):
    options = {"epochs": 8, "batch_size": 16, "seed": 0, "learning_rate": 1.0}
    curves = train(shapes, "fcn", "early_stopping", strength=1, **options)
    assert curves["epoch"].tolist() == list(range(1, 9))
    measured = pd.DataFrame({"epoch": range(1, 6), "test": [1.0, 2.0, 3.0, 4.0, 5.0]})
    found = fitting._best_so_far(measured, [5.0, 3.0, 4.0, np.nan, 2.0], every=1, epochs=7)
    assert found["test"].tolist() == [1, 2, 2, 2, 5, 5, 5]
    assert found["epoch"].tolist() == list(range(1, 8))
    found = fitting._best_so_far(measured, [1.0, 3.0, 0.5, 2.0, 1.0], every=2, epochs=6)
    assert found["test"].tolist()[1::2] == [2, 4, 4]  # those of epochs that were measured
