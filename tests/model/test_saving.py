"""What is saved comes back and goes on as if it had stayed."""

import copy
import functools
import json
import pickle
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from fitting import BATCH, automatic_from_the_first_step, data, network, same_weights, slow
from keras import layers
from keras.optimizers.schedules import ExponentialDecay
from problems import Scale, randomise, sequential

from keras_mgs import LogDetPenalty, LossGradientPenalty, MGSModel, RKHSPenalty, TracePenalty

# Every penalty, and every argument away from its default in one of them. Three steps an epoch.
PENALTIES = {
    "trace": ("trace", None),  # every eighth step, alpha="auto"
    "trace, a number": ("trace", 0.02),
    "log_det, a number": ("log_det", 0.03),
    "projections": (TracePenalty(0.01, "hutchinson", 3, 2), None),
    "automatic projections": (TracePenalty("auto", "hutchinson", 2, 2), None),
    "exact": (TracePenalty(0.01, "exact", 2, 3), None),
    "automatic exact": (TracePenalty("auto", "exact", every=1), None),
    "scheduled": (TracePenalty(ExponentialDecay(0.02, 2, 0.5), probes=3, every=2), None),
    "log det": (LogDetPenalty(0.01, 1e-4, 2), None),
    "rkhs, a number": ("rkhs", 0.03),
    "rkhs": (RKHSPenalty(0.01, 1e-4, 2, True), None),
    "loss gradient, inputs": (LossGradientPenalty(0.1, "inputs", 2), None),
    "loss gradient, weights": (LossGradientPenalty(0.1, "weights", 3), None),
}
TRAINED = ["trace", "automatic projections", "automatic exact", "exact", "log det"]
TRAINED += ["scheduled", "loss gradient, inputs"]
OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "schedule": lambda: keras.optimizers.SGD(ExponentialDecay(0.05, 2, 0.8), weight_decay=0.1),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), 8.0),
}


@pytest.fixture(autouse=True)
def at_once():
    with automatic_from_the_first_step():
        yield


def wrapped(penalty="trace", optimizer="momentum", net=network, built=True):
    """A compiled MGSModel, not trained."""
    mgs = MGSModel(net(), *PENALTIES[penalty], name="mine")
    mgs.compile(OPTIMIZERS[optimizer](), "mse")
    if built:  # so that weights can be loaded into the optimizer, and one trace is enough
        mgs.optimizer.build(mgs.trainable_variables)
    return mgs


def normalised():
    """A network with moving statistics and a frozen layer."""
    # No dropout: Keras saves no random state, so masks begin anew in any model that is loaded.
    model = network(layers.BatchNormalization(momentum=0.5))
    model.layers[0].trainable = False
    return model


def fit(model, first, last, **kwargs):
    """Epochs `first` to `last` of one and the same training."""
    return model.fit(
        *data(), initial_epoch=first, epochs=last, batch_size=BATCH, shuffle=False, verbose=0,
        **kwargs,
    ).history  # fmt: skip


def state(mgs):
    """All that a training goes on from."""
    return [v.numpy() for v in (*mgs.weights, *mgs.optimizer.variables)]


def same(found, expected, names):
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, err_msg=name)


# The expensive parts, once for each kind of model.


@functools.cache
def uninterrupted(*args, **kwargs):
    """The history and the state of four epochs in one `fit`."""
    mgs = wrapped(*args, **kwargs, built=False)  # as a user has it
    return fit(mgs, 0, 4), state(mgs)


@functools.cache
def after_two(*args, **kwargs):
    """A model after two epochs. Nobody may train it, or write to it."""
    mgs = wrapped(*args, **kwargs)
    fit(mgs, 0, 2)
    return mgs


def is_uninterrupted(mgs, found, *args, **kwargs):
    """Assert that `mgs`, after `found` of four epochs, is as if nothing had happened."""
    history, expected = uninterrupted(*args, **kwargs)
    assert found.keys() == history.keys()
    epochs = len(found["loss"])
    same(found, {name: values[-epochs:] for name, values in history.items()}, history)
    for value, wanted in zip(state(mgs), expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-9, atol=1e-12)


