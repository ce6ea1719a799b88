"""Every test starts from the same seeds; `float64` makes Keras compute in double precision."""

import os

import pytest

# Before TensorFlow is imported, which leaves its fast convolutions off on some processors.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras


@pytest.fixture(autouse=True)
def seeds():
    keras.utils.set_random_seed(0)


@pytest.fixture
def float64():
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)
