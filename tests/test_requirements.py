"""Importing keras_mgs where it cannot work says why, and what to do."""

import importlib

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