# The ways to keep a model: each takes one and a folder, and returns what came back.


def by_file(mgs, folder):
    mgs.save(folder / "model.keras")
    return keras.models.load_model(folder / "model.keras")


def by_weights(mgs, folder, **kwargs):
    mgs.save_weights(folder / "model.weights.h5")
    return with_weights(folder / "model.weights.h5", **kwargs)


def with_weights(path, **kwargs):
    back = wrapped(**kwargs)
    back.load_weights(path)
    return back


def by_checkpoint_of_tensorflow(mgs, folder):
    tf.train.Checkpoint(mgs).write(str(folder / "checkpoint"))
    back = wrapped()
    tf.train.Checkpoint(back).read(str(folder / "checkpoint")).assert_existing_objects_matched()
    return back


def by_pickle(mgs, _):
    return pickle.loads(pickle.dumps(mgs))


def by_copy(mgs, _):
    return copy.copy(mgs)  # deep, too: Keras copies a model by its configuration and weights


def by_deepcopy(mgs, _):
    return copy.deepcopy(mgs)


def as_json(mgs):
    """A configuration as a file holds it."""
    return json.loads(json.dumps(mgs.get_config()))


def has_the_arguments_of(back, mgs):
    assert type(back) is MGSModel
    assert back.name == "mine"
    assert type(back.penalty) is type(mgs.penalty)
    assert back.penalty.get_config() == mgs.penalty.get_config()
    assert as_json(back) == as_json(mgs)
    if callable(mgs.alpha):  # a schedule, until the first step
        assert callable(back.alpha)
    else:
        assert back.alpha == mgs.alpha


@pytest.mark.parametrize("penalty", PENALTIES)
def test_every_argument_comes_back_from_a_file_and_from_weights(penalty, tmp_path):
    mgs = wrapped(penalty)
    has_the_arguments_of(by_file(mgs, tmp_path), mgs)
    if not callable(mgs.alpha):  # a schedule cannot be set
        mgs.alpha = 0.125
        has_the_arguments_of(by_file(mgs, tmp_path), mgs)
        assert by_weights(mgs, tmp_path, penalty=penalty).alpha == 0.125


@pytest.mark.parametrize("penalty", ["trace", "exact", *map(slow, TRAINED[1:3] + TRAINED[4:])])
def test_a_saved_model_goes_on_as_if_it_had_stayed(penalty, tmp_path):
    back = by_file(after_two(penalty), tmp_path)
    assert back.alpha == after_two(penalty).alpha != "auto"
    has_the_arguments_of(back, after_two(penalty))
    is_uninterrupted(back, fit(back, 2, 4), penalty)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", ["automatic projections", "automatic exact", "log det"])
def test_saved_weights_carry_all_that_training_goes_on_from(penalty, tmp_path):
    back = by_weights(after_two(penalty), tmp_path, penalty=penalty)
    is_uninterrupted(back, fit(back, 2, 4), penalty)


@pytest.mark.slow
@pytest.mark.parametrize("way", [by_checkpoint_of_tensorflow, by_pickle, by_copy, by_deepcopy])
def test_every_other_way_to_keep_a_model_keeps_it_whole_and_apart(way, tmp_path):
    mgs = after_two()
    before = state(mgs)
    back = way(mgs, tmp_path)
    is_uninterrupted(back, fit(back, 2, 4))
    for now, value in zip(state(mgs), before, strict=True):  # the original was left alone
        np.testing.assert_array_equal(now, value)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["schedule", "loss scale"])
def test_every_optimizer_goes_on_from_its_state(optimizer, tmp_path):
    args = ("automatic projections", optimizer)
    back = by_file(after_two(*args), tmp_path)
    is_uninterrupted(back, fit(back, 2, 4), *args)


