"""The rules of Dense, EinsumDense, LoRA, and of attention, which is made of them."""

import keras
import numpy as np
import oracles
import pytest
from keras import layers
from problems import (
    SquaredDense,
    make,
    randomise,
    sequential,
)

import keras_mgs

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("trainable", ["kernel", "bias"])
def test_one_trainable_weight_of_two_is_all_of_j(trainable):
    model = sequential((3,), layers.Dense(2))
    for name in {"kernel", "bias"} - {trainable}:
        getattr(model.layers[0], name).trainable = False
    x = np.random.default_rng(0).normal(size=(3, 3))
    j = keras_mgs.jacobian(model, x)
    assert j.shape == (3, 2, 6 if trainable == "kernel" else 2)
    np.testing.assert_allclose(j, oracles.jacobian(model, x), rtol=1e-9, atol=1e-12)


def test_j_of_one_dense_layer_is_its_input():
    model = sequential((2,), layers.Dense(2))
    j = keras_mgs.jacobian(model, np.array([[3.0, 5.0]]))
    expected = [[3, 0, 5, 0, 1, 0], [0, 3, 0, 5, 0, 1]]
    np.testing.assert_array_equal(j[0], expected)


@pytest.mark.parametrize("frozen", ["lora_kernel_a", "lora_kernel_b"])
def test_one_lora_factor_without_the_other_is_explained(frozen):
    model, x = make("LoRA, dense")
    getattr(model.layers[0], frozen).trainable = False
    j = keras_mgs.jacobian(model, x)
    np.testing.assert_allclose(j, oracles.jacobian(model, x), rtol=1e-9, atol=1e-12)


def test_a_subclass_is_left_to_the_fallback():
    model = sequential((3,), SquaredDense(2))
    randomise(model, np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(3, 3))
    with pytest.warns(UserWarning, match="SquaredDense"):
        j = keras_mgs.jacobian(model, x)
    np.testing.assert_allclose(j, oracles.jacobian(model, x), rtol=1e-9, atol=1e-12)


def test_an_instance_with_another_call_is_left_to_the_fallback():
    layer = layers.Dense(2)
    model = sequential((3,), layer)
    usual = layer.call
    layer.call = lambda x, training=None: keras.ops.square(usual(x))
    x = np.random.default_rng(1).normal(size=(3, 3))
    with pytest.warns(UserWarning, match="no fast rule"):
        j = keras_mgs.jacobian(model, x)
    np.testing.assert_allclose(j, oracles.jacobian(model, x), rtol=1e-9, atol=1e-12)
