"""The weight of the penalty: given, automatic, set."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from fitting import BATCH, N, batches, data, fitted, mean_square, network, same_weights
from keras import layers

from keras_mgs import MGSModel, TracePenalty
from keras_mgs.penalties import FIRST_PROBES, SHARE


def first_loss_and_kernel():
    """The loss and K of the first batch."""
    (x, y), model = next(batches(*data(), 1)), network()
    f = oracles.flat(model(x))
    j = oracles.jacobian(model, x)
    j = j.reshape(-1, j.shape[-1])
    return float(mean_square(y, f)), j @ j.T


def test_automatic_alpha_is_the_share_of_loss_over_trace_and_stays():
    mgs = MGSModel(network(), TracePenalty("auto", "exact", every=1))
    assert mgs.alpha == "auto"
    history = fitted(mgs, epochs=3)
    loss, k = first_loss_and_kernel()
    np.testing.assert_allclose(mgs.alpha, SHARE * loss / np.trace(k), rtol=1e-9)
    assert history["mgs_alpha"] == [mgs.alpha] * 3


def test_automatic_alpha_shortens_a_step_over_twice_as_long_as_the_mean():
    mgs = MGSModel(network())
    mgs.compile("sgd")
    steps = [[tf.constant([3.0, 0.0]) * k, tf.constant(4.0) * k] for k in (1, 1.5, 9)]
    shortened = [float(mgs._shorten(step)[1]) for step in steps]
    mean = 0.8 * 5 + 0.2 * 7.5  # of the lengths of the first two, which stay as they are
    np.testing.assert_allclose(shortened, [4, 6, 2 * mean * 4 / 5], rtol=1e-6)  # float32


def test_automatic_alpha_by_random_projection_is_near_the_exact_one():
    mgs = MGSModel(network())
    fitted(mgs, epochs=1)
    loss, k = first_loss_and_kernel()
    variance = 2 * (np.sum(k**2) - np.sum(np.diag(k) ** 2))  # of vᵀ K v, v uniform on signs
    error = 4 * np.sqrt(variance / FIRST_PROBES)
    np.testing.assert_allclose(SHARE * loss / mgs.alpha, np.trace(k), rtol=0, atol=error)
    assert error < 1.2 * np.trace(k)


@pytest.mark.parametrize("alpha", [0, 1e-5, 3, 0.1])
def test_a_given_alpha_is_taken_as_it_is(alpha):
    mgs = MGSModel(network(), alpha=alpha)
    assert mgs.alpha == alpha
    history = fitted(mgs, epochs=2)
    assert mgs.alpha == alpha
    assert history["mgs_alpha"] == [alpha, alpha]


def test_alpha_in_single_precision_is_the_number_that_was_given():
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    mgs = MGSModel(network(), alpha=1e-5)
    assert mgs.alpha == pytest.approx(1e-5, rel=1e-7)
    assert mgs.get_config()["penalty"]["config"]["alpha"] == 1e-5


def test_alpha_can_be_set_and_is_used():
    mgs = MGSModel(network())
    mgs.alpha = 0.25
    assert fitted(mgs)["mgs_alpha"] == [0.25, 0.25]


def test_two_models_may_share_a_penalty():
    penalty = TracePenalty("auto", "exact")
    a, b = MGSModel(network(), penalty), MGSModel(network(), penalty)
    fitted(a, epochs=1)
    assert b.alpha == "auto"
    assert penalty.alpha == "auto"


HALVING = {"initial_learning_rate": 0.02, "decay_steps": 2, "decay_rate": 0.5}


@pytest.mark.parametrize("penalty", ["trace", "log_det"])
def test_a_schedule_is_asked_at_every_step(penalty):
    """The reference makes one step after the other with the number that the schedule gives."""
    schedule = keras.optimizers.schedules.ExponentialDecay(**HALVING)
    mgs = MGSModel(network(), penalty, alpha=schedule)
    assert mgs.alpha is schedule
    history = fitted(mgs, keras.optimizers.SGD(0.05), epochs=2)
    reference, optimizer = network(), keras.optimizers.SGD(0.05)
    every = mgs.penalty.every
    for step, batch in enumerate(batches(*data(), epochs=2)):
        kind = "log_det" if penalty == "log_det" else "hutchinson"
        alpha = 0.02 * 0.5 ** (step / 2) * (step % every == 0) * every
        with tf.GradientTape() as tape:
            weights = oracles.variables(reference)
            f = lambda batch=batch: oracles.flat(reference(batch[0]))  # noqa: E731
            outputs, value = oracles.penalty(kind, f, weights, step, epsilon=1e-6)
            loss = mean_square(batch[1], outputs) + alpha * value
        optimizer.apply(tape.gradient(loss, weights), reference.trainable_weights)
    same_weights(mgs.model, reference, 1e-6)  # Keras computes schedules in single precision
    steps = N // BATCH
    np.testing.assert_allclose(
        history["mgs_alpha"], [0.02 * 0.5 ** ((e * steps - 1) / 2) for e in (1, 2)], rtol=1e-6
    )


def test_a_scheduled_alpha_is_saved_and_goes_on(tmp_path):
    schedule = keras.optimizers.schedules.ExponentialDecay(**HALVING)
    mgs = MGSModel(network(), TracePenalty(schedule, every=2))
    fitted(mgs)
    mgs.save(tmp_path / "model.keras")
    back = keras.models.load_model(tmp_path / "model.keras")
    assert back.penalty.alpha.get_config() == schedule.get_config()
    assert back.alpha == mgs.alpha
    x, y = data()
    for model in (mgs, back):
        model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    assert back.alpha == mgs.alpha
    same_weights(back.model, mgs.model)


def test_a_scheduled_alpha_cannot_be_set():
    mgs = MGSModel(network(), alpha=keras.optimizers.schedules.ExponentialDecay(**HALVING))
    with pytest.raises(TypeError, match=r"left to its schedule.*Received: alpha=0.5"):
        mgs.alpha = 0.5


def test_a_callback_may_set_alpha_between_epochs():
    class Ramp(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.alpha = 0.01 * epoch

    mgs = MGSModel(network(), TracePenalty(0.5, "exact", every=1))
    history = fitted(mgs, keras.optimizers.SGD(0.05), callbacks=[Ramp()])
    assert history["mgs_alpha"] == [0, 0.01]
    reference, optimizer = network(), keras.optimizers.SGD(0.05)
    for alpha in (0, 0.01):
        oracles.train(reference, mean_square, optimizer, batches(*data(), 1), "exact", alpha)
    same_weights(mgs.model, reference)


def test_choosing_alpha_leaves_no_trace_in_the_model():
    """Its forward pass is one more: dropout's seeds and moving statistics must not see it."""

    def stateful():
        return network(layers.BatchNormalization(), layers.Dropout(0.5, seed=1))

    chosen = MGSModel(stateful(), TracePenalty("auto", "exact", every=8))
    fitted(chosen, keras.optimizers.SGD(0.05), epochs=1)
    given = MGSModel(stateful(), TracePenalty(chosen.alpha, "exact", every=8))
    fitted(given, keras.optimizers.SGD(0.05), epochs=1)
    for v, w in zip(chosen.model.variables, given.model.variables, strict=True):
        np.testing.assert_allclose(v, w, rtol=1e-9)


def test_a_first_batch_that_tells_nothing_leaves_the_choice_to_the_next():
    """All its weights are zero, so its loss is; α = 0 would be kept for ever."""
    mgs = MGSModel(network(), TracePenalty("auto", "exact", every=1))
    mgs.compile(keras.optimizers.SGD(0.05), "mse")
    weight = np.repeat([0.0, 1.0], [BATCH, N - BATCH])
    mgs.fit(*data(), sample_weight=weight, batch_size=BATCH, shuffle=False, verbose=0)
    x, y = list(batches(*data(), 1))[1]
    f = oracles.flat(network()(x))  # the first step did not move the weights
    trace = (oracles.jacobian(network(), x) ** 2).sum()
    np.testing.assert_allclose(mgs.alpha, SHARE * float(mean_square(y, f)) / trace, rtol=1e-9)