def test_a_network_with_moving_statistics_and_a_frozen_layer_goes_on(tmp_path):
    back = by_file(after_two("automatic projections", net=normalised), tmp_path)
    assert not back.model.layers[0].trainable
    is_uninterrupted(back, fit(back, 2, 4), "automatic projections", net=normalised)


def after_longer_steps(mgs):
    """The state after thirty times larger data: gradients far over twice as long as before."""
    x, y = data()
    mgs.fit(30 * x, 30 * y, batch_size=BATCH, shuffle=False, verbose=0, epochs=2)
    return state(mgs)


@functools.cache
def with_and_without_memory():
    stayed, forgetful = wrapped(), copy.deepcopy(after_two())
    fit(stayed, 0, 2)
    known = forgetful._alpha.state
    known.assign([*known.numpy()[:-1], 0.0])  # the last is the mean length
    return after_longer_steps(stayed), after_longer_steps(forgetful)


@pytest.mark.parametrize("way", [by_file, by_weights])
def test_a_step_is_shortened_by_the_lengths_of_those_before_the_model_was_saved(way, tmp_path):
    found = after_longer_steps(way(after_two(), tmp_path))
    expected, forgotten = with_and_without_memory()
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-9, atol=1e-12)
    kernel = [v.ndim for v in expected].index(2)
    assert not np.allclose(forgotten[kernel], expected[kernel], rtol=1e-3)  # it is seen


def test_history_goes_on_where_no_step_has_been_penalised_since_the_model_was_saved(tmp_path):
    """Eight steps apart, three an epoch: epoch 1 of 0, 1, 2 has none and repeats epoch 0's."""
    mgs = wrapped()
    fit(mgs, 0, 1)
    back = by_file(mgs, tmp_path)
    is_uninterrupted(back, fit(back, 1, 4))


# Callbacks that keep the model while it trains


class Interrupted(Exception):
    pass


