"""The rules of weights that act element by element: normalisations and PReLU."""

import numpy as np
import pytest
from keras import layers
from problems import randomise, sequential

import keras_mgs

pytestmark = pytest.mark.usefixtures("float64")


def test_j_of_a_normalization_is_the_normalised_input_and_1():
    model = sequential((4,), layers.LayerNormalization(epsilon=0.0))
    randomise(model, np.random.default_rng(0))
    j = keras_mgs.jacobian(model, np.array([[1.0, 1, 3, 3]]))
    expected = np.concatenate([np.diag([-1, -1, 1, 1]), np.eye(4)], axis=1)
    np.testing.assert_allclose(j[0], expected, atol=1e-12)
