"""Every option of `compile` means with a penalty what it means without: number for number."""

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
    automatic_from_the_first_step,
    data,
    fitted,
    mean_square,
    network,
    same_weights,
    slices,
    slow,
    trains_as_a_plain_loop,
)
from keras import activations, layers, losses, ops, optimizers
from problems import randomise, sequential

from keras_mgs import MGSModel, TracePenalty
from keras_mgs import alpha as alphas


def classes(module, base):
    """Keras' own, by name: also those that only newer versions have."""
    found = {name: value for name, value in vars(module).items() if isinstance(value, type)}
    return {name: c for name, c in found.items() if issubclass(c, base) and c is not base}


# Optimizers

# These wrap others, and are tested below.
WRAPPERS = {"LossScaleOptimizer", "MultiOptimizer"}
OPTIMIZERS = {
    **{
        name: {"learning_rate": 0.05}
        for name in sorted(classes(optimizers, optimizers.Optimizer).keys() - WRAPPERS)
    },
    "SGD, momentum": {"learning_rate": 0.05, "momentum": 0.9},
    "SGD, nesterov": {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    "Adam, amsgrad": {"learning_rate": 0.05, "amsgrad": True},
    "RMSprop, centered": {"learning_rate": 0.05, "momentum": 0.5, "centered": True},
    "Ftrl, regularised": {
        "learning_rate": 0.05, "l1_regularization_strength": 0.1, "beta": 0.1,
    },
}  # fmt: skip
# Keras 3.15 loses the start values of this one in any compiled `fit`, the plain model's too.
EAGER = {"ScheduleFreeAdamW"}


USUAL = {"SGD", "SGD, momentum", "Adam", "AdamW", "Nadam", "RMSprop"}


@pytest.mark.parametrize("name", [name if name in USUAL else slow(name) for name in OPTIMIZERS])
def test_an_optimizer_steps_as_in_a_plain_loop(name):
    make = getattr(optimizers, name.split(",")[0])
    trains_as_a_plain_loop(
        network, *data(), "mse", mean_square, "hutchinson", lambda: make(**OPTIMIZERS[name]),
        compiled={"run_eagerly": name in EAGER},
    )  # fmt: skip


# Options: whose, and what they are; a function makes what has to be made anew for each optimizer.
OPTIONS = {
    "clipnorm": (optimizers.SGD, {"clipnorm": 0.1}),
    "global_clipnorm": (optimizers.SGD, {"global_clipnorm": 0.1}),
    "clipvalue": (optimizers.SGD, {"clipvalue": 0.05}),
    "use_ema": (optimizers.SGD, {"use_ema": True, "ema_momentum": 0.5}),
    "ema_overwrite_frequency": (
        optimizers.SGD,
        {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2},
    ),
    "weight_decay": (optimizers.SGD, {"weight_decay": 0.1}),
    "weight_decay, AdamW": (optimizers.AdamW, {"weight_decay": 0.1}),
    "learning rate schedule": (
        optimizers.SGD,
        {"learning_rate": lambda: optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)},
    ),
    "learning rate function": (optimizers.Adam, {"learning_rate": lambda: lambda: 0.03}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_optimizer_s_option_acts_as_in_a_plain_loop(name):
    make, options = OPTIONS[name]

    def optimizer():
        made = {k: v() if callable(v) else v for k, v in options.items()}
        return make(**{"learning_rate": 0.05, **made})

    model, _ = trains_as_a_plain_loop(network, *data(), "mse", mean_square, "hutchinson", optimizer)
    without = network()
    oracles.train(without, mean_square, make(0.05), slices(*data()), "hutchinson", 0.01)
    with pytest.raises(AssertionError):
        same_weights(model, without, 1e-4)


def one_for_each_rank():
    own = {2: optimizers.Adam(0.05), 1: optimizers.SGD(0.05)}
    return optimizers.MultiOptimizer(lambda variable: own[len(variable.shape)])


def adam():
    return optimizers.Adam(0.05)


# How to make it; the optimizer of a plain loop that it should equal, which does not scale its loss.
WRAPPED = {
    "LossScaleOptimizer": (lambda: optimizers.LossScaleOptimizer(adam(), 8.0), adam),
    "loss_scale_factor": (lambda: optimizers.Adam(0.05, loss_scale_factor=8.0), adam),
}
if hasattr(optimizers, "MultiOptimizer"):  # Keras 3.8 has none
    WRAPPED["MultiOptimizer"] = one_for_each_rank, one_for_each_rank


@pytest.mark.parametrize("name", WRAPPED)
def test_a_scaled_loss_or_several_optimizers_step_as_in_a_plain_loop(name):
    """The same steps are penalised, too, with the same signs: whoever counts them."""
    make, plain = WRAPPED[name]
    trains_as_a_plain_loop(
        network, *data(), "mse", mean_square, "hutchinson", make, plain_optimizer=plain, every=2
    )


def test_a_loss_scale_that_grows_does_not_change_automatic_steps():
    """Neither α nor the lengths of penalised steps depend on how the loss is scaled."""
    scaled, plain = (MGSModel(network(), TracePenalty("auto", "exact", every=1)) for _ in range(2))
    with automatic_from_the_first_step():
        fitted(scaled, optimizers.LossScaleOptimizer(optimizers.SGD(0.01), 8.0, 1), epochs=3)
        fitted(plain, optimizers.SGD(0.01), epochs=3)
    np.testing.assert_allclose(scaled.alpha, plain.alpha, rtol=1e-9)
    same_weights(scaled.model, plain.model)


def test_a_first_step_that_overflows_does_not_disable_the_shortening_of_later_ones():
    """Loss scaling skips such steps, so how long they were says nothing."""
    keras.config.set_floatx("float32")  # the fixture `float64` restores both
    keras.config.set_dtype_policy("float32")
    x, y = data()
    mgs = MGSModel(network(), TracePenalty("auto", "exact", every=1))
    optimizer = optimizers.LossScaleOptimizer(optimizers.SGD(1e-4), 3e38)
    mgs.compile(optimizer, "mse")
    mgs.fit(x, 100 * y, batch_size=BATCH, epochs=10, verbose=0)
    assert 0 < optimizer.inner_optimizer.iterations < 30  # some were skipped
    length = mgs._alpha.state.numpy()[alphas.State._fields.index("length")]
    assert 0 < length < np.inf


# Gradient accumulation


def accumulating():
    return optimizers.SGD(0.05, momentum=0.9, gradient_accumulation_steps=2)


def test_accumulated_gradients_are_those_of_a_plain_loop():
    trains_as_a_plain_loop(network, *data(), "mse", mean_square, "exact", accumulating, epochs=2)


def two_samples():
    """One output, two samples: v and -v are the same projection, so there are two of them."""
    model = sequential((3,), layers.Dense(3, "tanh"), layers.Dense(1))
    randomise(model, np.random.default_rng(0))
    return model, *(a[:2] for a in data(units=1))


def both_projections(model, x):
    """For v = (1, 1) and v = (1, -1): the squared norm of the gradient of v . f."""

    def of(sign):
        with tf.GradientTape() as tape:
            f = model(x)
            target = f[0, 0] + sign * f[1, 0]
        gradients = tape.gradient(target, oracles.variables(model))
        return sum(tf.reduce_sum(g**2) for g in gradients if g is not None)

    return {sign: of(sign) for sign in (1, -1)}


def signs_of_steps(mgs, x, y, steps):
    """Which of the two projections each training step drew, read off what it reports."""
    drawn = []
    for _ in range(steps):
        values = both_projections(mgs.model, x)
        mgs.reset_metrics()
        penalty = mgs.train_on_batch(x, y, return_dict=True)["mgs_penalty"]
        drawn += [s for s, v in values.items() if np.isclose(penalty, 0.01 * v, rtol=1e-9)]
    assert len(drawn) == steps
    return drawn


def test_batches_whose_gradients_are_accumulated_draw_signs_of_their_own():
    model, x, y = two_samples()
    mgs = MGSModel(model, PENALTIES["hutchinson"](1, 1))
    mgs.compile(accumulating(), "mse")
    drawn = signs_of_steps(mgs, x, y, 32)
    pairs = np.reshape(drawn, (-1, 2))
    assert (pairs[:, 0] != pairs[:, 1]).any()  # else: one chance in 2**16


def test_one_batch_in_every_is_penalised_with_accumulated_gradients_too():
    model, x, y = two_samples()
    mgs = MGSModel(model, PENALTIES["hutchinson"](3, 1))
    mgs.compile(accumulating(), "mse")
    penalised = 0
    for _ in range(24):
        mgs._penalty_tracker.reset_state()
        mgs.train_on_batch(x, y)
        penalised += float(mgs._penalty_tracker.count)
    assert penalised == 24 / 3


# Losses

ONE_OF_TWO = np.eye(2)[np.arange(N) % 2]
NUMBERS = data()[1]
SHARES = np.abs(NUMBERS) / np.abs(NUMBERS).sum(1, keepdims=True)
LABELS = np.arange(N) % 2
# Each loss: what ends the network, the targets, options. "logits": the loss undoes it itself.
LOSSES = {
    "BinaryCrossentropy": [("sigmoid", ONE_OF_TWO, {}), ("logits", SHARES, {"from_logits": True})],
    "BinaryFocalCrossentropy": [("sigmoid", ONE_OF_TWO, {"gamma": 1.5})],
    "CategoricalCrossentropy": [
        ("softmax", ONE_OF_TWO, {}),
        ("logits", ONE_OF_TWO, {"from_logits": True, "label_smoothing": 0.1}),
    ],
    "CategoricalFocalCrossentropy": [("softmax", ONE_OF_TWO, {})],
    "CategoricalGeneralizedCrossEntropy": [("softmax", LABELS, {})],
    "SparseCategoricalCrossentropy": [
        ("softmax", LABELS, {}),
        ("logits", LABELS, {"from_logits": True}),
    ],
    "KLDivergence": [("softmax", SHARES, {})],
    "Poisson": [("softplus", np.abs(NUMBERS), {})],
    "MeanSquaredError": [("linear", NUMBERS, {"reduction": "sum"})],
    "MeanAbsoluteError": [("linear", NUMBERS, {})],
    "MeanAbsolutePercentageError": [("linear", 1 + np.abs(NUMBERS), {})],
    "MeanSquaredLogarithmicError": [("softplus", np.abs(NUMBERS), {})],
    "CosineSimilarity": [("linear", NUMBERS, {})],
    "LogCosh": [("linear", NUMBERS, {})],
    "Huber": [("linear", NUMBERS, {"delta": 0.5})],
    "Hinge": [("linear", np.sign(NUMBERS), {})],
    "SquaredHinge": [("linear", np.sign(NUMBERS), {})],
    "CategoricalHinge": [("linear", ONE_OF_TWO, {})],
    "Dice": [("sigmoid", ONE_OF_TWO, {})],
    "Tversky": [("sigmoid", ONE_OF_TWO, {"alpha": 0.3, "beta": 0.7})],
    "Circle": [("unit length", LABELS, {})],
}
COMMON = {
    "BinaryCrossentropy",
    "SparseCategoricalCrossentropy",
    "MeanSquaredError",
    "Huber",
    "Hinge",
}
SEQUENCES = {"CTC"}  # tested below: its outputs and targets are sequences


def test_every_loss_of_keras_is_tested():
    assert classes(losses, losses.Loss).keys() <= LOSSES.keys() | SEQUENCES


@pytest.mark.parametrize(
    ("name", "end", "y", "options"),
    [
        pytest.param(
            name, *case, id=f"{name}, {case[0]}", marks=[] if name in COMMON else pytest.mark.slow
        )
        for name in LOSSES
        if hasattr(losses, name)  # some only newer versions have
        for case in LOSSES[name]
    ],
)
def test_a_loss_and_the_penalty_are_those_of_a_plain_loop(name, end, y, options):
    """Where a softmax or a sigmoid ends the network, the loss is of it, the penalty of logits."""
    loss, undone = getattr(losses, name), end in ("softmax", "sigmoid")

    def build(end=end):
        last = [layers.UnitNormalization()] if end == "unit length" else []
        activation = end if end in ("softmax", "sigmoid", "softplus") else None
        model = sequential((3,), layers.Dense(4, "tanh"), layers.Dense(2, activation), *last)
        randomise(model, np.random.default_rng(0))
        return model

    def plain_loss(y, f):
        return loss(**options)(y, getattr(activations, end)(f) if undone else f)

    trains_as_a_plain_loop(
        build,
        data()[0],
        y,
        loss(**options),
        plain_loss,
        "hutchinson",
        plain_build=(lambda: build("logits")) if undone else None,
    )


def test_a_loss_of_sequences_whose_targets_are_shorter_than_the_outputs():
    def build():
        model = sequential((4, 2), layers.Dense(4, "tanh"), layers.Dense(3))
        randomise(model, np.random.default_rng(0))
        return model

    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(N, 4, 2)), rng.integers(1, 3, size=(N, 2))
    trains_as_a_plain_loop(
        build, x, y, losses.CTC(), lambda y, f: losses.CTC()(y, tf.reshape(f, (-1, 4, 3))), "exact",
        tolerance=1e-6,  # TensorFlow computes this loss in single precision
    )  # fmt: skip


@pytest.mark.parametrize(
    "loss",
    [["mse"], keras.losses.mean_squared_error, lambda y, f: ops.mean((y - f) ** 2, -1)],
    ids=["list of one", "function of Keras", "function of a user"],
)
def test_a_loss_may_be_given_in_every_way(loss):
    trains_as_a_plain_loop(network, *data(), loss, mean_square, "exact")


def two_outputs(structure):
    """Outputs 2 and 1 wide, from layers called `one` and `two`."""
    x = keras.Input((3,))
    hidden = layers.Dense(4, "tanh")(x)
    outputs = [layers.Dense(2, name="one")(hidden), layers.Dense(1, name="two")(hidden)]
    keys = {"keys": ("a", "b"), "names": ("one", "two")}.get(structure)
    model = keras.Model(x, dict(zip(keys, outputs, strict=True)) if keys else outputs)
    randomise(model, np.random.default_rng(0))
    return model


# Losses of two outputs: the outputs' structure, then what `compile` and `fit` are given, each as a
# list, or as a dict by one of two pairs of keys; the weights of the two losses that this amounts to
SEVERAL = {
    "lists, weights": (
        "list", {"loss": ["mse", "mae"], "loss_weights": [0.5, 2.0]}, None, (0.5, 2)
    ),
    "a list with a gap": ("list", {"loss": ["mse", None]}, None, (1, 0)),
    "a list, by the layers' names": (
        "list",
        {"loss": {"one": "mse", "two": "mae"}, "loss_weights": {"one": 0.5, "two": 2.0},
         "metrics": {"two": ["mae"]}},
        None,
        (0.5, 2),
    ),
    "a list, targets too by the layers' names": (
        "list", {"loss": {"one": "mse", "two": "mae"}}, ("one", "two"), (1, 1)
    ),
    "a dict, weights": (
        "keys",
        {"loss": {"a": "mse", "b": "mae"}, "loss_weights": {"a": 0.5, "b": 2.0}},
        ("a", "b"),
        (0.5, 2),
    ),
    "a dict with a gap": ("keys", {"loss": {"b": "mae"}}, ("a", "b"), (0, 1)),
    "a dict, by the layers' names": (
        "names",
        {"loss": {"one": "mse", "two": "mae"}, "loss_weights": {"one": 0.5, "two": 2.0},
         "metrics": {"one": ["mae"]}, "weighted_metrics": {"two": ["mse"]}},
        ("one", "two"),
        (0.5, 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SEVERAL)
def test_losses_of_several_outputs_are_those_of_the_plain_model_and_of_a_plain_loop(name):
    structure, options, keys, (w, v) = SEVERAL[name]
    x, _ = data()
    y = [data()[1], data(units=1)[1]]
    if keys:
        y = dict(zip(keys, y, strict=True))

    def plain_loss(y, f):
        one, two = keras.tree.flatten(y)
        return w * mean_square(one, f[:, :2]) + v * tf.reduce_mean(abs(two - f[:, 2:]))

    # One step, so that what History says of its loss and metrics does not depend on the penalty.
    x, y = x[:BATCH], keras.tree.map_structure(lambda t: t[:BATCH], y)
    compiled = {key: value for key, value in options.items() if key != "loss"}
    _, history = trains_as_a_plain_loop(
        lambda: two_outputs(structure), x, y, options["loss"], plain_loss, "hutchinson",
        compiled=compiled,
    )  # fmt: skip
    plain = two_outputs(structure)
    plain.compile("sgd", **options)
    expected = plain.fit(x, y, verbose=0).history
    assert history.keys() - expected.keys() == {"mgs_penalty", "mgs_alpha"}
    for key, value in expected.items():
        np.testing.assert_allclose(history[key], value, rtol=1e-12, err_msg=key)


def test_a_single_output_may_be_named():
    def build():
        x = keras.Input((3,))
        model = keras.Model(x, layers.Dense(2, name="one")(layers.Dense(4, "tanh")(x)))
        randomise(model, np.random.default_rng(0))
        return model

    x, y = (a[:BATCH] for a in data())
    options = {"loss": {"one": "mse"}, "metrics": {"one": ["mae"]}}
    plain = build()
    plain.compile("sgd", **options)
    expected = plain.fit(x, y, verbose=0).history
    _, history = trains_as_a_plain_loop(
        build, x, y, options.pop("loss"), mean_square, "exact", compiled=options
    )
    assert history.keys() - expected.keys() == {"mgs_penalty", "mgs_alpha"}


# Metrics


def weighted_square(y, f):
    targets, weights = y
    return tf.reduce_mean(weights * tf.reduce_mean((f - targets) ** 2, -1))


def largest_error(y, f):
    return ops.max(ops.abs(y - f), -1)


def measured():
    return {
        "metrics": ["mae", keras.metrics.RootMeanSquaredError(name="rmse")],
        "weighted_metrics": ["mse", largest_error],
    }


def test_metrics_of_a_penalised_epoch_are_those_computed_by_hand():
    """Of the outputs before each step, with and without the samples' weights."""
    (x, y), weight = data(), np.linspace(0.2, 2, N)
    mgs, reference = MGSModel(network(), PENALTIES["exact"](2, 1)), network()
    history = fitted(mgs, optimizers.SGD(0.05), epochs=1, compiled=measured(), sample_weight=weight)
    seen = []

    def loss(y, f):
        seen.append(f.numpy())
        return weighted_square(y, f)

    pairs = slices(x, [y, weight])
    oracles.train(reference, loss, optimizers.SGD(0.05), pairs, "exact", 0.01, 2)
    same_weights(mgs.model, reference)
    errors = np.concatenate(seen[::2]) - y  # the loop asks for each step's loss twice
    squares, largest = (errors**2).mean(1), abs(errors).max(1)
    expected = {
        "mae": abs(errors).mean(),
        "rmse": np.sqrt((errors**2).mean()),
        "mse": (weight * squares).sum() / weight.sum(),
        "largest_error": (weight * largest).sum() / weight.sum(),
        "loss": (weight * squares).mean(),
    }
    assert history.keys() - expected.keys() == {"mgs_penalty", "mgs_alpha"}
    for key, value in expected.items():
        np.testing.assert_allclose(history[key], value, rtol=1e-9, err_msg=key)


def test_metrics_without_a_penalty_are_those_of_the_plain_model():
    a, b = (
        fitted(
            model, compiled=measured(), sample_weight=np.linspace(0.2, 2, N), validation_split=0.25
        )
        for model in (MGSModel(network(), TracePenalty(0)), network())
    )
    assert a.keys() - b.keys() == {"mgs_penalty", "mgs_alpha"}
    for key, values in b.items():
        np.testing.assert_allclose(a[key], values, rtol=1e-12, err_msg=key)


# Losses that the layers add


class AddsLoss(layers.Layer):
    """Adds the mean square of its inputs to the loss."""

    def call(self, x):
        self.add_loss(0.3 * ops.mean(x**2))
        return x


def regularised(*more, **options):
    def build():
        hidden = layers.Dense(4, "tanh", **options)
        model = sequential((3,), hidden, *(make() for make in more), layers.Dense(2))
        randomise(model, np.random.default_rng(0))
        return model

    return build


ADDED = {
    "regularizers": regularised(kernel_regularizer="l2", bias_regularizer="l2"),
    "activity_regularizer": regularised(activity_regularizer="l2"),
    "add_loss": regularised(AddsLoss),
}


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "exact") for name in ADDED), ("add_loss", "hutchinson")]
)
def test_losses_that_layers_add_count_once(name, kind):
    """In penalised steps and in the others."""
    trains_as_a_plain_loop(ADDED[name], *data(), "mse", mean_square, kind, every=2)