class Interrupt(keras.callbacks.Callback):
    """An accident in the middle of epoch 2."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 2 and batch == 1:
            raise Interrupted


@pytest.mark.parametrize(
    ("penalty", "net"),
    [("trace", network), ("automatic projections", normalised), ("log det", network)],
)
def test_an_interrupted_training_is_resumed_by_backup_and_restore(penalty, net, tmp_path):
    def trained(*more):
        mgs = wrapped(penalty, net=net, built=False)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        return mgs, fit(mgs, 0, 4, callbacks=[backup, *more])

    with pytest.raises(Interrupted):
        trained(Interrupt())
    keras.utils.set_random_seed(99)  # as in a new process
    mgs, found = trained()
    assert len(found["loss"]) == 2
    is_uninterrupted(mgs, found, penalty, net=net)


@pytest.mark.slow
def test_training_goes_on_from_a_model_checkpoint(tmp_path):
    checkpoint = keras.callbacks.ModelCheckpoint
    files = [
        checkpoint(tmp_path / "{epoch}.keras"),
        checkpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True),
    ]
    fit(wrapped("automatic projections"), 0, 3, callbacks=files)
    for back in (
        keras.models.load_model(tmp_path / "2.keras"),
        with_weights(tmp_path / "2.weights.h5", penalty="automatic projections"),
    ):
        is_uninterrupted(back, fit(back, 2, 4), "automatic projections")


# Without the state of a training


def test_a_model_saved_before_training_is_still_automatic(tmp_path):
    back = by_file(wrapped(), tmp_path)
    assert back.alpha == "auto"
    is_uninterrupted(back, fit(back, 0, 4))


def test_a_model_loaded_without_its_compilation_keeps_alpha_and_lengths(tmp_path):
    """A new optimizer counts from 0; the weight of the penalty goes on from where it was."""
    mgs = copy.deepcopy(after_two())
    mgs.save(tmp_path / "model.keras")
    back = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert not back.compiled
    assert back.alpha == mgs.alpha
    for model in (back, mgs):
        model.compile(OPTIMIZERS["momentum"](), "mse")
    expected, found = fit(mgs, 0, 2), fit(back, 0, 2)
    same(found, expected, expected)
    same_weights(back, mgs)


# Configurations


@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_configuration_names_every_argument_and_is_json(penalty):
    mgs = wrapped(penalty)
    for back in (MGSModel.from_config(as_json(mgs)), keras.models.model_from_json(mgs.to_json())):
        has_the_arguments_of(back, mgs)
        assert [w.shape for w in back.weights] == [w.shape for w in mgs.weights]


def test_a_configuration_can_be_read_twice():
    config = wrapped("exact").get_config()
    before = copy.deepcopy(config)
    MGSModel.from_config(config)
    assert config == before
    assert repr(MGSModel.from_config(config).penalty) == repr(PENALTIES["exact"][0])


@pytest.mark.slow
@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_penalty_is_pickled_and_copied_whole(penalty):
    penalty = wrapped(penalty).penalty
    for back in (pickle.loads(pickle.dumps(penalty)), copy.deepcopy(penalty)):
        assert type(back) is type(penalty)
        assert back.get_config() == penalty.get_config()


@pytest.mark.parametrize(("argument", "value"), [("trainable", False), ("dtype", "float32")])
def test_the_arguments_of_any_keras_model_come_back(argument, value, tmp_path):
    mgs = MGSModel(network(), **{argument: value})
    back = by_file(mgs, tmp_path)
    assert getattr(mgs, argument) == value
    assert getattr(back, argument) == value


@functools.cache
def new_with_alpha(penalty):
    """What a new model with the alpha of a trained one comes to."""
    new = wrapped(penalty)
    new.alpha = after_two(penalty).alpha
    return new.model.get_weights(), fit(new, 0, 3), state(new)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("penalty", "way"),
    [("exact", "clone_model"), ("exact", "from_config")],
)
def test_a_clone_has_new_weights_and_the_penalty_with_the_number_that_it_was_given(penalty, way):
    mgs = after_two(penalty)
    before = state(mgs)
    if way == "clone_model":
        clone = keras.models.clone_model(mgs)
    else:
        clone = MGSModel.from_config(mgs.get_config())
    assert type(clone) is MGSModel
    assert repr(clone.penalty) == repr(mgs.penalty)
    assert clone.alpha == mgs.alpha
    kernels = zip(clone.trainable_weights[::2], mgs.trainable_weights[::2], strict=True)
    assert all(not np.allclose(v, w) for v, w in kernels)

    # Given the weights of a new model, it is that model, but for alpha.
    weights, history, expected = new_with_alpha(penalty)
    clone.model.set_weights(weights)
    clone.compile(OPTIMIZERS["momentum"](), "mse")
    same(fit(clone, 0, 3), history, history)
    for value, wanted in zip(state(clone), expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-9, atol=1e-12)
    for now, value in zip(state(mgs), before, strict=True):
        np.testing.assert_array_equal(now, value)


@pytest.mark.parametrize("mgs", [wrapped, after_two])
def test_a_clone_of_an_automatic_model_chooses_anew(mgs):
    """Its weights are new, and what α follows belongs to the old ones."""
    assert keras.models.clone_model(mgs()).alpha == "auto"


def test_a_clone_keeps_a_number_that_was_set():
    mgs = wrapped()
    mgs.alpha = 0.25
    clone = keras.models.clone_model(mgs)
    clone.compile("sgd", "mse")
    assert fit(clone, 0, 2)["mgs_alpha"] == [0.25] * 2


def test_a_wrapper_computes_in_the_type_of_its_network_whatever_the_session_s_is(tmp_path):
    """As the plain model does: a network in double precision, in a session in single."""
    mgs = after_two()
    x = tf.constant(data()[0])
    expected = mgs(x)
    mgs.save(tmp_path / "model.keras")
    mgs.model.save(tmp_path / "plain.keras")
    keras.config.set_floatx("float32")  # the fixture `float64` restores both
    keras.config.set_dtype_policy("float32")
    plain = keras.models.load_model(tmp_path / "plain.keras")
    np.testing.assert_allclose(plain(x), expected, rtol=1e-12)
    back = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(back(x), expected, rtol=1e-12)
    np.testing.assert_allclose(MGSModel(plain)(x), expected, rtol=1e-12)


def test_a_model_that_was_frozen_after_training_can_be_saved_and_loaded(tmp_path):
    mgs = copy.deepcopy(after_two())
    mgs.trainable = False
    back = by_file(mgs, tmp_path)
    assert not back.trainable_weights
    assert back.alpha == mgs.alpha
    np.testing.assert_allclose(back(data()[0]), mgs(data()[0]), rtol=1e-12)


# A user's own classes


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden, self.head = layers.Dense(4, "tanh"), layers.Dense(units)

    def call(self, x):
        return self.head(self.hidden(x["a"])) + x["b"]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@pytest.mark.slow
def test_a_subclassed_network_comes_back_built_and_goes_on(tmp_path):
    x = dict(zip("ab", data(), strict=True))
    model = Subclassed()
    model(x)
    randomise(model, np.random.default_rng(0))
    mgs = MGSModel(model, PENALTIES["automatic projections"][0])
    mgs.compile(OPTIMIZERS["momentum"](), "mse")
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0, "epochs": 2}
    mgs.fit(x, data()[1], **options)
    back = by_file(mgs, tmp_path)
    expected = mgs.fit(x, data()[1], **options).history
    same(back.fit(x, data()[1], **options).history, expected, expected)
    same_weights(back, mgs)


class Halved(TracePenalty):
    """Not registered with Keras, and neither are `Late` and `Scale`."""

    def value(self, run):
        return super().value(run) / 2


class Late(ExponentialDecay):
    def __call__(self, step):
        return super().__call__(step) * keras.ops.cast(step > 1, "float32")


def test_own_layers_penalties_and_schedules_are_found_among_custom_objects(tmp_path):
    mgs = MGSModel(network(Scale()), Halved(Late(0.01, 9, 0.5), "exact", every=2))
    mgs.compile(OPTIMIZERS["momentum"](), "mse")
    fit(mgs, 0, 2)
    mgs.save(tmp_path / "model.keras")
    own = {"Scale": Scale, "Halved": Halved, "Late": Late}
    back = keras.models.load_model(tmp_path / "model.keras", custom_objects=own)
    by_config = MGSModel.from_config(mgs.get_config(), custom_objects=own)
    with keras.saving.custom_object_scope(own):
        clone = keras.models.clone_model(mgs)
        twin = copy.deepcopy(mgs)
    for model in (back, by_config, clone, twin):
        assert type(model.penalty) is Halved
        assert type(model.penalty.alpha) is Late
    expected = fit(mgs, 2, 4)
    for model in (back, twin):
        same(fit(model, 2, 4), expected, expected)
        same_weights(model, mgs)


def test_a_python_lambda_is_only_loaded_when_that_is_allowed(tmp_path):
    mgs = MGSModel(sequential((3,), layers.Lambda(lambda x: 2 * x), layers.Dense(2)))
    mgs.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="lambda"):
        keras.models.load_model(tmp_path / "model.keras")
    back = keras.models.load_model(tmp_path / "model.keras", safe_mode=False)
    np.testing.assert_allclose(back(data()[0]), mgs(data()[0]), rtol=1e-12)


def test_a_model_inside_another_comes_back(tmp_path):
    mgs, inputs = copy.deepcopy(after_two()), keras.Input((3,))
    outer = keras.Model(inputs, layers.Activation("tanh")(mgs(inputs)))
    back = by_file(outer, tmp_path)
    np.testing.assert_allclose(back(data()[0]), np.tanh(mgs(data()[0])), rtol=1e-9)
    inner = next(layer for layer in back.layers if layer.name == "mine")
    assert type(inner) is MGSModel
    assert inner.alpha == mgs.alpha


# Places


@pytest.mark.slow
@pytest.mark.parametrize("as_path", [str, lambda path: path], ids=["str", "Path"])
@pytest.mark.parametrize("name", ["with spaces", "with.a.dot", "größer_模型", "model.keras"])
def test_a_model_may_be_kept_in_any_folder_and_moved(name, as_path, tmp_path, monkeypatch):
    mgs, folder = wrapped(), tmp_path / name
    mgs.alpha = 0.125
    folder.mkdir()
    mgs.save(as_path(folder / "a.keras"))
    mgs.save_weights(as_path(folder / "a.weights.h5"))
    shutil.move(folder, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    back = keras.models.load_model("elsewhere/a.keras")
    other = wrapped()
    other.load_weights("elsewhere/a.weights.h5")
    assert back.alpha == other.alpha == 0.125
    for value, now, wanted in zip(back.weights, other.weights, mgs.weights, strict=True):
        np.testing.assert_array_equal(value.numpy(), wanted.numpy())
        np.testing.assert_array_equal(now.numpy(), wanted.numpy())


# Weights from one model to another


def by_weights_file(source, target, folder):
    source.save_weights(folder / "model.weights.h5")
    target.load_weights(folder / "model.weights.h5")


def by_set_weights(source, target, _):
    target.set_weights(source.get_weights())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "target", "way"),
    [
        ("exact", "trace", by_weights_file),
        ("trace", "exact", by_set_weights),
        ("trace", "log det", by_weights_file),
        ("log det", "loss gradient, inputs", by_set_weights),
    ],
)
def test_weights_go_to_a_model_with_another_penalty_alpha_included(source, target, way, tmp_path):
    """α is a weight: it is loaded as all others are, and may be set afterwards."""
    mgs = after_two(source)
    other, reference = wrapped(target, built=False), wrapped(target, built=False)
    way(mgs, other, tmp_path)
    assert other.alpha == mgs.alpha
    assert repr(other.penalty) == repr(reference.penalty)

    reference.model.set_weights(mgs.model.get_weights())
    reference.alpha = mgs.alpha
    reference._alpha.state.assign(mgs._alpha.state)
    reference._steps.assign(mgs._steps)
    expected = fit(reference, 0, 2)
    same(fit(other, 0, 2), expected, expected)
    same_weights(other, reference)


@pytest.mark.parametrize(
    ("target", "way"), [("exact", by_weights_file), ("log det", by_set_weights)]
)
def test_weights_of_an_untrained_automatic_model_leave_a_given_alpha(target, way, tmp_path):
    """There is no α to take over: none has been chosen."""
    other = wrapped(target)
    way(wrapped("trace"), other, tmp_path)
    assert other.alpha == PENALTIES[target][0].alpha
    is_uninterrupted(other, fit(other, 0, 4), target)


def test_weights_of_an_untrained_automatic_model_make_another_choose_anew():
    trained = copy.deepcopy(after_two())
    trained.set_weights(wrapped().get_weights())
    assert trained.alpha == "auto"
    trained.compile(OPTIMIZERS["momentum"](), "mse")
    is_uninterrupted(trained, fit(trained, 0, 4))


@functools.cache
def trained_on_without_a_penalty():
    mgs = MGSModel(copy.deepcopy(after_two().model), TracePenalty(0))
    mgs.compile(OPTIMIZERS["momentum"](), "mse")
    return fit(mgs, 0, 2)["loss"], mgs


@pytest.mark.parametrize("way", ["set_weights", "weights file", "file"])
def test_the_network_goes_to_a_plain_model_and_trains_there_as_any(way, tmp_path):
    mgs, plain = after_two(), network()
    if way == "set_weights":
        plain.set_weights(mgs.model.get_weights())
    elif way == "weights file":
        by_weights_file(mgs.model, plain, tmp_path)
    else:
        plain = by_file(mgs.model, tmp_path)
    assert type(plain) is keras.Sequential
    np.testing.assert_allclose(plain(data()[0]), mgs(data()[0]), rtol=1e-12)
    plain.compile(OPTIMIZERS["momentum"](), "mse")
    losses, expected = trained_on_without_a_penalty()
    np.testing.assert_allclose(fit(plain, 0, 2)["loss"], losses, rtol=1e-9)
    same_weights(plain, expected)


def test_a_plain_model_s_weights_go_to_the_wrapped_one(tmp_path):
    plain, mgs = network(), wrapped("exact")
    plain.compile(OPTIMIZERS["momentum"](), "mse")
    fit(plain, 0, 2)
    plain.save_weights(tmp_path / "plain.weights.h5")
    mgs.model.load_weights(tmp_path / "plain.weights.h5")
    reference = MGSModel(plain, PENALTIES["exact"][0])
    reference.compile(OPTIMIZERS["momentum"](), "mse")
    expected = fit(reference, 0, 2)
    same(fit(mgs, 0, 2), expected, expected)
    same_weights(mgs, reference)


def test_a_file_of_weights_for_the_other_kind_of_model_is_refused(tmp_path):
    """Better than a model into which nothing, or a part, was loaded unnoticed."""
    mgs, plain = wrapped(), network()
    for source, target in ((mgs, plain), (plain, mgs)):
        with pytest.raises(ValueError, match="could not be loaded"):
            by_weights_file(source, target, tmp_path)
        (tmp_path / "model.weights.h5").unlink()


# Without keras_mgs


def convolutional():
    return sequential(
        (4, 4, 1),
        layers.Conv2D(2, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.Dropout(0.5, seed=3),
        layers.Flatten(),
        layers.Dense(3, "softmax"),
    )


def test_the_network_is_deployed_where_keras_mgs_is_not_installed(tmp_path):
    """`mgs.model.save()` and `export()`, after penalties have looked into the layers."""
    rng, expected = np.random.default_rng(0), {}
    for i, (build, penalty) in enumerate(
        [
            (convolutional, "exact"),
            (network, "loss gradient, inputs"),
        ]
    ):
        mgs = wrapped(penalty, net=build)
        x = rng.normal(size=(8, *mgs.model.input_shape[1:]))
        y = rng.normal(size=(8, *mgs.model.output_shape[1:]))
        mgs.fit(x, y, batch_size=BATCH, verbose=0)
        mgs.model.save(tmp_path / f"{i}.keras")
        mgs.export(tmp_path / f"{i}.exported", verbose=False)
        expected[f"x{i}"], expected[f"f{i}"] = x, mgs.model.predict(x, verbose=0)
    np.savez(tmp_path / "expected.npz", **expected)
    wrapped().save(tmp_path / "mgs.keras")
    code = """
