"""label_scores: what is wrong is one sentence, before anything is computed where that shows."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from labelling import (
    BITS,
    CLASSES,
    NUMBERS,
    ONE_HOT,
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


def two_outputs():
    x = keras.Input((3,))
    return keras.Model(x, [layers.Dense(3)(x), layers.Dense(3)(x)])


def diverged():
    model = network(end="softmax")
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    return model


def with_a_class_left_out():
    x = keras.Input((3,))
    return keras.Model(x, layers.Dense(4, "softmax")(x)[:, :3])


def flat():
    model = Subclassed({"a": layers.Dense(2)}, lambda p, x: ops.reshape(p["a"](x), (-1,)))
    model(X)
    return model


def mean():
    model = Subclassed({"a": layers.Dense(2)}, lambda p, x: ops.mean(p["a"](x)))
    model(X)
    return model


NAN = np.where(np.arange(N) == 2, np.nan, CLASSES)
# name -> model, y, words of the error, `kind`.
WRONG = {
    "no model": (lambda: 3, CLASSES, ["keras.Model", "Received: 3"]),
    "class too large": (ready, CLASSES + 1, ["`y`", "from 0 to 2", "Received: 3"]),
    "negative class": (ready, CLASSES - 1, ["from 0 to 2", "Received: -1"]),
    "class of no output": (lambda: network(1, "sigmoid"), CLASSES, ["0 or 1", "Received: 2"]),
    "between two classes": (ready, CLASSES + 0.5, ["whole numbers", "Received: 0.5"]),
    "fewer labels": (ready, CLASSES[:3], ["same number of samples", "x: 7", "y: 3"]),
    "fewer rows": (ready, ONE_HOT[:3], ["same number of samples", "x: 7", "y: 3"]),
    "one label": (ready, 1, ["one row per sample", "Received", "()"]),
    "too few columns": (ready, ONE_HOT[:, :2], ["`y`", "(7, 3)", "Received", "(7, 2)"]),
    "rows for one output": (lambda: network(1), NUMBERS, ["(7,)", "Received", "(7, 3)"]),
    "one number for three outputs": (
        lambda: compiled("mse"), NUMBERS[:, 0], ["(7, 3)", "Received", "(7,)"],
    ),
    "kind and shape": (ready, CLASSES, ["(7, 3)", "(7,)"], "multilabel"),
    "NaN": (ready, NAN, ["`y`", "finite", "1 NaN"]),
    "infinity": (network, NUMBERS * np.inf, ["`y`", "finite", "21 NaN or infinite"]),
    "text": (ready, np.array(list("abcabca")), ["`y`", "numbers", "Received", "<U1"]),
    "complex": (ready, CLASSES * 1j, ["`y`", "numbers", "Received", "complex128"]),
    "uneven": (ready, [[1], [1, 2], *[[1]] * 5], ["`y`", "numbers", "Received: list"]),
    "none": (ready, None, ["`y`", "numbers", "Received", "None"]),
    "dict": (ready, {"a": CLASSES}, ["`y`", "numbers", "Received", "dict"]),
    "soft labels": (
        lambda: compiled("categorical_crossentropy", end="softmax"), np.full((N, 3), 1 / 3),
        ["one-hot", "kind='regression'"],
    ),
    "soft bits": (
        lambda: compiled("bce", 1, "sigmoid"), BITS * 0.9,
        ["0 or 1", "Received: 0.9", "kind='regression'"],
    ),
    "bits without a loss": (lambda: network(1), BITS, ["`kind`", "kind=None", "compile"]),
    "rows without a loss": (network, ROWS, ["`kind`", "kind=None", "compile"]),
    "several labels, softmax": (ready, ROWS, ["one-hot", "Received: the row [1.0, 0.0, 1.0]"]),
    "several labels of a softmax": (ready, ROWS, ["sigmoid", "softmax"], "multilabel"),
    "classes, sigmoid": (
        lambda: network(end="sigmoid"), CLASSES, ["probabilities", "with a sigmoid"],
    ),
    "softmax of one": (lambda: network(1, "softmax"), BITS, ["softmax", "one output", "always 1"]),
    "no probabilities": (
        lambda: compiled("sparse_categorical_crossentropy"), CLASSES,
        ["probabilities", "Received", "from_logits=True"],
    ),
    "sum below one": (with_a_class_left_out, CLASSES, ["probabilities", "sum to 1", "Received"]),
    "no probability": (lambda: compiled("bce"), ROWS, ["probabilities", "from_logits=True"]),
    "two outputs": (two_outputs, CLASSES, ["one output", "Received", "2"]),
    "grids of classes": (
        of_images, np.eye(6)[CLASSES].reshape(N, 2, 3), ["one-hot", "grid"], "classes",
    ),
    "rows of no sample": (flat, BITS, ["one row per sample", "(14,)", "7 samples"], "regression"),
    "a scalar": (mean, BITS, ["one row per sample", "()", "7 samples"], "regression"),
    "classes of images": (of_images, CLASSES, ["`y`", "(7, 2, 3)", "Received", "(7,)"]),
    "diverged": (diverged, CLASSES, ["finite", "NaN", "diverged"]),
    "unknown kind": (ready, CLASSES, ["`kind`", "'classes'", "kind='class'"], "class"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_one_sentence(name):
    build, y, words, *kind = WRONG[name]
    with pytest.raises((TypeError, ValueError)) as error:
        keras_mgs.label_scores(build(), X, y, **({"kind": kind[0]} if kind else {}))
    message = str(error.value)
    assert message.startswith("Expected ") and "Received: " in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("name", ["class too large", "fewer labels", "NaN", "too few columns"])
def test_labels_are_refused_before_anything_is_computed(name):
    _, y, _ = WRONG[name]
    seen = []

    def count(t):
        counted = tf.numpy_function(lambda a: (seen.append(len(a)), a)[1], [t], t.dtype)
        return tf.ensure_shape(counted, t.shape)

    x = keras.Input((3,))
    counting = layers.Lambda(count, output_shape=(3,))
    model = keras.Model(x, layers.Dense(3, "softmax")(counting(x)))
    with pytest.raises(ValueError, match="`y`"):
        keras_mgs.label_scores(model, X, y)
    assert seen == []
    keras_mgs.label_scores(model, X, CLASSES)
    assert seen == [N]


def test_wrong_batch_sizes_and_inputs_are_named():
    for wrong in (0, -1, 1.5, "all", True):
        with pytest.raises((TypeError, ValueError), match="`batch_size`"):
            keras_mgs.label_scores(ready(), X, CLASSES, batch_size=wrong)
    for wrong in (X[:, :2], np.where(X > 0, np.nan, X), None, {"b": X}):
        with pytest.raises((TypeError, ValueError), match="`x`"):
            keras_mgs.label_scores(ready(), wrong, CLASSES)
