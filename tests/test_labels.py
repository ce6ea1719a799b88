"""label_scores: a plain formula over `model.predict`, for every kind of label and of ending."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras import layers, ops
from labelling import (
    BITS,
    CLASSES,
    IMAGES,
    LOSSES,
    NUMBERS,
    ONE_HOT,
    RNG,
    ROWS,
    N,
    X,
    compiled,
    network,
    of_images,
    ready,
)  # fmt: skip
from problems import Subclassed

import keras_mgs


def softmax(z):
    e = np.exp(z)
    return e / e.sum(1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def as_it_is(z):
    return z


def of_class(p):
    """1 - p[label] of CLASSES."""
    return 1 - p[np.arange(N), CLASSES]


def of_bit(p):
    return np.where(BITS == 1, 1 - p[:, 0], p[:, 0])


def of_rows(rows):
    return lambda p: np.where(rows == 1, 1 - p, p).max(1)


def of_numbers(p):
    return np.sqrt(((NUMBERS - p) ** 2).sum(1))


def of_one_number(p):
    return np.abs(NUMBERS[:, 0] - p[:, 0])


def averaged():
    """The mean of two softmaxes: no logits lead to it, but rows of probabilities they are."""
    x = keras.Input((3,))
    return keras.Model(x, (layers.Dense(3, "softmax")(x) + layers.Dense(3, "softmax")(x)) / 2)


def by_hand():
    """A softmax that is not spelled as one."""
    model = Subclassed(
        {"a": layers.Dense(3)},
        lambda p, x: ops.exp(p["a"](x)) / ops.sum(ops.exp(p["a"](x)), 1, keepdims=True),
    )
    model(X)
    return model


# name -> model, y, what turns its outputs into probabilities, the formula.
CASES = {
    "softmax": (lambda: network(end="softmax"), CLASSES, as_it_is, of_class),
    "softmax, one-hot": (lambda: network(end="softmax"), ONE_HOT, as_it_is, of_class),
    "softmax, a column": (lambda: network(end="softmax"), CLASSES[:, None], as_it_is, of_class),
    "softmax, whole floats": (
        lambda: network(end="softmax"), CLASSES.astype("float32"), as_it_is, of_class,
    ),
    "softmax, mse": (lambda: compiled("mse", end="softmax"), ONE_HOT, as_it_is, of_class),
    "softmax, binary": (
        lambda: compiled("binary_crossentropy", end="softmax"), ONE_HOT, as_it_is, of_class,
    ),
    "log softmax": (lambda: network(end="log_softmax"), CLASSES, np.exp, of_class),
    "mean of softmaxes": (averaged, CLASSES, as_it_is, of_class),
    "softmax by hand": (by_hand, CLASSES, as_it_is, of_class),
    "logits": (network, CLASSES, softmax, of_class),
    "logits, one-hot": (network, ONE_HOT, softmax, of_class),
    "logits, one-hot, bool": (network, ONE_HOT == 1, softmax, of_class),
    "labels, bool, logits": (network, ROWS == 1, sigmoid, of_rows(ROWS)),
    "logits, sparse": (
        lambda: compiled(LOSSES.SparseCategoricalCrossentropy(from_logits=True)),
        CLASSES, softmax, of_class,
    ),
    "logits, categorical": (
        lambda: compiled([LOSSES.CategoricalFocalCrossentropy(from_logits=True)]),
        ONE_HOT, softmax, of_class,
    ),
    "sigmoid": (lambda: network(1, "sigmoid"), BITS, as_it_is, of_bit),
    "sigmoid, a column": (
        lambda: network(1, "sigmoid"), BITS[:, None].astype(float), as_it_is, of_bit,
    ),
    "sigmoid, mse": (lambda: compiled("mse", 1, "sigmoid"), BITS, as_it_is, of_bit),
    "binary logits": (
        lambda: compiled(LOSSES.BinaryCrossentropy(from_logits=True), 1), BITS, sigmoid, of_bit,
    ),
    "binary logits, bool": (lambda: network(1), BITS == 1, sigmoid, of_bit),
    "hard sigmoid": (lambda: compiled("bce", 1, "hard_sigmoid"), BITS, as_it_is, of_bit),
    "labels": (lambda: network(end="sigmoid"), ROWS, as_it_is, of_rows(ROWS)),
    "labels, one-hot": (lambda: network(end="sigmoid"), ONE_HOT, as_it_is, of_rows(ONE_HOT)),
    "labels, logits": (
        lambda: compiled(LOSSES.BinaryFocalCrossentropy(from_logits=True)),
        ROWS, sigmoid, of_rows(ROWS),
    ),
    "labels, one-hot, logits": (
        lambda: compiled(LOSSES.BinaryCrossentropy(from_logits=True)),
        ONE_HOT, sigmoid, of_rows(ONE_HOT),
    ),
    "numbers": (network, NUMBERS, as_it_is, of_numbers),
    "numbers, softmax": (lambda: network(end="softmax"), NUMBERS, as_it_is, of_numbers),
    "one number": (lambda: network(1), NUMBERS[:, 0], as_it_is, of_one_number),
    "one number, a column": (lambda: network(1), NUMBERS[:, :1], as_it_is, of_one_number),
    "one number, sigmoid": (
        lambda: network(1, "sigmoid"), NUMBERS[:, 0], as_it_is, of_one_number,
    ),
    "numbers 0 and 1": (
        lambda: compiled("mse"), ONE_HOT, as_it_is, lambda p: np.sqrt(((ONE_HOT - p) ** 2).sum(1)),
    ),
    "counts": (lambda: network(1), CLASSES, as_it_is, lambda p: np.abs(CLASSES - p[:, 0])),
    "images": (
        of_images, IMAGES, as_it_is, lambda p: np.sqrt(((IMAGES - p) ** 2).sum((1, 2))),
    ),
}  # fmt: skip


@pytest.fixture(params=["float32", "float64"])
def closely(request):
    """Keras in this precision; assert_allclose as near as it allows."""
    if request.param == "float64":
        request.getfixturevalue("float64")
    tolerance = {"float32": 2e-6, "float64": 1e-9}[request.param]
    return lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_a_plain_formula(name, closely):
    build, y, to_probabilities, formula = CASES[name]
    model = build()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = keras_mgs.label_scores(model, X, y)
    assert scores.dtype == "float64" and scores.shape == (N,)
    predicted = model.predict(X, verbose=0).astype("float64")
    closely(scores, formula(to_probabilities(predicted)))


def test_the_kind_can_be_given_where_it_cannot_be_known(float64):
    one, three = network(1), network()
    one_out, out = one.predict(X, verbose=0), three.predict(X, verbose=0)
    for model, y, kind, right in (
        (one, BITS, "classes", of_bit(sigmoid(one_out))),
        (one, BITS, "regression", np.abs(BITS - one_out[:, 0])),
        (three, ROWS, "multilabel", of_rows(ROWS)(sigmoid(out))),
        (three, ONE_HOT, "multilabel", of_rows(ONE_HOT)(sigmoid(out))),
        (three, ONE_HOT, "regression", np.sqrt(((ONE_HOT - out) ** 2).sum(1))),
    ):
        scores = keras_mgs.label_scores(model, X, y, kind=kind)
        np.testing.assert_allclose(scores, right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("loss", ["MeanSquaredError", "MeanAbsoluteError", "Huber", "LogCosh"])
def test_a_loss_of_a_regression_is_known_as_such(loss):
    for spelled in (getattr(LOSSES, loss)(), getattr(LOSSES, loss)().fn, {"end": loss}):
        model = compiled(spelled, 1)
        model.layers[-1].name = "end"
        scores = keras_mgs.label_scores(model, X, BITS)
        right = np.abs(BITS - model.predict(X, verbose=0)[:, 0])
        np.testing.assert_allclose(scores, right, rtol=1e-5)


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_an_mgs_model_is_scored_as_the_network_in_it(where):
    loss = LOSSES.BinaryCrossentropy(from_logits=True)
    model = network(1)
    mgs = keras_mgs.MGSModel(model)
    (model if where == "inside" else mgs).compile("sgd", loss)
    scores = keras_mgs.label_scores(mgs, X, BITS)
    np.testing.assert_allclose(scores, of_bit(sigmoid(mgs.predict(X, verbose=0))), rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 9), seed=st.integers(0, 99), n=st.integers(1, 40))
def test_batches_of_any_size_give_the_same(size, seed, n):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 3)).astype("float32"), rng.integers(0, 3, n)
    whole = keras_mgs.label_scores(ready(), x, y, batch_size=n)
    assert ((whole >= 0) & (whole <= 1)).all()
    pieces = keras_mgs.label_scores(ready(), x, y, batch_size=size)
    np.testing.assert_allclose(pieces, whole, atol=1e-6)
    order = rng.permutation(n)
    np.testing.assert_allclose(
        keras_mgs.label_scores(ready(), x[order], y[order]), whole[order], atol=1e-6
    )
    p = ready().predict(x, verbose=0)
    np.testing.assert_allclose(whole, 1 - p[np.arange(n), y], atol=1e-6)


ANY = {
    units: {end: network(units, end) for end in (None, "softmax", "sigmoid")} for units in (1, 3)
}


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1")
@settings(max_examples=200, deadline=None)
@given(
    units=st.sampled_from([1, 3]),
    end=st.sampled_from([None, "softmax", "sigmoid"]),
    kind=st.sampled_from([None, "classes", "multilabel", "regression"]),
    y=arrays.arrays(
        st.sampled_from(["int64", "uint8", "bool", "float32", "float64", "U1", "complex64"]),
        st.sampled_from([(), (0,), (2,), (2, 1), (2, 3), (2, 3, 1), (2, 2), (3,), (1, 2)]),
    ),
)
def test_any_labels_are_scored_or_refused_in_a_sentence(units, end, kind, y):
    if y.dtype.kind == "f":
        y = np.where(abs(y) < 1e9, y, y.dtype.type(np.nan))
    try:
        scores = keras_mgs.label_scores(network(units, end), X[:2], y, kind=kind)
    except (TypeError, ValueError) as error:
        assert str(error).startswith("Expected ") and "Received: " in str(error)
    else:
        assert scores.shape == (2,) and scores.dtype == "float64"
        assert (scores >= 0).all() and np.isfinite(scores).all()
        if kind in ("classes", "multilabel"):
            assert (scores <= 1).all()


def of_two_inputs():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    return keras.Model({"a": a, "b": b}, layers.Dense(3, "softmax")(layers.Concatenate()([a, b])))


def test_inputs_are_those_that_the_exact_functions_take():
    import pandas as pd

    other = RNG.normal(size=(N, 2))
    model = of_two_inputs()
    given = {"a": X, "b": other}
    right = of_class(model.predict(given, verbose=0))
    data = tf.data.Dataset.from_tensor_slices(given).batch(3)
    for x in (given, [X, other], data):
        np.testing.assert_allclose(keras_mgs.label_scores(model, x, CLASSES), right, rtol=1e-5)
    right = of_class(ready().predict(X, verbose=0))
    for x in (pd.DataFrame(X), tf.constant(X), X.astype("float32"), tf.sparse.from_dense(X)):
        for y in (
            CLASSES.tolist(),
            pd.Series(CLASSES),
            pd.DataFrame(ONE_HOT),
            tf.constant(CLASSES),
        ):
            np.testing.assert_allclose(keras_mgs.label_scores(ready(), x, y), right, rtol=1e-5)


def test_models_without_trainable_weights_are_scored():
    frozen = network(end="softmax")
    frozen.trainable = False
    np.testing.assert_allclose(
        keras_mgs.label_scores(frozen, X, CLASSES),
        of_class(frozen.predict(X, verbose=0)),
        rtol=1e-5,
    )


def test_a_model_of_one_batch_size_is_scored():
    model = keras.Sequential([keras.Input(batch_shape=(N, 3)), layers.Dense(3, "softmax")])
    right = of_class(model.predict(X, batch_size=N, verbose=0))
    np.testing.assert_allclose(keras_mgs.label_scores(model, X, CLASSES), right, rtol=1e-5)


def test_half_precision_is_scored_as_it_is():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = network(end="softmax")
    finally:
        keras.config.set_dtype_policy("float32")
    scores = keras_mgs.label_scores(model, X, CLASSES)
    p = model.predict(X, verbose=0).astype("float64")
    np.testing.assert_allclose(scores, of_class(p), atol=1e-3)


def test_neither_the_model_nor_the_arrays_are_changed():
    x, y, before = X.copy(), CLASSES.copy(), ready().get_weights()
    keras_mgs.label_scores(ready(), x, y)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, CLASSES)
    for a, b in zip(before, ready().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_library_cleanlab_finds_the_same():
    """Its self-confidence is 1 - our scores; its issues are our most doubtful labels."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    rng = np.random.default_rng(0)
    x, true = rng.normal(size=(120, 3)).astype("float32"), np.arange(120) % 3
    x += 4 * np.eye(3)[true]
    given = true.copy()
    given[:12] = (true[:12] + 1) % 3
    model = network(end="softmax")
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, true, epochs=60, verbose=0)
    scores = keras_mgs.label_scores(model, x, given)
    pred_probs = model.predict(x, verbose=0)
    quality = get_label_quality_scores(given, pred_probs, method="self_confidence")
    np.testing.assert_allclose(1 - scores, quality, atol=1e-6)
    ranked = {"return_indices_ranked_by": "self_confidence", "n_jobs": 1}
    issues = find_label_issues(given, pred_probs, **ranked)
    assert (np.diff(scores[issues]) <= 1e-6).all()
    assert (issues < 12).mean() > 0.5


def test_wrong_labels_of_digits_have_higher_scores():
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(0)
    x, true = load_digits(return_X_y=True)
    x, y = (x / 16).astype("float32"), true.copy()
    wrong = rng.random(len(y)) < 0.3
    y[wrong] = (y[wrong] + rng.integers(1, 10, wrong.sum())) % 10
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64, "relu"), layers.Dense(10)])
    model = keras_mgs.MGSModel(model)
    model.compile("adam", LOSSES.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=8, verbose=0)
    scores = keras_mgs.label_scores(model, x, y)
    assert scores[wrong].mean() > scores[~wrong].mean() + 0.3
