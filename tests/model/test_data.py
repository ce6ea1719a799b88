"""Every kind of data that `fit` takes."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from fitting import (
    BATCH,
    PENALTIES,
    N,
    batches,
    by_plain_loop,
    data,
    fitted,
    mean_square,
    network,
    same_weights,
)
from keras import layers
from problems import randomise, sequential

from keras_mgs import MGSModel, TracePenalty

PARTIAL = 10  # samples: two batches of four, and one of two
STEPS = 3


def sliced(*arrays):
    for i in range(0, len(arrays[0]), BATCH):
        yield tuple(a[i : i + BATCH] for a in arrays)


def forever(*arrays):
    while True:
        yield from sliced(*arrays)


class Batches(keras.utils.PyDataset):
    def __init__(self, *arrays):
        super().__init__()
        self.batches = list(sliced(*arrays))

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def as_arrays(x, y, *weight, convert=np.asarray):
    named = dict(zip(("x", "y", "sample_weight"), (x, y, *weight), strict=False))
    return {**{k: convert(v) for k, v in named.items()}, "batch_size": BATCH}


def as_dataset(*arrays, **kwargs):
    return {"x": tf.data.Dataset.from_tensor_slices(arrays).batch(BATCH, **kwargs)}


def as_dataset_of_unknown_shapes(*arrays):
    signature = tuple(tf.TensorSpec((None,) * a.ndim, a.dtype) for a in arrays)
    dataset = tf.data.Dataset.from_generator(lambda: sliced(*arrays), output_signature=signature)
    return {"x": dataset.apply(tf.data.experimental.assert_cardinality(STEPS))}


# (x, y[, sample weights]) -> what `fit` is given
SOURCES = {
    "arrays": as_arrays,
    "tensors": lambda *arrays: as_arrays(*arrays, convert=tf.constant),
    "data frames": lambda *arrays: as_arrays(*arrays, convert=frame),
    "dataset": as_dataset,
    "repeated dataset": lambda *arrays: {
        "x": as_dataset(*arrays)["x"].repeat(),
        "steps_per_epoch": STEPS,
    },
    "dataset of unknown shapes": as_dataset_of_unknown_shapes,
    "PyDataset": lambda *arrays: {"x": Batches(*arrays)},
    "generator": lambda *arrays: {"x": forever(*arrays), "steps_per_epoch": STEPS},
}


def frame(array):
    return pd.Series(array) if array.ndim == 1 else pd.DataFrame(array)


def trained(mgs, given, loss="mse", epochs=2):
    """The History of a `fit` without shuffling."""
    mgs.compile(keras.optimizers.SGD(0.05), loss)
    return mgs.fit(**given, epochs=epochs, shuffle=False, verbose=0).history


def assert_history(history, losses, penalties, n=PARTIAL, every=2):
    """Two epochs of three steps, of which 0, 2 and 4 were penalised, or all."""
    sizes = [min(BATCH, n - i) for i in range(0, n, BATCH)]
    expected = np.average(np.reshape(losses, (2, STEPS)), axis=1, weights=sizes)
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-9)
    first = 2 if every == 2 else STEPS
    expected = [penalties[:first].mean(), penalties[first:].mean()]
    np.testing.assert_allclose(history["mgs_penalty"], expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("source", "kind"),
    [(source, "hutchinson") for source in SOURCES]
    # These need the shapes: the number of rows of J, and the size of K.
    + [("dataset of unknown shapes", "exact"), ("dataset of unknown shapes", "log_det")],
)
def test_every_kind_of_data_trains_as_a_plain_loop_over_its_batches(source, kind):
    x, y = data(PARTIAL)
    mgs = MGSModel(network(), PENALTIES[kind](2, 1))
    history = trained(mgs, SOURCES[source](x, y))
    reference, losses, penalties = by_plain_loop(batches(x, y, 2), kind)
    same_weights(mgs.model, reference)
    assert_history(history, losses, penalties)


def test_a_dataset_of_a_fixed_batch_size_trains_as_a_plain_loop_over_its_batches():
    x, y = data()
    mgs = MGSModel(network(), PENALTIES["hutchinson"](2, 1))
    history = trained(mgs, as_dataset(x, y, drop_remainder=True))
    reference, losses, penalties = by_plain_loop(batches(x, y, 2))
    same_weights(mgs.model, reference)
    assert_history(history, losses, penalties, N)


@pytest.mark.parametrize("every", [1, 2])
def test_the_end_of_a_dataset_of_unknown_length_is_no_step(every):
    """Keras learns of it from a step that begins and finds no data."""
    x, y = data(PARTIAL)
    mgs = MGSModel(network(), PENALTIES["hutchinson"](every, 1))
    pairs = tf.data.Dataset.from_tensor_slices((x, y)).filter(lambda x, y: True).batch(BATCH)
    history = trained(mgs, {"x": pairs})
    reference, losses, penalties = by_plain_loop(batches(x, y, 2), every=every)
    same_weights(mgs.model, reference)
    assert_history(history, losses, penalties, every=every)


def test_batches_of_one_train_as_a_plain_loop():
    x, y = data(3)
    mgs = MGSModel(network(), PENALTIES["hutchinson"](2, 1))
    trained(mgs, {"x": x, "y": y, "batch_size": 1})
    same_weights(mgs.model, by_plain_loop(batches(x, y, 2, size=1))[0])


def test_steps_per_epoch_neither_restart_the_data_nor_the_count_of_steps():
    """Two epochs of two steps through three batches: 0, 1 and 2, 0."""
    x, y = data()
    mgs = MGSModel(network(), PENALTIES["hutchinson"](3, 1))
    history = trained(mgs, {**SOURCES["generator"](x, y), "steps_per_epoch": 2})
    pairs = list(batches(x, y, 2))[:4]
    reference, losses, penalties = by_plain_loop(pairs, every=3)
    same_weights(mgs.model, reference)
    np.testing.assert_allclose(history["loss"], losses.reshape(2, 2).mean(1), rtol=1e-9)
    np.testing.assert_allclose(history["mgs_penalty"], penalties, rtol=1e-9)


@pytest.mark.parametrize("source", ["arrays", "dataset"])
def test_single_precision_data_train_a_double_precision_model(source):
    x, y = (a.astype("float32") for a in data(PARTIAL))
    mgs = MGSModel(network(), PENALTIES["hutchinson"](2, 1))
    trained(mgs, SOURCES[source](x, y))
    same_weights(mgs.model, by_plain_loop(batches(x.astype(float), y.astype(float), 2))[0])


def pixels():
    return sequential((3,), layers.Rescaling(1 / 255), layers.Dense(4, "tanh"), layers.Dense(2))


def tokens():
    stack = layers.Embedding(9, 4), layers.Flatten(), layers.Dense(2)
    return sequential((3,), *stack, dtype="int32")


@pytest.mark.parametrize(("source", "dtype"), [("arrays", "uint8"), ("dataset", "int64")])
@pytest.mark.parametrize("build", [pixels, tokens])
def test_integers_train_as_a_plain_loop_over_the_same_numbers(build, dtype, source):
    def made():
        model = build()
        randomise(model, np.random.default_rng(0))
        return model

    x = np.random.default_rng(2).integers(9 if build is tokens else 256, size=(PARTIAL, 3))
    _, y = data(PARTIAL)
    mgs = MGSModel(made(), PENALTIES["hutchinson"](2, 1))
    trained(mgs, SOURCES[source](x.astype(dtype), y), epochs=1)
    reals = batches(x.astype("int32" if build is tokens else float), y, 1)
    same_weights(mgs.model, by_plain_loop(reals, model=made())[0])


def weighted_mean_square(y_and_weight, f):
    y, weight = y_and_weight
    return tf.reduce_mean(weight * tf.reduce_mean(tf.square(f - y), 1))


@pytest.mark.parametrize(
    "source", ["arrays", "data frames", "dataset", "dataset of unknown shapes", "generator"]
)
def test_sample_weights_weigh_the_loss_and_not_the_penalty(source):
    (x, y), weight = data(PARTIAL), np.linspace(0, 3, PARTIAL)
    mgs = MGSModel(network(), PENALTIES["hutchinson"](2, 1))
    history = trained(mgs, SOURCES[source](x, y, weight))
    pairs = [(xs, (ys, ws)) for xs, ys, ws in sliced(x, y, weight)] * 2
    reference, losses, penalties = by_plain_loop(pairs, loss=weighted_mean_square)
    same_weights(mgs.model, reference)
    assert_history(history, losses, penalties)


@pytest.mark.parametrize("source", ["arrays", "dataset"])
def test_class_weights_weigh_the_loss_and_not_the_penalty(source):
    x, _ = data(PARTIAL)
    labels = np.arange(PARTIAL) % 2
    mgs = MGSModel(network(), PENALTIES["hutchinson"](2, 1))
    given = {**SOURCES[source](x, labels), "class_weight": {0: 1.0, 1: 3.0}}
    history = trained(mgs, given, keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def loss(y, f):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, f)
        return tf.reduce_mean(tf.gather(tf.constant([1.0, 3.0], f.dtype), y) * losses)

    reference, losses, penalties = by_plain_loop(batches(x, labels, 2), loss=loss)
    same_weights(mgs.model, reference)
    assert_history(history, losses, penalties)


def test_shuffling_is_that_of_the_plain_model():
    def fit(model, shuffle=True):
        keras.utils.set_random_seed(3)
        return fitted(model, shuffle=shuffle)["loss"]

    unpenalised = fit(MGSModel(network(), TracePenalty(0)))
    np.testing.assert_allclose(unpenalised, fit(network()), rtol=1e-12)
    assert unpenalised != pytest.approx(fit(network(), shuffle=False), rel=1e-3)


class AddsItsLoss(layers.Layer):
    """Of an autoencoder: how far the output is from the input."""

    def call(self, x_and_output):
        x, output = x_and_output
        self.add_loss(keras.ops.mean(keras.ops.square(output - x)))
        return output


@pytest.mark.parametrize("source", ["array", "dataset"])
def test_a_model_that_adds_its_own_loss_trains_on_inputs_alone(source):
    x, _ = data()
    inputs, autoencoder = keras.Input((3,)), network(units=3)
    model = keras.Model(inputs, AddsItsLoss()([inputs, autoencoder(inputs)]))
    mgs = MGSModel(model, PENALTIES["hutchinson"](2, 1))
    given = {"x": x, "batch_size": BATCH}
    if source == "dataset":
        given = {"x": tf.data.Dataset.from_tensor_slices(x).batch(BATCH)}
    history = trained(mgs, given, None)
    pairs = batches(x, x, 2)
    reference, losses, penalties = by_plain_loop(pairs, model=network(units=3))
    same_weights(mgs.model, reference)
    assert_history(history, losses, penalties, N)


X_VAL, Y_VAL = (a[N:] for a in data(N + PARTIAL))
W_VAL = np.linspace(0, 3, PARTIAL)


@pytest.mark.parametrize(
    ("options", "plainly"),
    [
        (
            {"validation_data": (X_VAL, Y_VAL, W_VAL), "validation_batch_size": 1},
            {"sample_weight": W_VAL},
        ),
        ({"validation_data": as_dataset(X_VAL, Y_VAL, W_VAL)["x"]}, {"sample_weight": W_VAL}),
        ({"validation_data": Batches(X_VAL, Y_VAL), "validation_freq": 2}, {}),
        (
            {"validation_data": as_dataset(X_VAL, Y_VAL)["x"].repeat(), "validation_steps": STEPS},
            {},
        ),
    ],
    ids=["arrays with weights", "dataset with weights", "PyDataset", "repeated dataset"],
)
def test_validation_is_that_of_the_plain_model_and_leaves_the_training_alone(options, plainly):
    after_each_epoch = []
    record = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: after_each_epoch.append(mgs.model.get_weights())
    )
    mgs, plain = MGSModel(network(), PENALTIES["hutchinson"](2, 1)), network()
    compiled = {"metrics": ["mae"]}
    history = fitted(
        mgs, keras.optimizers.SGD(0.05), compiled=compiled, callbacks=[record], **options
    )
    plain.compile("sgd", "mse", **compiled)
    expected = []
    for weights in after_each_epoch:
        plain.set_weights(weights)
        expected.append(plain.evaluate(X_VAL, Y_VAL, verbose=0, **plainly))
    expected = expected[1::2] if "validation_freq" in options else expected
    np.testing.assert_allclose(
        np.stack([history["val_loss"], history["val_mae"]], 1), expected, rtol=1e-9
    )
    assert set(history) == {"loss", "mae", "mgs_penalty", "mgs_alpha", "val_loss", "val_mae"}
    same_weights(mgs.model, by_plain_loop(batches(*data(), 2))[0])


def test_validation_split_trains_on_the_first_part_and_validates_on_the_last():
    x, y = data()
    mgs = MGSModel(network(), PENALTIES["hutchinson"](2, 1))
    history = fitted(mgs, keras.optimizers.SGD(0.05), validation_split=0.25)
    reference, _, _ = by_plain_loop(batches(x[:9], y[:9], 2))
    same_weights(mgs.model, reference)
    expected = float(mean_square(y[9:], reference(x[9:])))
    np.testing.assert_allclose(history["val_loss"][-1], expected, rtol=1e-9)
    assert set(history) == {"loss", "mgs_penalty", "mgs_alpha", "val_loss"}


@pytest.mark.parametrize("weighing", [None, "sample_weight", "class_weight"])
def test_train_on_batch_trains_as_a_plain_loop(weighing):
    x, _ = data(BATCH)
    labels = np.array([0, 1, 1, 0])
    weight = np.array([0.5, 2.0, 2.0, 0.5]) if weighing else np.ones(BATCH)
    given = {"sample_weight": weight, "class_weight": {0: 0.5, 1: 2.0}}
    mgs = MGSModel(network(), PENALTIES["hutchinson"](2, 1))
    mgs.compile(
        keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    extra = {weighing: given[weighing]} if weighing else {}
    logs = []
    for options in ({}, {}, {"return_dict": True}):
        mgs.reset_metrics()  # Keras 3.10 goes on counting
        logs.append(mgs.train_on_batch(x, labels, **options, **extra))

    def loss(y, f):
        return tf.reduce_mean(weight * tf.nn.sparse_softmax_cross_entropy_with_logits(y, f))

    reference, losses, penalties = by_plain_loop([(x, labels)] * 3, loss=loss)
    same_weights(mgs.model, reference)
    expected = [[losses[0], penalties[0], 0.01], [losses[1], penalties[0], 0.01]]
    np.testing.assert_allclose(logs[:2], expected, rtol=1e-9)
    expected = {"loss": losses[2], "mgs_penalty": penalties[1], "mgs_alpha": 0.01}
    assert logs[2] == pytest.approx(expected, rel=1e-9)


def test_test_on_batch_evaluate_and_predict_are_those_of_the_plain_model():
    x, y = data(PARTIAL)
    mgs, plain = MGSModel(network()), network()
    for model in (mgs, plain):
        model.compile("sgd", "mse", metrics=["mae"])
    mgs.fit(x, y, batch_size=BATCH, verbose=0)
    plain.set_weights(mgs.model.get_weights())
    weight = np.linspace(0, 3, PARTIAL)
    for of_batch in ({}, {"return_dict": True}, {"sample_weight": weight}):
        for model in (mgs, plain):
            model.reset_metrics()
        expected = keras.tree.map_structure(float, plain.test_on_batch(x, y, **of_batch))
        found = keras.tree.map_structure(float, mgs.test_on_batch(x, y, **of_batch))
        assert found == pytest.approx(expected, rel=1e-9)
    for source in ("arrays", "data frames", "dataset", "PyDataset"):
        given = SOURCES[source](x, y)
        expected = plain.evaluate(**given, verbose=0)
        np.testing.assert_allclose(mgs.evaluate(**given, verbose=0), expected, rtol=1e-9)
    for inputs in (x, tf.constant(x), as_dataset(x)["x"], Batches(x), pd.DataFrame(x)):
        expected = plain.predict(inputs, batch_size=None, verbose=0)
        np.testing.assert_allclose(mgs.predict(inputs, verbose=0), expected, rtol=1e-9)
    np.testing.assert_allclose(mgs.predict_on_batch(x), plain.predict_on_batch(x), rtol=1e-9)


def test_fit_takes_its_arguments_by_position_as_keras_does():
    x, y = data()
    mgs = MGSModel(network())
    mgs.compile("sgd", "mse")
    assert len(mgs.fit(x, y, BATCH, 2, 0).history["loss"]) == 2


def test_targets_may_be_unknown_where_the_loss_is_the_users_own():
    x, y = data()
    y[2, 1] = y[5, 0] = np.nan

    def known(y, f):
        found = tf.math.is_finite(y)
        return tf.reduce_mean(tf.where(found, (tf.where(found, y, 0.0) - f) ** 2, 0.0))

    mgs = MGSModel(network(), PENALTIES["exact"](1, 1))
    mgs.compile(keras.optimizers.SGD(0.05), known)
    mgs.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    reference, _, _ = by_plain_loop(batches(x, y, 1), "exact", 1, known)
    same_weights(mgs.model, reference)
    for loss in ("mse", keras.losses.mean_squared_error, keras.losses.MeanSquaredError()):
        mgs.compile("sgd", loss)
        with pytest.raises(ValueError, match="Expected `y` to be finite"):
            mgs.fit(x, y, verbose=0)


def test_targets_may_have_an_axis_more_as_in_keras():
    """Keras drops an axis of one at the end."""
    x, y = data()
    y = y[:, 0]
    ends = layers.Dense(1), layers.Flatten(), layers.Lambda(lambda f: f[:, 0])
    model = keras.Sequential([keras.Input((3,)), *ends])
    mgs = MGSModel(model, alpha=0.01)
    for targets in (y, y[:, None]):
        mgs.compile("sgd", "mse")  # one compiled step takes either of them, as Keras' own does
        mgs.fit(x, targets, verbose=0)
    with pytest.raises(ValueError, match="Expected `y` to fit the output"):
        mgs.fit(x, y[:, None] * [1, 2, 3], verbose=0)


@pytest.mark.parametrize("kind", ["hutchinson", "exact", "log_det"])
def test_outputs_without_a_derivative_may_stand_beside_one_with_a_loss(kind):
    """Class numbers, and a number for the whole batch."""
    x, y = data()

    def build(more):
        inputs = keras.Input((3,))
        f = network()(inputs)
        aside = {"class": keras.ops.argmax(f, 1), "norm": keras.ops.sum(f**2)}
        return keras.Model(inputs, {"f": f, **(aside if more else {})})

    found = []
    for more in (False, True):
        mgs = MGSModel(build(more), PENALTIES[kind](2, 1))
        mgs.compile(keras.optimizers.SGD(0.05), {"f": "mse"})
        mgs.fit(x, {"f": y}, batch_size=BATCH, shuffle=False, verbose=0)
        found.append(mgs.model)
    same_weights(*found)


@pytest.mark.parametrize("kind", ["hutchinson", "exact", "log_det"])
def test_batches_padded_to_their_longest_sequence_train_as_a_plain_loop(kind):
    rng = np.random.default_rng(0)
    lengths = [2, 5, 3, 1, 7, 4, 2, 2, 6, 3, 1, 5]

    def sequences():
        for n in lengths:
            yield np.ones((n, 2)) * rng.normal(size=(n, 2)), np.ones((n, 1)) * n

    kept = list(sequences())
    shapes = tf.TensorSpec((None, 2), "float64"), tf.TensorSpec((None, 1), "float64")
    source = tf.data.Dataset.from_generator(lambda: iter(kept), output_signature=shapes)
    batched = source.padded_batch(BATCH)

    def build():
        steps = keras.Input((None, 2))
        model = keras.Model(steps, layers.Dense(1)(layers.Dense(3, "tanh")(steps)))
        randomise(model, np.random.default_rng(0))
        return model

    mgs = MGSModel(build(), PENALTIES[kind](2, 1))
    mgs.compile(keras.optimizers.SGD(0.01), "mse")
    mgs.fit(batched, epochs=2, verbose=0)
    reference, _, _ = by_plain_loop(
        [*batched, *batched],
        kind,
        loss=lambda y, f: mean_square(tf.reshape(y, tf.shape(f)), f),
        model=build(),
        optimizer=keras.optimizers.SGD(0.01),
    )
    same_weights(mgs.model, reference)
