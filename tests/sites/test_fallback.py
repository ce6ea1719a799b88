"""The fallback: announced once by name, and used for nothing that a rule explains."""

import warnings

import numpy as np
import pytest
from keras import layers
from problems import Scale, make, sequential

import keras_mgs

pytestmark = pytest.mark.usefixtures("float64")


def warned(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in caught if "no fast rule" in str(w.message)]


def test_layers_without_a_rule_are_named_once_and_the_others_not():
    model = sequential((3,), layers.Dense(3, name="known"), Scale(name="mine"), layers.Dense(2))
    x = np.ones((2, 3))
    messages = warned(lambda: (keras_mgs.trace(model, x), keras_mgs.log_det(model, x)))
    assert len(messages) == 1
    assert "mine (Scale)" in messages[0]
    assert "known" not in messages[0]
    assert not warned(lambda: keras_mgs.jacobian(model, x))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("layer normalization", "LayerNormalization"),
        ("embedding", "Embedding"),
        ("unrolled LSTM", "LSTM"),
        ("kernel read by another layer", "Dense"),
        ("time folded into the batch", "Dense"),
    ],
)
def test_what_no_rule_explains_is_announced(name, layer):
    model, x = make(name)
    (message,) = warned(lambda: keras_mgs.trace(model, x))
    assert layer in message


@pytest.mark.parametrize(
    "name",
    ["nested", "layer called twice", "sub-model used twice", "residual", "dict of inputs",
     "list of outputs", "subclassed", "frozen layer", "layers called by keyword"],
)  # fmt: skip
def test_structures_that_the_rules_explain_stay_fast(name):
    model, x = make(name)
    if name == "nested":
        assert all(
            "Scale" in m and "Dense" not in m for m in warned(lambda: keras_mgs.trace(model, x))
        )
    else:
        assert not warned(lambda: keras_mgs.trace(model, x))


def test_coupled_samples_are_announced():
    model = sequential((3,), layers.Dense(3), layers.BatchNormalization(), layers.Dense(2))
    assert warned(lambda: keras_mgs.trace(model, np.eye(3), training=True))
