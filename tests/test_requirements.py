"""Importing keras_mgs: where it cannot work it says why, and it needs and changes no more."""

import importlib
import importlib.metadata
import re
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


def test_the_library_works_without_any_extra(tmp_path):
    """With TensorFlow, Keras and NumPy alone; rich is always there, as Keras needs it."""
    extra = re.compile(r"([\w-]+).*extra == .(plot|experiments|datasets|zoo|cleanlab)\b")
    found = map(extra.match, importlib.metadata.requires("keras_mgs"))
    names = {match[1].replace("-", "_") for match in found if match} - {"keras_mgs", "rich"}
    assert {"matplotlib", "pandas", "joblib", "filelock", "scikit_learn"} <= names
    code = f"""
import sys
for name in {{"sklearn", *{names}}}:
    sys.modules[name] = None
for name in ("experiments", "benchmark", "cli"):
    sys.modules["keras_mgs." + name] = None
import keras
import numpy as np
import keras_mgs
from keras_mgs import MGSMetrics, MGSModel, TracePenalty

x, y = np.random.default_rng(0).normal(size=(16, 3)), np.arange(16) % 2
model = MGSModel(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), TracePenalty(0.1))
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
history = model.fit(x, y, verbose=0, callbacks=[MGSMetrics(x[:2])]).history
assert np.isfinite([*history["mgs_trace"], *history["mgs_log_det"]]).all()
for name in ("jacobian", "kernel", "sample_traces", "log_det", "similarity"):
    assert np.isfinite(getattr(keras_mgs, name)(model.model, x[:2])).all()
keras_mgs.explain(model.model)
assert keras_mgs.label_scores(model, x, y).shape == (16,)
model.save("model.keras")
np.testing.assert_allclose(keras.models.load_model("model.keras")(x), model(x), rtol=1e-6)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Dense" in done.stdout  # explain
