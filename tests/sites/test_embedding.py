"""Embedding's rule: the rows of a table, read forwards and backwards."""

import numpy as np
import oracles
import pytest
from keras import layers
from problems import randomise, sequential

import keras_mgs

pytestmark = pytest.mark.usefixtures("float64")


def test_j_of_an_embedding_counts_its_indices():
    model = sequential((3,), layers.Embedding(4, 1), layers.GlobalAveragePooling1D(), dtype="int32")
    j = keras_mgs.jacobian(model, np.array([[0, 2, 2], [3, 3, 3]]))
    np.testing.assert_allclose(j[:, 0], [[1 / 3, 0, 2 / 3, 0], [0, 0, 0, 1]], rtol=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_indices_may_be_of_any_number_type(dtype):
    model = sequential((3,), layers.Embedding(4, 2), layers.Flatten(), dtype=dtype)
    randomise(model, np.random.default_rng(0))
    x = np.array([[0, 3, 3], [2, 1, 0]], dtype)
    np.testing.assert_array_equal(keras_mgs.jacobian(model, x), oracles.jacobian(model, x))
