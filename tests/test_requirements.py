"""Importing keras_mgs: where it cannot work it says why, and it leaves TensorFlow alone."""

import importlib
import subprocess
import sys

import keras
import pytest

from keras_mgs import requirements


def test_keras_2_is_named(monkeypatch):
    monkeypatch.setattr(keras, "__version__", "2.15.0")
    with pytest.raises(ImportError, match="needs Keras 3. Received: Keras 2.15.0"):
        importlib.reload(requirements)


def test_another_backend_of_keras_is_named(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ImportError, match="Received: the backend 'jax'. Set the environment"):
        importlib.reload(requirements)


def test_threads_and_devices_can_be_chosen_after_the_import():
    """TensorFlow refuses it once anything has been computed."""
    code = """
import keras_mgs
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
assert len(tf.config.list_logical_devices("CPU")) == 2
"""
    subprocess.run([sys.executable, "-c", code], check=True)
