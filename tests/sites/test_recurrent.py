"""The rules of recurrent cells: every step is a position."""

import importlib
import sys

import keras
import numpy as np
import oracles
import pytest
from keras import layers
from problems import announced, make, randomise, sequential

import keras_mgs
from keras_mgs.sites import recurrent, registry

pytestmark = pytest.mark.usefixtures("float64")


def test_steps_of_unknown_number_are_left_to_the_fallback():
    """They run in a loop, which cannot be watched; TensorFlow cannot say how many there are."""
    model = sequential((None, 2), layers.GRU(2), layers.Dense(1))
    randomise(model, np.random.default_rng(0))
    for steps in (2, 3):  # the second number makes TensorFlow trace with an unknown one
        x = np.random.default_rng(1).normal(size=(2, steps, 2))
        actual = keras_mgs.trace(model, x)
        np.testing.assert_allclose(actual, (oracles.jacobian(model, x) ** 2).sum(), rtol=1e-9)


def test_a_state_kept_between_batches_is_read_and_left_as_it_was():
    inputs = keras.Input(batch_shape=(2, 3, 2))
    model = keras.Model(inputs, layers.GRU(2, stateful=True)(inputs))
    randomise(model, np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(2, 3, 2))
    model(x)
    state = np.array(model.layers[1].states[0])
    assert np.abs(state).min() > 0
    j = keras_mgs.jacobian(model, x)
    np.testing.assert_allclose(j, oracles.jacobian(model, x), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(model.layers[1].states[0], state)


def test_a_convolutional_cell_has_its_rule():
    assert registry.find(layers.ConvLSTM1D(1, 2).cell) is recurrent.convolutional_lstm_cell


def test_without_keras_class_of_convolutional_cells_the_fallback_serves(monkeypatch):
    model, x = make("convolutional LSTM, 2D")
    cell = next(type(v.cell) for v in model.layers if hasattr(v, "cell"))
    monkeypatch.delattr(sys.modules[cell.__module__], cell.__name__)
    monkeypatch.delitem(registry._RULES, cell)
    try:
        importlib.reload(recurrent)
        found = []
        (message,) = announced(lambda: found.append(keras_mgs.jacobian(model, x)))
    finally:
        monkeypatch.undo()
        importlib.reload(recurrent)
    assert cell.__name__ in message
    np.testing.assert_allclose(found[0], oracles.jacobian(model, x), rtol=1e-9, atol=1e-12)