def test_a_model_may_have_no_loss_but_the_one_that_a_layer_adds():
    x, _ = data()
    reference = ADDED["add_loss"]()
    mgs = MGSModel(ADDED["add_loss"](), PENALTIES["exact"](1, 1))
    mgs.compile(optimizers.SGD(0.05))
    mgs.fit(x, batch_size=BATCH, shuffle=False, verbose=0)

    def added(y, f):
        return sum(reference.losses)

    oracles.train(reference, added, optimizers.SGD(0.05), slices(x, x), "exact", 0.01)
    same_weights(mgs.model, reference)


# How the steps are executed

EXECUTION = {
    "eagerly": {"run_eagerly": True},
    "without XLA": {"jit_compile": False},
    "with XLA": {"jit_compile": True},
    "with XLA where Keras sees fit": {"jit_compile": "auto"},
    "two steps at once": {"steps_per_execution": 2},  # of three: one is left over
    "two steps at once, with XLA": {"steps_per_execution": 2, "jit_compile": True},
}


@pytest.mark.parametrize(
    ("name", "kind", "every"),
    [
        ("eagerly", "hutchinson", 2),
        ("two steps at once", "hutchinson", 2),
        *((name, "exact", 2) for name in EXECUTION),
        ("with XLA", "log_det", 1),
    ],
)
def test_steps_executed_in_every_way_are_those_of_a_plain_loop(name, kind, every):
    """But for random signs, the device's own under XLA: see the two tests below."""
    trains_as_a_plain_loop(
        network, *data(), "mse", mean_square, kind, compiled=EXECUTION[name], every=every
    )


