"""The weight of the penalty: given, automatic, set."""

import functools

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from fitting import (
    BATCH,
    N,
    automatic_from_the_first_step,
    batches,
    data,
    fitted,
    mean_square,
    network,
    same_weights,
)
from keras import layers
from problems import announced

from keras_mgs import MGSModel, TracePenalty, penalties
from keras_mgs import alpha as alphas
from keras_mgs.penalties import SAMPLES


@pytest.fixture
def at_once():
    with automatic_from_the_first_step():
        yield


def learnable(n=N):
    """Samples whose targets a network can learn, but for some noise."""
    x, noise = data(n)
    return x, x[:, :2] + 0.3 * noise


def automatic(penalty=None, loss="mse", optimizer=None, epochs=1, net=network, **kwargs):
    """A model trained with alpha="auto" for so long that α is chosen, and its History."""
    mgs = MGSModel(net(), penalty or TracePenalty("auto", "exact", every=4))
    mgs.compile(optimizer or keras.optimizers.SGD(0.05), loss)
    options = {"epochs": epochs, "batch_size": BATCH, "shuffle": False, "verbose": 0, **kwargs}
    return mgs, mgs.fit(*learnable(LONG), **options).history


STEPS = 24  # of an epoch: in the first α waits
LONG = STEPS * BATCH


@pytest.mark.parametrize("kind", ["exact", "hutchinson"])
def test_automatic_alpha_trains_as_a_plain_loop_with_the_rule(kind):
    """From the steps that wait to those that have followed r for a while."""
    penalty = {
        "exact": TracePenalty("auto", "exact", every=4),
        "hutchinson": TracePenalty("auto", samples=oracles.SAMPLES, every=4),
    }[kind]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(penalties, "SAMPLES", oracles.SAMPLES)
        if kind == "exact":  # the oracle measures what it penalises
            patch.setattr(TracePenalty, "measures_itself", True)
        mgs, history = automatic(penalty, epochs=5)
    reference, optimizer = network(), keras.optimizers.SGD(0.05)
    pairs = batches(*learnable(LONG), epochs=5)
    found = oracles.train_automatically(reference, mean_square, optimizer, pairs, kind, 4, STEPS)
    last = found[STEPS - 4 :: STEPS]  # of the last penalised step of each epoch
    assert last[0] == 0 < last[-1]
    np.testing.assert_allclose(history["mgs_alpha"], last, rtol=1e-9)
    same_weights(mgs.model, reference)


def test_automatic_alpha_leaves_the_rules_for_exact_penalties_in_force():
    """The samples by which α is chosen run apart, in a pass of which no rule is to know."""
    mgs = MGSModel(network(), TracePenalty("auto", "exact", every=1))
    mgs.compile("sgd", "mse")
    assert not announced(lambda: mgs.fit(*data(2 * SAMPLES), verbose=0))


def test_automatic_alpha_is_zero_in_history_until_it_is_chosen():
    mgs, history = automatic()
    assert history["mgs_alpha"] == [0]
    assert mgs.alpha == "auto"
    mgs, history = automatic(epochs=5)
    assert history["mgs_alpha"][0] == 0 < history["mgs_alpha"][-1] == mgs.alpha


SETTINGS = {
    "the defaults": TracePenalty(),
    "four probes": TracePenalty(probes=4),
    "four samples": TracePenalty(samples=4),
    "all samples": TracePenalty(samples=None),
    "exact": TracePenalty(estimator="exact"),
    "every fourth step": TracePenalty(every=4),
    "exact, every step": TracePenalty(estimator="exact", every=1),
}


@functools.cache
def chosen_with(setting):
    """α of the last ten epochs, for a network with layer normalisation, in single precision."""
    keras.utils.set_random_seed(0)
    dense = [layers.Dense(32), layers.LayerNormalization(), layers.ReLU(), layers.Dense(32)]
    net = keras.Sequential(
        [keras.Input((8,)), *dense, layers.LayerNormalization(), layers.Dense(4)]
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(640, 8)).astype("float32")
    y = np.argmax(x[:, :4] + 0.5 * rng.normal(size=(640, 4)), 1)
    mgs = MGSModel(net, SETTINGS[setting])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    mgs.compile(keras.optimizers.Adam(1e-3), loss, steps_per_execution=8)
    history = mgs.fit(x, y, epochs=20, batch_size=16, shuffle=False, verbose=0).history
    return np.mean(history["mgs_alpha"][-10:])


@pytest.mark.parametrize("setting", list(SETTINGS)[1:])
def test_automatic_alpha_hardly_depends_on_the_settings_of_the_estimator(setting):
    """Within 25 %: trainings differ, and measurements at other steps have other noise."""
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(chosen_with(setting), chosen_with("the defaults"), rtol=0.25)


def test_a_loss_a_thousand_times_as_large_gives_the_same_weights():
    def scaled(y, f):
        return 1000 * mean_square(y, f)

    plain, _ = automatic(loss=mean_square, epochs=5)
    large, _ = automatic(loss=scaled, optimizer=keras.optimizers.SGD(5e-5), epochs=5)
    np.testing.assert_allclose(large.alpha, 1000 * plain.alpha, rtol=1e-9)
    same_weights(large.model, plain.model)


