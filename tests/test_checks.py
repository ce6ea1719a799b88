"""Bad input: one sentence that names the argument, what was expected and what was received."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from problems import Subclassed, sequential

import keras_mgs
from keras_mgs import (
    LogDetPenalty,
    LossGradientPenalty,
    MGSMetrics,
    MGSModel,
    RKHSPenalty,
    TracePenalty,
    checks,
)

NAN, INF = float("nan"), float("inf")
X, Y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")


def network():
    return sequential((3,), layers.Dense(2))


def frozen():
    model = network()
    model.trainable = False
    return model


def without_weights():
    return sequential((3,), layers.Flatten())


def unbuilt():
    return keras.Sequential([layers.Dense(2)])


def unbuilt_subclass():
    return Subclassed({"a": layers.Dense(2)}, lambda p, x: p["a"](x))


def integers():
    x = keras.Input((3,))
    return keras.Model(x, keras.ops.argmax(layers.Dense(2)(x), axis=1))


def scalar():
    model = Subclassed({"a": layers.Dense(2)}, lambda p, x: keras.ops.mean(p["a"](x)))
    model(X)
    return model


def two_inputs():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    return keras.Model({"a": a, "b": b}, layers.Dense(2)(layers.Concatenate()([a, b])))


def embedding():
    return sequential(
        (3,), layers.Embedding(4, 2), layers.Flatten(), layers.Dense(2), dtype="int32"
    )


def foreign(module, name):
    """An instance of a class that another framework might have."""
    return type(name, (), {"__module__": module})()


def spoiled(value, like=X):
    data = like.copy()
    data[1, 0] = value
    return data


def fit(x=X, y=Y, model=None, loss="mse", penalty="trace", **kwargs):
    mgs = MGSModel(model or network(), penalty)
    mgs.compile("sgd", loss)
    mgs.fit(x, y, verbose=0, **kwargs)


def measured(x, model=None, **kwargs):
    model = model or network()
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0, callbacks=[MGSMetrics(x, **kwargs)])


trace, log_det = keras_mgs.trace, keras_mgs.log_det
endless = tf.data.Dataset.from_tensors(X).repeat()
empty = tf.data.Dataset.from_tensor_slices(X).batch(2).take(0)

ALPHA = {
    f"{cls.__name__}({alpha!r})": (lambda cls=cls, alpha=alpha: cls(alpha), error, ("alpha", shown))
    for cls in (TracePenalty, LogDetPenalty, RKHSPenalty, LossGradientPenalty)
    for alpha, error, shown in [
        (-1, ValueError, "-1"),
        (-1e-9, ValueError, "-1e-09"),
        (NAN, ValueError, "nan"),
        (INF, ValueError, "inf"),
        ("automatic", ValueError, "'automatic'"),
        ("", ValueError, "''"),
        (None, TypeError, "None"),
        (True, TypeError, "True"),
        ([1.0], TypeError, "[1.0]"),
        (1j, TypeError, "1j"),
    ]
}
PENALTIES = {
    "no automatic alpha": (lambda: LossGradientPenalty("auto"), ValueError, ("alpha", "'auto'")),
    "estimator": (lambda: TracePenalty(1, "exakt"), ValueError, ("estimator", "'exakt'", "exact")),
    "estimator None": (lambda: TracePenalty(1, None), ValueError, ("estimator", "None")),
    "probes 0": (lambda: TracePenalty(1, probes=0), ValueError, ("probes", "0")),
    "probes 1.5": (lambda: TracePenalty(1, probes=1.5), TypeError, ("probes", "1.5")),
    "samples 0": (lambda: TracePenalty(1, samples=0), ValueError, ("samples", "0")),
    "samples 0.5": (lambda: TracePenalty(1, samples=0.5), TypeError, ("samples", "0.5")),
    "every 0": (lambda: TracePenalty(1, every=0), ValueError, ("every", "0")),
    "every -1": (lambda: LogDetPenalty(1, every=-1), ValueError, ("every", "-1")),
    "every text": (lambda: LossGradientPenalty(1, every="8"), TypeError, ("every", "'8'")),
    "every True": (lambda: TracePenalty(1, every=True), TypeError, ("every", "True")),
    "epsilon 0": (lambda: LogDetPenalty(1, epsilon=0), ValueError, ("epsilon", "0")),
    "epsilon nan": (lambda: LogDetPenalty(1, epsilon=NAN), ValueError, ("epsilon", "nan")),
    "kernel differentiated": (
        lambda: RKHSPenalty(1, differentiate_kernel="no"),
        TypeError,
        ("differentiate_kernel", "'no'"),
    ),
    "no automatic alpha of a norm": (
        lambda: MGSModel(network(), "rkhs"),
        ValueError,
        ("RKHSPenalty", "alpha", "'auto'"),
    ),
    "wrt": (lambda: LossGradientPenalty(1, wrt="labels"), ValueError, ("wrt", "'labels'")),
}
MODEL = {
    "MGSModel(None)": (lambda: MGSModel(None), TypeError, ("model", "None")),
    "MGSModel(layer)": (lambda: MGSModel(layers.Dense(2)), TypeError, ("model", "Dense")),
    "MGSModel(a model of PyTorch)": (
        lambda: MGSModel(foreign("torch.nn", "Module")),
        TypeError,
        ("model", "torch.nn.Module", "Keras 3"),
    ),
    "MGSModel(a model of Keras 2)": (
        lambda: MGSModel(foreign("tf_keras.src.engine.training", "Model")),
        TypeError,
        ("model", "tf_keras", "Keras 2"),
    ),
    "MGSModel(class)": (lambda: MGSModel(keras.Model), TypeError, ("model",)),
    "MGSModel(unbuilt)": (lambda: MGSModel(unbuilt()), ValueError, ("model", "built")),
    "MGSModel(unbuilt subclass)": (
        lambda: MGSModel(unbuilt_subclass()),
        ValueError,
        ("model", "built"),
    ),
    "MGSModel(integers)": (
        lambda: fit(model=integers(), y=Y[:, 0]),
        TypeError,
        ("floating-point", "int"),
    ),
    "penalty word": (
        lambda: MGSModel(network(), "tarce"),
        ValueError,
        ("penalty", "'tarce'", "log_det"),
    ),
    "penalty None": (lambda: MGSModel(network(), None), ValueError, ("penalty", "None")),
    "penalty class": (lambda: MGSModel(network(), TracePenalty), ValueError, ("penalty",)),
    "alpha twice": (
        lambda: MGSModel(network(), TracePenalty(1), alpha=2),
        ValueError,
        ("alpha", "both"),
    ),
    "alpha negative": (lambda: MGSModel(network(), alpha=-1), ValueError, ("alpha", "-1")),
    "alpha nan": (lambda: MGSModel(network(), alpha=NAN), ValueError, ("alpha", "nan")),
    "alpha word": (lambda: MGSModel(network(), alpha="car"), ValueError, ("alpha", "'car'")),
    "alpha set": (lambda: setattr(MGSModel(network()), "alpha", -1), ValueError, ("alpha", "-1")),
    "alpha set to a word": (
        lambda: setattr(MGSModel(network(), alpha=1), "alpha", "auto"),
        TypeError,
        ("alpha", "'auto'"),
    ),
}
FIT = {
    "NaN in x": (lambda: fit(spoiled(NAN)), ValueError, ("x", "finite", "(4, 3)", "1 NaN")),
    "infinity in x": (lambda: fit(spoiled(INF)), ValueError, ("x", "finite")),
    "NaN in y": (lambda: fit(X, spoiled(NAN, Y)), ValueError, ("y", "finite", "(4, 2)")),
    "NaN in weights": (
        lambda: fit(sample_weight=np.full(4, NAN)), ValueError, ("sample_weight", "finite")
    ),
    "NaN in one input": (
        lambda: fit({"a": spoiled(NAN), "b": Y}, Y, two_inputs()), ValueError, ("x", "'a'")
    ),
    "x of wrong width": (lambda: fit(np.ones((4, 5), "float32")), ValueError, ("x", "(4, 5)")),
    "x of wrong rank": (
        lambda: fit(np.ones((4, 3, 2), "float32")), ValueError, ("x", "(4, 3, 2)")
    ),
    "labels of wrong width": (
        lambda: fit(X, np.ones((4, 5), "float32")), ValueError, ("y", "(4, 5)")
    ),
    "gradient with respect to integers": (
        lambda: fit(
            np.ones((4, 3), "int32"), Y, embedding(), penalty=LossGradientPenalty(1.0, "inputs")
        ),
        TypeError, ("inputs", "int32"),
    ),
    "frozen model": (lambda: fit(model=frozen()), ValueError, ("model", "trainable")),
    "model without weights": (
        lambda: fit(model=without_weights(), y=X), ValueError, ("model", "trainable")
    ),
    "no samples": (lambda: fit(X[:0], Y[:0]), ValueError, ("x", "at least one sample")),
    "fewer labels than samples": (lambda: fit(X, Y[:3]), ValueError, ("y", "3")),
}  # fmt: skip
LOOP = {
    "automatic alpha": (lambda: TracePenalty()(network(), X, 0), ValueError, ("alpha", "'auto'")),
    "model None": (lambda: TracePenalty(1)(None, X, 0), TypeError, ("model", "None")),
    "model unbuilt": (lambda: LogDetPenalty(1)(unbuilt(), X, 0), ValueError, ("model", "built")),
    "x of wrong width": (
        lambda: TracePenalty(1)(network(), np.ones((4, 5)), 0), ValueError, ("x", "(4, 5)")
    ),
    "x ragged": (
        lambda: TracePenalty(1)(network(), tf.ragged.constant([[1.0], [1.0, 2.0]]), 0),
        TypeError, ("x", "Ragged"),
    ),
    "step a word": (lambda: TracePenalty(1)(network(), X, "1"), TypeError, ("step", "'1'")),
    "step negative": (lambda: TracePenalty(1)(network(), X, -1), ValueError, ("step", "-1")),
}  # fmt: skip
FUNCTIONS = {
    "model None": (lambda: trace(None, X), TypeError, ("model", "None")),
    "model a function": (lambda: trace(len, X), TypeError, ("model", "len")),
    "model unbuilt": (lambda: trace(unbuilt(), X), ValueError, ("model", "built")),
    "model unbuilt subclass": (
        lambda: trace(unbuilt_subclass(), X), ValueError, ("model", "built")
    ),
    "model frozen": (lambda: keras_mgs.jacobian(frozen(), X), ValueError, ("model", "trainable")),
    "model of integers": (lambda: trace(integers(), X), TypeError, ("floating-point", "int")),
    "model of a scalar": (lambda: trace(scalar(), X), ValueError, ("scalar", "first axis")),
    "x None": (lambda: trace(network(), None), TypeError, ("x", "None")),
    "x text": (lambda: trace(network(), "X"), TypeError, ("x", "'X'")),
    "x a list of numbers": (lambda: trace(network(), [[1.0, 2, 3]]), TypeError, ("x", "float")),
    "x of objects": (lambda: trace(network(), X.astype(object)), TypeError, ("x", "object")),
    "x of text": (lambda: trace(network(), np.full((4, 3), "a")), TypeError, ("x",)),
    "x a number": (lambda: trace(network(), np.float32(1)), ValueError, ("x", "()")),
    "x empty": (lambda: trace(network(), X[:0]), ValueError, ("x", "(0, 3)")),
    "x of no arrays": (lambda: trace(network(), {}), ValueError, ("x", "no array")),
    "x of wrong width": (lambda: trace(network(), np.ones((4, 5))), ValueError, ("x", "(4, 5)")),
    "x of wrong width, wrapped": (
        lambda: trace(MGSModel(network()), np.ones((4, 5))), ValueError, ("x", "(4, 5)")
    ),
    "x of wrong rank": (
        lambda: trace(network(), np.ones((4, 3, 1))), ValueError, ("x", "(4, 3, 1)")
    ),
    "x with too many arrays": (lambda: trace(network(), [X, X]), ValueError, ("x", "(4, 3)")),
    "x with too few arrays": (lambda: trace(two_inputs(), X), ValueError, ("x", "(4, 3)")),
    "x of unequal lengths": (
        lambda: trace(two_inputs(), {"a": X, "b": Y[:2]}), ValueError, ("x", "[2, 4]")
    ),
    "x with NaN": (lambda: trace(network(), spoiled(NAN)), ValueError, ("x", "finite", "1 NaN")),
    "x with infinity": (lambda: log_det(network(), spoiled(INF)), ValueError, ("x", "finite")),
    "x a tensor with NaN": (
        lambda: trace(network(), tf.constant(spoiled(NAN))), ValueError, ("x", "finite")
    ),
    "x2 with NaN": (
        lambda: keras_mgs.kernel(network(), X, spoiled(NAN)), ValueError, ("x2", "finite")
    ),
    "x2 of wrong width": (
        lambda: keras_mgs.kernel(network(), X, np.ones((4, 5))), ValueError, ("x2", "(4, 5)")
    ),
    "x ragged": (
        lambda: trace(network(), tf.ragged.constant([[1.0], [1.0, 2.0]])),
        TypeError, ("x", "Ragged")
    ),
    "x an endless dataset": (lambda: trace(network(), endless), ValueError, ("finite", "repeats")),
    "x an empty dataset": (lambda: trace(network(), empty), ValueError, ("at least one batch",)),
    "x a dataset with NaN": (
        lambda: trace(network(), tf.data.Dataset.from_tensors(spoiled(NAN))), ValueError, ("x",)
    ),
    "batch_size 0": (lambda: trace(network(), X, batch_size=0), ValueError, ("batch_size", "0")),
    "batch_size 1.5": (lambda: trace(network(), X, batch_size=1.5), TypeError, ("batch_size",)),
    "epsilon 0": (lambda: log_det(network(), X, epsilon=0), ValueError, ("epsilon", "0")),
    "epsilon negative": (lambda: log_det(network(), X, epsilon=-1), ValueError, ("epsilon", "-1")),
    "epsilon text": (lambda: log_det(network(), X, epsilon="1"), TypeError, ("epsilon", "'1'")),
}  # fmt: skip
CALLBACK = {
    "metrics word": (lambda: MGSMetrics(X, "tarce"), ValueError, ("metrics", "'tarce'", "log_det")),
    "metrics one of two": (
        lambda: MGSMetrics(X, ("trace", "det")), ValueError, ("metrics", "'det'")
    ),
    "metrics none": (lambda: MGSMetrics(X, ()), ValueError, ("metrics",)),
    "every 0": (lambda: MGSMetrics(X, every=0), ValueError, ("every", "0")),
    "batch_size 0": (lambda: MGSMetrics(X, batch_size=0), ValueError, ("batch_size", "0")),
    "x None": (lambda: MGSMetrics(None), ValueError, ("x", "None")),
    "x an endless dataset": (lambda: MGSMetrics(endless), ValueError, ("repeats",)),
    "x of wrong width": (lambda: measured(np.ones((4, 5))), ValueError, ("x", "(4, 5)")),
    "x with NaN": (lambda: measured(spoiled(NAN)), ValueError, ("x", "finite")),
    "no probe": (lambda: measured({}), ValueError, ("x", "no probe")),
    "a probe of wrong width": (
        lambda: measured({"clean": X, "noisy": np.ones((4, 5))}),
        ValueError, ("x['noisy']", "(4, 5)"),
    ),
    "a probe with NaN": (
        lambda: measured({"clean": X, "noisy": spoiled(NAN)}), ValueError, ("x['noisy']", "finite")
    ),
    "a probe that is None": (
        lambda: measured({"clean": X, "noisy": None}), TypeError, ("x['noisy']", "None")
    ),
    "names that are no strings": (lambda: measured({1: X}), TypeError, ("names", "1")),
    "a generator": (lambda: measured(x for x in X), TypeError, ("x", "generator")),
    "x empty": (lambda: measured(X[:0]), ValueError, ("x", "(0, 3)")),
    "model frozen": (lambda: measured(X, frozen()), ValueError, ("model", "trainable")),
}  # fmt: skip
TABLES = {
    "alpha": ALPHA,
    "penalties": PENALTIES,
    "MGSModel": MODEL,
    "fit": FIT,
    "a loop": LOOP,
    "functions": FUNCTIONS,
    "MGSMetrics": CALLBACK,
}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        pytest.param(*case, id=f"{table}: {name}")
        for table, cases in TABLES.items()
        for name, case in cases.items()
    ],
)
def test_bad_input_is_refused_in_one_clear_message(call, error, words):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert "Received" in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("name", FIT)
def test_refused_data_leaves_the_weights_untouched(name, monkeypatch):
    """Refused before any training starts: not one step was taken."""
    steps = []
    monkeypatch.setattr(
        keras.optimizers.Optimizer, "apply_gradients", lambda *args: steps.append(args)
    )
    with pytest.raises((TypeError, ValueError)):
        FIT[name][0]()
    assert not steps


@pytest.mark.parametrize("alpha", [0, 0.0, 1, np.float32(0.5), np.int64(2), "auto"])
def test_every_kind_of_number_is_an_alpha(alpha):
    assert TracePenalty(alpha).alpha == alpha


def test_data_that_keras_takes_is_taken():
    fit(tf.constant(X), tf.constant(Y))
    fit(tf.data.Dataset.from_tensor_slices((X, Y)).batch(2), None)
    fit(
        X, np.array([0, 1, 0, 1]), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )


@pytest.mark.parametrize("value", [2**31, 10**400, 10**5000], ids=["2**31", "10**400", "10**5000"])
def test_no_count_is_beyond_what_tensorflow_counts_with(value):
    assert checks.count("n", 2**31 - 1) == 2**31 - 1
    with pytest.raises(ValueError, match="Expected `n` to be at most 2147483647. Received: n="):
        checks.count("n", value)


@pytest.mark.parametrize("value", [10**400, -(10**5000), math.inf, math.nan], ids=list("abcd"))
def test_no_number_is_beyond_what_a_float_holds(value):
    with pytest.raises(ValueError, match="Expected `n` to be finite. Received: n="):
        checks.number("n", value)
