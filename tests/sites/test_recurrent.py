"""The rules of recurrent cells: every step is a position."""

import keras
import numpy as np
import oracles
import pytest
from keras import layers
from problems import randomise, sequential

import keras_mgs

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