def test_two_fits_or_a_resumed_one_end_where_a_long_one_does(tmp_path):
    """Saved before α is chosen, and while it follows r."""
    long, _ = automatic(epochs=6)
    mgs, _ = automatic()
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    for part in range(5):
        mgs.save(tmp_path / f"{part}.keras")
        mgs = keras.models.load_model(tmp_path / f"{part}.keras")
        mgs.fit(*learnable(LONG), **options)
    assert mgs.alpha == long.alpha > 0
    same_weights(mgs.model, long.model)


@pytest.mark.parametrize("options", [{"steps_per_execution": 4}, {"jit_compile": True}])
def test_automatic_alpha_is_the_same_however_steps_are_compiled(options):
    expected, _ = automatic(TracePenalty(every=4), epochs=5)
    mgs = MGSModel(network(), TracePenalty(every=4))
    mgs.compile(keras.optimizers.SGD(0.05), "mse", **options)
    mgs.fit(*learnable(LONG), epochs=5, batch_size=BATCH, shuffle=False, verbose=0)
    np.testing.assert_allclose(mgs.alpha, expected.alpha, rtol=1e-9)
    same_weights(mgs.model, expected.model)


def test_labels_dealt_anew_leave_no_trace_in_the_metrics():
    """Losses of several outputs are metrics, which the loss on dealt labels must not enter."""
    x, y = learnable()
    inputs = keras.Input((3,))
    dense = {name: layers.Dense(2, name=name) for name in ("a", "b")}
    model = keras.Model(inputs, {name: layer(inputs) for name, layer in dense.items()})
    found = []
    for net in (keras.models.clone_model(model), MGSModel(keras.models.clone_model(model))):
        getattr(net, "model", net).set_weights(model.get_weights())
        net.compile(keras.optimizers.SGD(0.0), {"a": "mse", "b": "mae"})
        logs = net.fit(x, {"a": y, "b": y}, batch_size=BATCH, verbose=0).history
        found.append({key: values for key, values in logs.items() if "mgs" not in key})
    assert found[0].keys() == found[1].keys() > {"loss"}
    for key, values in found[0].items():
        np.testing.assert_allclose(found[1][key], values, rtol=1e-9)


def test_without_labels_the_loss_at_the_start_stands_in_and_that_is_said():
    class Reconstruct(layers.Layer):
        def call(self, x, z):
            self.add_loss(keras.ops.mean((x - z) ** 2))
            return z

    inputs = keras.Input((3,))
    net = network(units=3)
    mgs = MGSModel(keras.Model(inputs, Reconstruct()(inputs, net(inputs))), TracePenalty(every=4))
    mgs.compile(keras.optimizers.SGD(0.02))
    with pytest.warns(UserWarning, match="loss at the start"):
        mgs.fit(data(LONG)[0], epochs=12, batch_size=BATCH, verbose=0)
    assert mgs.alpha > 0


def test_a_penalty_without_a_finite_gradient_leaves_plain_steps(at_once):
    """x^1.5 has no second derivative at 0, where half of the inputs are."""

    class Power(layers.Layer):
        def call(self, x):
            return keras.ops.power(x, 1.5)

    x, y = learnable()
    x = np.maximum(x, 0.0)
    y = np.maximum(x[:, :2], 0.1)

    def powers():
        keras.utils.set_random_seed(0)
        dense = [layers.Dense(2, kernel_initializer="identity"), Power(), layers.Dense(2)]
        return keras.Sequential([keras.Input((3,)), *dense])

    plain, mgs = powers(), MGSModel(powers(), TracePenalty(every=2))
    for model in (plain, mgs):
        model.compile(keras.optimizers.SGD(1e-3), "mse")
        model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    assert mgs._alpha.state.numpy()[0] == 0  # of no step could the length be measured
    same_weights(mgs.model, plain)


def test_random_labels_end_without_an_error_and_with_alpha_unset():
    keras.utils.set_random_seed(0)
    x, y = data(LONG)
    mgs = MGSModel(network(), TracePenalty(every=4))
    mgs.compile(keras.optimizers.SGD(1e-3), "mse")
    history = mgs.fit(x, y, epochs=4, batch_size=BATCH, verbose=0).history
    assert history["mgs_alpha"] == [0] * 4
    assert mgs.alpha == "auto"


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


def test_two_models_may_share_a_penalty(at_once):
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


def test_batches_without_weight_are_no_measurements():
    """Their loss is zero, and so is its gradient."""
    x, y = learnable(LONG)
    weight = np.repeat([1.0, 0.0], BATCH * np.array([4, 1]))  # every fifth batch has none
    weight = np.resize(weight, LONG)
    mgs = MGSModel(network(), TracePenalty("auto", "exact", every=1))
    mgs.compile(keras.optimizers.SGD(0.05), "mse")
    options = {"epochs": 5, "batch_size": BATCH, "shuffle": False, "verbose": 0}
    history = mgs.fit(x, y, sample_weight=weight, **options).history
    count = mgs._alpha.state.numpy()[alphas.State._fields.index("count")]
    assert count == 5 * (STEPS - STEPS // 5)
    assert 0 < history["mgs_alpha"][-1] < np.inf
