import dataclasses
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
    bootstrapping,
    check_task,
    generalised_cross_entropy,
    label_smoothing,
)
from keras_mgs.experiments.training.networks import fcn
from keras_mgs.experiments.training.rivals import ELR, SAM, CoTeaching, ForwardCorrection, Mixup

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


@pytest.mark.usefixtures("float64")
def test_bootstrapping_is_that_of_its_paper():
    f, y = np.random.default_rng(0).normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
    log_p = log_softmax(f)
    labels = 0.8 * np.eye(3)[y] + 0.2 * np.eye(3)[log_p.argmax(axis=1)]
    assert (log_p.argmax(axis=1) != y).any()
    found = bootstrapping(y, tf.constant(f), 0.2)
    np.testing.assert_allclose(found, -(labels * log_p).sum(axis=1), rtol=1e-9)


def cross_entropy():
    """In the precision of the test that asks for it."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def classifier():
    """A network with weight decay, and one of the same weights for a slow loop."""
    decay = keras.regularizers.L2(0.01)
    hidden = keras.layers.Dense(4, "tanh", kernel_regularizer=decay)
    build = [keras.Input((3,)), hidden, keras.layers.Dense(3)]
    network = keras.Sequential(build)
    loop = keras.models.clone_model(network)
    loop.set_weights(network.get_weights())
    return network, loop


def step(network, loss, rate=0.125):
    """A step down the gradient of a loss that is written down, and weight decay; its value."""
    with tf.GradientTape() as tape:
        value = loss(network) + sum(network.losses)
    for w, g in zip(
        network.trainable_variables, tape.gradient(value, network.trainable_variables), strict=True
    ):
        w.assign_sub(rate * g)
    return float(value)


def assert_same_weights(found, expected):
    for a, b in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_forward_correction_takes_the_steps_of_an_eager_loop():
    rng = np.random.default_rng(0)
    network, loop = classifier()
    matrix = np.array([[0.7, 0.3, 0.0], [0.1, 0.9, 0.0], [0.2, 0.2, 0.6]])
    model = ForwardCorrection(network, matrix)
    model.compile(keras.optimizers.SGD(0.125), cross_entropy())
    for _ in range(3):
        x, y = rng.normal(size=(8, 3)), rng.integers(3, size=8)

        def loss(network, x=x, y=y):
            p = tf.nn.softmax(network(x)) @ matrix  # of the wrong labels
            return -tf.reduce_mean(tf.math.log(tf.gather(p, y, batch_dims=1)))

        by_hand = -np.log((np.exp(log_softmax(loop(x).numpy())) @ matrix)[np.arange(8), y]).mean()
        by_hand += float(sum(loop.losses))
        assert float(model.loss_of(tf.constant(x), y)[1]) == pytest.approx(by_hand, rel=1e-9)
        model.reset_metrics()
        assert model.train_on_batch(x, y) == pytest.approx(step(loop, loss), rel=1e-6)
        assert_same_weights(network, loop)


@pytest.mark.usefixtures("float64")
def test_elr_takes_the_steps_of_an_eager_loop():
    rng = np.random.default_rng(0)
    network, loop = classifier()
    inputs, classes = 5 * rng.normal(size=(6, 3)), rng.integers(3, size=6)
    model = ELR(network, 3.0, samples=6)
    model.compile(keras.optimizers.SGD(0.125), cross_entropy())
    targets = np.zeros((6, 3))
    for index in ([4, 0, 3], [1, 0, 2], [0, 4, 5], [3, 2, 1]):
        x, y = inputs[index], classes[index]
        p = np.clip(np.exp(log_softmax(loop(x).numpy())), 1e-4, 1 - 1e-4)
        targets[index] = 0.7 * targets[index] + 0.3 * p / p.sum(axis=1, keepdims=True)

        def loss(network, x=x, y=y, t=targets[index]):
            p = tf.clip_by_value(tf.nn.softmax(network(x)), 1e-4, 1 - 1e-4)
            return cross_entropy()(y, network(x)) + 3 * tf.reduce_mean(
                tf.math.log(1 - tf.reduce_sum(p * t, axis=1))
            )

        model.reset_metrics()
        found = model.train_on_batch(x, (y, np.array(index)))
        assert found == pytest.approx(step(loop, loss), rel=1e-6)
        np.testing.assert_allclose(model.targets.numpy(), targets, rtol=1e-9)
        assert_same_weights(network, loop)


def test_elr_knows_each_sample_by_its_number_in_whatever_order_it_comes(shapes):
    options = {"batch_size": 16, "seed": 0, "learning_rate": 1e-12}
    for epochs, weight in ((1, 0.3), (3, 1 - 0.7**3)):
        model, _ = fitting.fit(shapes, "fcn", "elr", epochs=epochs, **options)
        p = np.exp(log_softmax(model.predict(shapes.x_train, verbose=0)))
        np.testing.assert_allclose(model.targets.numpy(), weight * p, rtol=1e-4)


@pytest.mark.usefixtures("float64")
def test_co_teaching_takes_the_steps_of_an_eager_loop():
    rng = np.random.default_rng(0)
    network, loop = classifier()
    model = CoTeaching(network, 4, share=0.5)
    other = keras.models.clone_model(network)
    other.set_weights(model.other.get_weights())
    model.compile(keras.optimizers.SGD(0.125), cross_entropy())
    for epoch, kept in enumerate((8, 7, 6, 5, 4, 4)):
        x, y = rng.normal(size=(8, 3)), rng.integers(3, size=8)
        losses = [-log_softmax(net(x).numpy())[np.arange(8), y] for net in (loop, other)]
        first, second = (sorted(range(8), key=each.__getitem__)[:kept] for each in losses)
        assert kept == 8 or set(first) != set(second)

        expected = 0
        for net, chosen in ((loop, second), (other, first)):
            expected += step(net, lambda n, x=x[chosen], y=y[chosen]: cross_entropy()(y, n(x)))
        model.epoch.assign(epoch)
        model.reset_metrics()
        assert model.train_on_batch(x, y) == pytest.approx(expected, rel=1e-6)
        assert_same_weights(network, loop)
        assert_same_weights(model.other, other)


def test_co_teaching_counts_epochs_and_predicts_with_the_network_that_others_train(shapes):
    model, _ = fitting.fit(shapes, "fcn", "co_teaching", epochs=3, batch_size=16, seed=0)
    assert float(model.epoch.numpy()) == 2
    x = shapes.x_test
    np.testing.assert_array_equal(model.predict_on_batch(x), model.model.predict_on_batch(x))
    options = {"epochs": 1, "batch_size": 16, "seed": 0, "learning_rate": 1e-12}
    plain, taught = (
        fitting.fit(shapes, "fcn", m, **options)[0] for m in ("dropout", "co_teaching")
    )
    np.testing.assert_allclose(plain.get_weights()[0], taught.model.get_weights()[0], atol=1e-6)
    assert np.abs(taught.other.get_weights()[0] - plain.get_weights()[0]).max() > 0.01


def test_a_method_that_knows_the_noise_knows_that_of_its_data(shapes):
    wrong = (shapes.y_train + (np.arange(40) < 10)) % 4
    noisy = dataclasses.replace(shapes, y_train=wrong, y_clean=shapes.y_train)
    options = {"epochs": 1, "batch_size": 16, "seed": 0}
    corrected, _ = fitting.fit(noisy, "fcn", "forward_correction", **options)
    np.testing.assert_array_equal(corrected.matrix, noisy.noise_matrix)
    taught, _ = fitting.fit(noisy, "fcn", "co_teaching", **options)
    assert taught.share == 0.25
    for name in ("forward_correction", "co_teaching"):
        assert METHODS[name].label.endswith("(noise known)")


def test_forward_correction_of_clean_labels_is_the_unregularised_network(shapes):
    options = {"epochs": 3, "batch_size": 16, "seed": 0, "learning_rate": 0.01}
    plain, corrected = (
        fitting.fit(shapes, "fcn", method, **options)[0]
        for method in ("unregularised", "forward_correction")
    )
    for a, b in zip(plain.get_weights(), corrected.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "method",
    [
        *("label_smoothing", "generalised_cross_entropy"),
        *("bootstrapping", "forward_correction", "elr", "co_teaching"),
    ],
)
def test_a_method_for_classes_is_refused_for_a_regression(method):
    check_task(["mgs", method], "classification")
    with pytest.raises(ValueError, match=f"no classes. Received: {method}. Leave"):
        check_task(["mgs", method], "regression")


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