import sys
sys.modules["keras_mgs"] = None  # importing it raises ImportError
import keras, numpy as np, tensorflow as tf
keras.config.set_floatx("float64")  # of the data
expected = np.load("expected.npz")
for i in range(2):
    x, f = expected[f"x{i}"], expected[f"f{i}"]
    model = keras.models.load_model(f"{i}.keras")
    np.testing.assert_allclose(model.predict(x, verbose=0), f, rtol=1e-9)
    exported = tf.saved_model.load(f"{i}.exported")
    np.testing.assert_allclose(exported.serve(x), f, rtol=1e-9)
try:
    keras.models.load_model("mgs.keras")
except TypeError as error:
    assert "keras_mgs" in str(error)  # what to install
else:
    raise AssertionError("The wrapper was loaded without its class.")
assert sys.modules["keras_mgs"] is None
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]


def test_an_exported_model_computes_what_the_network_does_and_stays_so(tmp_path):
    mgs = wrapped()
    fit(mgs, 0, 1)
    mgs.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    x = data()[0]
    expected = mgs.model.predict(x, verbose=0)
    np.testing.assert_allclose(exported.serve(x), expected, rtol=1e-12)
    fit(mgs, 1, 2)
    np.testing.assert_allclose(exported.serve(x), expected, rtol=1e-12)
