"""The training step, weight for weight, against a plain eager loop."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from fitting import (
    BATCH,
    EPSILON,
    PENALTIES,
    N,
    batches,
    data,
    fitted,
    mean_square,
    network,
    same_weights,
)
from keras import layers
from problems import make, randomise, sequential

from keras_mgs import MGSModel, TracePenalty


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize(
    ("kind", "every", "probes"),
    [
        ("hutchinson", 1, 1),
        ("hutchinson", 3, 2),
        ("hutchinson", 1, 2),
        ("exact", 1, 1),
        ("exact", 3, 1),
        ("log_det", 1, 1),
        ("log_det", 3, 1),
        ("rkhs", 3, 1),
        ("rkhs, K too", 1, 1),
    ],
)
def test_training_equals_a_plain_loop_weight_for_weight(kind, every, probes, optimizer):
    make_optimizer = getattr(keras.optimizers, optimizer)
    mgs = MGSModel(network(), penalty=PENALTIES[kind](every, probes))
    history = fitted(mgs, make_optimizer(0.05), epochs=2)

    reference = network()
    losses, penalties = oracles.train(
        reference,
        mean_square,
        make_optimizer(0.05),
        batches(*data(), epochs=2),
        kind,
        0.01,
        every,
        probes,
        EPSILON,
    )
    same_weights(mgs.model, reference)
    per_epoch = N // BATCH
    np.testing.assert_allclose(
        history["loss"], np.reshape(losses, (-1, per_epoch)).mean(1), rtol=1e-9
    )
    np.testing.assert_allclose(
        history["mgs_penalty"], np.reshape(penalties, (2, -1)).mean(1), rtol=1e-9
    )


@pytest.mark.parametrize("kind", ["hutchinson", "exact"])
def test_a_smaller_last_batch_is_trained_as_in_a_plain_loop(kind):
    """Ten samples in fours: Keras then compiles the step for an unknown batch size."""
    x, y = data(10)
    mgs = MGSModel(network(), penalty=PENALTIES[kind](1, 1))
    mgs.compile(keras.optimizers.SGD(0.05), "mse")
    mgs.fit(x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    reference = network()
    oracles.train(reference, mean_square, keras.optimizers.SGD(0.05), batches(x, y, 2), kind, 0.01)
    same_weights(mgs.model, reference)


@pytest.mark.parametrize(
    "name", ["time folded into the batch", "a layer on a constant", "two halves of one batch"]
)
def test_layers_whose_first_axis_is_not_the_sample_axis_are_trained_exactly(name):
    """With an unknown batch size the shapes do not show it."""
    model, x = make(name, n=10)
    reference, _ = make(name)
    y = data(10)[1]
    mgs = MGSModel(model, penalty=PENALTIES["exact"](1, 1))
    mgs.compile(keras.optimizers.SGD(0.05), "mse")
    mgs.fit(x, y, batch_size=BATCH, epochs=1, shuffle=False, verbose=0)
    oracles.train(
        reference, mean_square, keras.optimizers.SGD(0.05), batches(x, y, 1), "exact", 0.01
    )
    same_weights(mgs.model, reference)


@pytest.mark.parametrize("kind", ["hutchinson", "exact"])
def test_the_loss_and_the_penalty_see_the_same_dropout_masks(kind):
    """The reference computes both from one forward pass of a twin with the same seed."""
    mgs = MGSModel(network(layers.Dropout(0.5, seed=7)), penalty=PENALTIES[kind](1, 1))
    fitted(mgs, keras.optimizers.SGD(0.05), epochs=1)
    reference = network(layers.Dropout(0.5, seed=7))
    oracles.train(
        reference,
        mean_square,
        keras.optimizers.SGD(0.05),
        batches(*data(), epochs=1),
        kind,
        0.01,
    )
    same_weights(mgs.model, reference)


@pytest.mark.parametrize("kind", ["hutchinson", "exact"])
def test_batch_normalization_is_differentiated_through_and_updated_once(kind):
    def normalised():
        return network(layers.BatchNormalization(momentum=0.5))

    mgs = MGSModel(normalised(), penalty=PENALTIES[kind](1, 1))
    fitted(mgs, keras.optimizers.SGD(0.05), epochs=1)
    reference = normalised()
    oracles.train(
        reference, mean_square, keras.optimizers.SGD(0.05), batches(*data(), epochs=1), kind, 0.01
    )
    for v, w in zip(mgs.model.weights, reference.weights, strict=True):
        np.testing.assert_allclose(v, w, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("penalty", [TracePenalty(0, every=1), TracePenalty(0, "exact", every=2)])
def test_without_a_penalty_training_is_that_of_the_plain_model(penalty):
    mgs, plain = MGSModel(network(), penalty=penalty), network()
    history = fitted(mgs, "adam", epochs=3)
    expected = fitted(plain, "adam", epochs=3)
    same_weights(mgs.model, plain, 1e-12)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-12)
    assert history["mgs_penalty"] == [0, 0, 0]


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("kind", ["hutchinson", "exact"])
def test_a_softmax_model_with_cross_entropy_penalises_its_logits(kind, eager):
    def build(*activation):
        model = sequential((3,), layers.Dense(4, "tanh"), layers.Dense(2, *activation))
        randomise(model, np.random.default_rng(0))
        return model

    x, _ = data()
    labels = np.eye(2)[np.arange(N) % 2]
    mgs = MGSModel(build("softmax"), PENALTIES[kind](1, 1))
    mgs.compile(keras.optimizers.SGD(0.05), "categorical_crossentropy", run_eagerly=eager)
    mgs.fit(x, labels, epochs=1, batch_size=BATCH, shuffle=False, verbose=0)
    reference = build()
    oracles.train(
        reference,
        lambda y, f: tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y, f)),
        keras.optimizers.SGD(0.05),
        batches(x, labels, 1),
        kind,
        0.01,
    )
    same_weights(mgs.model, reference, 1e-8)  # Keras clips the probabilities by 1e-7


def test_the_wrapped_model_stays_the_one_that_was_passed():
    model = network()
    mgs = MGSModel(model)
    before = model.get_weights()
    fitted(mgs)
    assert mgs.model is model
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


def test_penalised_steps_follow_the_count_that_weights_bring_between_two_fits(tmp_path):
    """Five steps apart, three in an epoch: the second epoch penalises its last step."""
    far, near = (MGSModel(network(), TracePenalty(0.01, "exact", every=5)) for _ in range(2))
    fitted(far, keras.optimizers.SGD(0.05), epochs=1)
    far.save_weights(tmp_path / "mgs.weights.h5")
    fitted(near, keras.optimizers.SGD(0.05), epochs=2)  # its next penalised step would be too early
    near.load_weights(tmp_path / "mgs.weights.h5")
    x, y = data()
    for mgs in (far, near):
        mgs.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    same_weights(near.model, far.model)
    reference = network()
    pairs = batches(x, y, epochs=2)
    oracles.train(reference, mean_square, keras.optimizers.SGD(0.05), pairs, "exact", 0.01, every=5)
    same_weights(near.model, reference)


def test_fit_runs_a_train_step_that_was_set_on_the_model():
    mgs, traced = MGSModel(network()), []
    usual = mgs.train_step
    mgs.train_step = lambda data: traced.append(data) or usual(data)
    fitted(mgs)
    assert len(traced) == 1
    assert mgs._alpha.state.numpy()[0] == 1  # one step has been measured