def test_a_random_projection_under_xla_is_one_of_the_two_that_there_are():
    """And the step is the one that this projection asks for; both come up."""
    model, x, y = two_samples()
    mgs = MGSModel(model, PENALTIES["hutchinson"](1, 1))
    mgs.compile(optimizers.SGD(0.05), "mse", jit_compile=True)
    weights, drawn = oracles.variables(model), []
    for _ in range(12):
        with tf.GradientTape(persistent=True) as tape:
            loss = mean_square(y, model(x))
            totals = {s: loss + 0.01 * v for s, v in both_projections(model, x).items()}
        moved = {
            sign: [
                w - 0.05 * g for w, g in zip(weights, tape.gradient(total, weights), strict=True)
            ]
            for sign, total in totals.items()
        }
        drawn += signs_of_steps(mgs, x, y, 1)
        for w, v in zip(weights, moved[drawn[-1]], strict=True):
            np.testing.assert_allclose(w, v, rtol=1e-9, atol=1e-9)
    assert set(drawn) == {1, -1}


@pytest.mark.parametrize("kind", ["hutchinson", "log_det"])
def test_a_loss_without_a_reduction_is_summed_and_the_penalty_added_once(kind):
    """As Keras' own step differentiates it."""
    x, y = data()
    mgs = MGSModel(network(), PENALTIES[kind](2, 1))
    mgs.compile(keras.optimizers.SGD(0.01), losses.MeanSquaredError(reduction=None))
    mgs.fit(x, y, batch_size=BATCH, shuffle=False, epochs=2, verbose=0)
    reference = network()

    def summed(y, f):
        return BATCH * mean_square(y, f)

    oracles.train(
        reference, summed, keras.optimizers.SGD(0.01), slices(x, y, 2), kind, 0.01, 2,
        epsilon=EPSILON,
    )  # fmt: skip
    same_weights(mgs.model, reference)


def test_automatic_alpha_takes_a_loss_without_a_reduction_as_its_sum():
    x, y = data()
    found = []
    for loss in (losses.MeanSquaredError(reduction=None), lambda y, f: BATCH * mean_square(y, f)):
        with automatic_from_the_first_step():
            mgs = MGSModel(network(), TracePenalty(every=2))
            mgs.compile(keras.optimizers.SGD(0.001), loss)
            mgs.fit(x, y, batch_size=BATCH, shuffle=False, epochs=2, verbose=0)
        found.append(mgs)
    assert found[0].alpha == pytest.approx(found[1].alpha, rel=1e-9)
    same_weights(found[0].model, found[1].model)
