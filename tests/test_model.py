"""MGSModel: its training step against a plain loop, and its place among Keras' own features."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from keras import layers, ops
from problems import make, randomise, sequential

from keras_mgs import LogDetPenalty, LossGradientPenalty, MGSModel, TracePenalty
from keras_mgs.penalties import SHARE

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:keras_mgs has no fast rule"),
]
N, BATCH = 12, 4
EPSILON = 1e-3  # keeps log det K's second derivatives, as large as 1/ε, out of the comparison


def network(*more, units=2):
    model = sequential((3,), layers.Dense(4, "tanh"), *more, layers.Dense(units))
    randomise(model, np.random.default_rng(0))
    return model


def data(n=N, units=2):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, 3)), rng.normal(size=(n, units))


def mean_square(y, f):
    return tf.reduce_mean(tf.square(f - y))


def batches(x, y, epochs, size=BATCH):
    for _ in range(epochs):
        for i in range(0, len(x), size):
            yield tf.constant(x[i : i + size]), tf.constant(y[i : i + size])


def fitted(mgs, optimizer="sgd", epochs=2, compiled=None, **kwargs):
    x, y = data()
    mgs.compile(optimizer, "mse", **(compiled or {}))
    options = {"epochs": epochs, "batch_size": BATCH, "shuffle": False, "verbose": 0, **kwargs}
    return mgs.fit(x, y, **options).history


def same_weights(a, b, tolerance=1e-9):
    for v, w in zip(a.trainable_weights, b.trainable_weights, strict=True):
        np.testing.assert_allclose(v, w, rtol=tolerance, atol=tolerance)


# The training step, weight for weight

PENALTIES = {
    "hutchinson": lambda every, probes: TracePenalty(0.01, "hutchinson", probes, every),
    "exact": lambda every, probes: TracePenalty(0.01, "exact", every=every),
    "log_det": lambda every, probes: LogDetPenalty(0.01, EPSILON, every),
}


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


def test_the_loss_and_the_penalty_see_the_same_dropout_masks():
    """The reference computes both from one forward pass of a twin with the same seed."""
    mgs = MGSModel(network(layers.Dropout(0.5, seed=7)), penalty=PENALTIES["exact"](1, 1))
    fitted(mgs, keras.optimizers.SGD(0.05), epochs=1)
    reference = network(layers.Dropout(0.5, seed=7))
    oracles.train(
        reference,
        mean_square,
        keras.optimizers.SGD(0.05),
        batches(*data(), epochs=1),
        "exact",
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


def test_eager_steps_equal_compiled_ones():
    for penalty in (TracePenalty(0.01, every=2), LogDetPenalty(0.01, EPSILON)):
        eager, compiled = MGSModel(network(), penalty), MGSModel(network(), penalty)
        a = fitted(eager, compiled={"run_eagerly": True})
        b = fitted(compiled)
        same_weights(eager.model, compiled.model)
        np.testing.assert_allclose(a["mgs_penalty"], b["mgs_penalty"])


def test_xla_steps_equal_plain_ones():
    # Exact, because the random signs are the device's own under XLA.
    a, b = (MGSModel(network(), TracePenalty(0.01, "exact", every=2)) for _ in range(2))
    fitted(a, compiled={"jit_compile": True})
    fitted(b, compiled={"jit_compile": False})
    same_weights(a.model, b.model)


def test_random_projection_and_automatic_alpha_run_under_xla():
    mgs = MGSModel(network())
    history = fitted(mgs, compiled={"jit_compile": True})
    assert np.isfinite(history["loss"]).all()
    assert history["mgs_alpha"][0] > 0


def test_several_steps_per_execution_equal_single_ones():
    a, b = (MGSModel(network(), TracePenalty(0.01, every=2)) for _ in range(2))
    first = fitted(a, compiled={"steps_per_execution": 3})
    second = fitted(b)
    same_weights(a.model, b.model)
    assert first.keys() == second.keys()
    np.testing.assert_allclose(first["mgs_penalty"], second["mgs_penalty"])


def test_the_model_s_own_regularisation_is_part_of_the_loss():
    def regularised():
        model = sequential((3,), layers.Dense(4, "tanh", kernel_regularizer="l2"), layers.Dense(2))
        randomise(model, np.random.default_rng(0))
        return model

    mgs, plain = MGSModel(regularised(), TracePenalty(0)), regularised()
    np.testing.assert_allclose(fitted(mgs)["loss"], fitted(plain)["loss"], rtol=1e-12)
    same_weights(mgs.model, plain, 1e-12)


# alpha


def first_loss_and_trace():
    """The loss and tr K of the first batch."""
    (x, y), model = next(batches(*data(), 1)), network()
    f = oracles.flat(model(x))
    return float(mean_square(y, f)), (oracles.jacobian(model, x) ** 2).sum()


def test_automatic_alpha_is_the_share_of_loss_over_trace_and_stays():
    mgs = MGSModel(network(), TracePenalty("auto", "exact", every=1))
    assert mgs.alpha == "auto"
    history = fitted(mgs, epochs=3)
    loss, trace = first_loss_and_trace()
    np.testing.assert_allclose(mgs.alpha, SHARE * loss / trace, rtol=1e-9)
    assert history["mgs_alpha"] == [mgs.alpha] * 3


def test_automatic_alpha_shortens_a_step_over_twice_as_long_as_the_mean():
    mgs = MGSModel(network())
    steps = [[tf.constant([3.0, 0.0]) * k, tf.constant(4.0) * k] for k in (1, 1.5, 9)]
    shortened = [float(mgs._shorten(step)[1]) for step in steps]
    mean = 0.8 * 5 + 0.2 * 7.5  # of the lengths of the first two, which stay as they are
    np.testing.assert_allclose(shortened, [4, 6, 2 * mean * 4 / 5], rtol=1e-6)  # float32


def test_automatic_alpha_by_random_projection_is_near_the_exact_one():
    mgs = MGSModel(network())
    fitted(mgs, epochs=1)
    loss, trace = first_loss_and_trace()
    # The mean of 64 projections: the standard error of tr K is at most sqrt(2 / 64) of it.
    np.testing.assert_allclose(mgs.alpha, SHARE * loss / trace, rtol=4 * np.sqrt(2 / 64))


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


# History and evaluation


def test_history_has_the_training_metrics_and_no_twins_of_them_for_validation():
    history = fitted(
        MGSModel(network()), compiled={"metrics": ["mae"]}, validation_split=0.25, epochs=2
    )
    assert set(history) == {
        "loss", "mae", "mgs_penalty", "mgs_alpha", "val_loss", "val_mae",
    }  # fmt: skip


def test_penalty_in_history_is_the_mean_over_the_penalised_steps_and_is_repeated_without_one():
    """Three steps an epoch, one step in five penalised: 0, 5, 10 of 0 to 11."""
    mgs = MGSModel(network(), TracePenalty(0.01, "exact", every=5))
    history = fitted(mgs, keras.optimizers.SGD(0.05), epochs=4)["mgs_penalty"]
    _, penalties = oracles.train(
        network(),
        mean_square,
        keras.optimizers.SGD(0.05),
        batches(*data(), epochs=4),
        "exact",
        0.01,
        5,
    )
    np.testing.assert_allclose(
        history, [penalties[0], penalties[1], penalties[1], penalties[2]], rtol=1e-9
    )


def test_evaluate_and_predict_are_those_of_the_plain_model():
    x, y = data()
    mgs, plain = MGSModel(network()), network()
    for model in (mgs, plain):
        model.compile("sgd", "mse", metrics=["mae"])
    mgs.fit(x, y, verbose=0)
    plain.set_weights(mgs.model.get_weights())
    assert mgs.evaluate(x, y, verbose=0, return_dict=True) == pytest.approx(
        plain.evaluate(x, y, verbose=0, return_dict=True)
    )
    assert mgs.evaluate(x, y, verbose=0) == pytest.approx(plain.evaluate(x, y, verbose=0))
    np.testing.assert_allclose(mgs.predict(x, verbose=0), plain.predict(x, verbose=0))
    np.testing.assert_allclose(mgs(x), plain(x))


def test_evaluate_before_training_gives_the_loss():
    x, y = data()
    mgs = MGSModel(network())
    mgs.compile("sgd", "mse")
    expected = np.mean((network()(x) - y) ** 2)
    assert mgs.evaluate(x, y, verbose=0, return_dict=True) == {"loss": pytest.approx(expected)}
    assert mgs.evaluate(x, y, verbose=0) == pytest.approx(expected)


def test_train_on_batch_counts_the_steps_too():
    x, y = data(BATCH)
    mgs = MGSModel(network(), TracePenalty(0.01, "exact", every=2))
    mgs.compile(keras.optimizers.SGD(0.05), "mse")
    logs = [mgs.train_on_batch(x, y, return_dict=True) for _ in range(3)]
    assert set(logs[0]) == {"loss", "mgs_penalty", "mgs_alpha"}
    reference = network()
    oracles.train(
        reference, mean_square, keras.optimizers.SGD(0.05), [(x, y)] * 3, "exact", 0.01, 2
    )
    same_weights(mgs.model, reference)


# What Keras users pass


def test_sample_weight_and_class_weight_are_those_of_the_plain_model():
    x, _ = data()
    labels = np.arange(N) % 2
    for extra in ({"sample_weight": np.linspace(0, 1, N)}, {"class_weight": {0: 1.0, 1: 3.0}}):
        mgs, plain = MGSModel(network(), TracePenalty(0)), network()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        for model in (mgs, plain):
            model.compile("sgd", loss)
            model.fit(x, labels, shuffle=False, verbose=0, batch_size=BATCH, **extra)
        same_weights(mgs.model, plain, 1e-12)


def test_fit_takes_its_arguments_by_position_as_keras_does():
    x, y = data()
    mgs = MGSModel(network())
    mgs.compile("sgd", "mse")
    assert len(mgs.fit(x, y, BATCH, 2, 0).history["loss"]) == 2


@pytest.mark.parametrize("remainder", [False, True])
def test_a_dataset_trains_as_its_arrays_do(remainder):
    x, y = data()
    a, b = (MGSModel(network(), TracePenalty(0.01, every=2)) for _ in range(2))
    pairs = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH, drop_remainder=remainder)
    a.compile("sgd", "mse")
    a.fit(pairs, epochs=2, verbose=0, validation_data=pairs)
    fitted(b)
    same_weights(a.model, b.model)


@pytest.mark.parametrize("penalty", [TracePenalty(0.01, "exact"), LogDetPenalty(0.01), "trace"])
def test_several_inputs_and_outputs_with_a_loss_each(penalty):
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    hidden = layers.Dense(3, "tanh")(ops.concatenate([a, b], axis=1))
    outputs = {"one": layers.Dense(2, name="one")(hidden), "two": layers.Dense(1)(hidden)}
    mgs = MGSModel(keras.Model({"a": a, "b": b}, outputs), penalty)
    mgs.compile("sgd", {"one": "mse", "two": "mae"}, loss_weights={"one": 1.0, "two": 0.5})
    x = {"a": np.ones((8, 3)), "b": np.ones((8, 2))}
    y = {"one": np.ones((8, 2)), "two": np.ones((8, 1))}
    history = mgs.fit(x, y, verbose=0, validation_data=(x, y)).history
    assert {"loss", "val_loss", "mgs_penalty", "mgs_alpha"} <= set(history)
    assert np.isfinite([v for values in history.values() for v in values]).all()
    assert not any(key.startswith("val_mgs") for key in history)


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


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("penalty", ["trace", LogDetPenalty(1e-3), TracePenalty("auto", "exact")])
@pytest.mark.parametrize("head", [None, "float32"])
def test_single_and_mixed_precision_train(policy, penalty, head):
    keras.config.set_floatx("float32")  # the fixture `float64` restores both
    keras.config.set_dtype_policy(policy)
    mgs = MGSModel(sequential((3,), layers.Dense(4, "tanh"), layers.Dense(2, dtype=head)), penalty)
    history = fitted(mgs)
    assert np.isfinite(history["loss"]).all()
    assert mgs.alpha > 0


def test_loss_scaling_does_not_change_the_step():
    a, b = (MGSModel(network(), TracePenalty(0.01, "exact", every=2)) for _ in range(2))
    fitted(a, keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), 8.0))
    fitted(b, keras.optimizers.SGD(0.05))
    same_weights(a.model, b.model)


def test_recurrent_models_train_with_the_default_penalty():
    mgs = MGSModel(sequential((3, 2), layers.LSTM(2), layers.Dense(1)))
    mgs.compile("sgd", "mse")
    history = mgs.fit(np.ones((8, 3, 2)), np.ones((8, 1)), verbose=0).history
    assert np.isfinite(history["loss"]).all()


# Saving


@pytest.mark.parametrize(
    "penalty",
    [
        "trace",
        TracePenalty(0.01, "exact", every=3),
        LogDetPenalty(0.01, 1e-4, 2),
        LossGradientPenalty(0.1, "inputs", 2),
    ],
)
def test_a_saved_model_comes_back_whole_and_goes_on_as_if_it_had_stayed(penalty, tmp_path):
    mgs = MGSModel(network(), penalty, name="mine")
    fitted(mgs, "adam", epochs=1)
    alpha = mgs.alpha
    assert alpha != "auto"
    mgs.save(tmp_path / "model.keras")
    back = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(back, MGSModel)
    assert back.name == "mine"
    assert back.alpha == alpha
    assert type(back.penalty) is type(mgs.penalty)
    assert back.get_config()["penalty"] == mgs.get_config()["penalty"]
    assert back.penalty.get_config() == mgs.penalty.get_config()
    assert back.get_config()["alpha"] == back.alpha == alpha
    same_weights(back.model, mgs.model, 0)
    x, y = data()
    for model in (mgs, back):
        model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    same_weights(back.model, mgs.model)
    assert back.alpha == alpha


def test_saved_weights_carry_alpha(tmp_path):
    mgs = MGSModel(network())
    fitted(mgs, epochs=1)
    mgs.save_weights(tmp_path / "model.weights.h5")
    back = MGSModel(network())
    assert back.alpha == "auto"
    back.load_weights(tmp_path / "model.weights.h5")
    assert back.alpha == mgs.alpha
    assert fitted(back)["mgs_alpha"] == [mgs.alpha] * 2


def test_a_model_saved_before_training_is_still_automatic(tmp_path):
    mgs = MGSModel(network())
    mgs.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").alpha == "auto"


def test_configuration_round_trip():
    mgs = MGSModel(network(), TracePenalty(0.5, "exact", 2, 3), name="mine")
    back = MGSModel.from_config(mgs.get_config())
    assert back.get_config() == mgs.get_config()
    assert repr(back.penalty) == repr(mgs.penalty)
    clone = keras.models.clone_model(mgs)
    assert isinstance(clone, MGSModel)


def test_an_exported_model_computes_what_the_network_does(tmp_path):
    x, y = data()
    mgs = MGSModel(network())
    mgs.compile("sgd", "mse")
    mgs.fit(x, y, batch_size=BATCH, verbose=0)
    mgs.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(x), mgs.model(x), rtol=1e-12)


def test_the_wrapped_model_stays_the_one_that_was_passed():
    model = network()
    mgs = MGSModel(model)
    before = model.get_weights()
    fitted(mgs)
    assert mgs.model is model
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
