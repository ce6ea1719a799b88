"""Whole networks as people use them, row by row against a plain gradient; all of them `slow`."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mgs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("float64")]


def transformer():
    tokens = keras.Input((6,), dtype="int32")
    h = layers.Embedding(11, 8, mask_zero=True)(tokens)
    for _ in range(2):
        attended = layers.MultiHeadAttention(2, 4, dropout=0.1)(h, h, use_causal_mask=True)
        h = layers.LayerNormalization()(h + attended)
        inner = layers.Dense(8)(layers.Dense(16, "gelu")(h))
        h = layers.LayerNormalization()(h + layers.Dropout(0.1)(inner))
    return keras.Model(tokens, layers.Dense(3)(layers.GlobalAveragePooling1D()(h)))


def application(name, size, **options):
    make = getattr(keras.applications, name)
    return lambda: make(weights=None, classes=2, input_shape=(size, size, 3), **options)


NETWORKS = {
    "MobileNetV2": application("MobileNetV2", 32, alpha=0.35),
    "MobileNetV3Small": application("MobileNetV3Small", 32),
    "EfficientNetV2B0": application("EfficientNetV2B0", 32),
    "ResNet50V2": application("ResNet50V2", 32),
    "Xception": application("Xception", 71),
    "DenseNet121": application("DenseNet121", 32),
    "ConvNeXtTiny": application("ConvNeXtTiny", 32),
    "transformer": transformer,
}


def rows(model, x):
    """J row by row, (n, q, p), of the logits: a reverse pass for each."""
    last = model.layers[-1]
    activation, last.activation = last.activation, keras.activations.linear
    weights = [w.value for w in model.trainable_weights]
    with tf.GradientTape(persistent=True) as tape:
        f = tf.unstack(model(x, training=False), axis=1)
        f = [tf.unstack(column) for column in f]
    last.activation = activation

    def row(entry):
        gradients = tape.gradient(entry, weights, unconnected_gradients="zero")
        return np.concatenate([np.ravel(tf.convert_to_tensor(g)) for g in gradients])

    return np.stack([[row(column[i]) for column in f] for i in range(len(x))])


@pytest.mark.parametrize("name", NETWORKS)
def test_results_equal_those_of_one_gradient_per_row(name):
    rng = np.random.default_rng(0)
    model = NETWORKS[name]()
    shape = (2, *model.input_shape[1:])
    x = rng.integers(1, 11, size=shape) if name == "transformer" else rng.uniform(size=shape)
    for w in model.weights:  # away from zeros and ones, near enough to the start not to overflow
        if "float" in w.dtype:
            w.assign(w + 0.1 * rng.uniform(size=w.shape))
    j = rows(model, x)
    k = j.reshape(-1, j.shape[2]) @ j.reshape(-1, j.shape[2]).T
    np.testing.assert_allclose(keras_mgs.sample_traces(model, x), (j**2).sum((1, 2)), rtol=1e-9)
    actual = keras_mgs.kernel(model, x)
    np.testing.assert_allclose(actual, k, rtol=1e-9, atol=1e-9 * k.max())


def test_the_trace_of_a_large_network_needs_less_than_two_gigabytes():
    """The whole process, TensorFlow included; J would be 8 · 100 · 2.4 million numbers, 7.5 GB."""
    program = (
        "import keras, keras_mgs, numpy as np, pathlib, resource, sys;"
        "model = keras.applications.MobileNetV2("
        "weights=None, classes=100, input_shape=(96, 96, 3));"
        "keras_mgs.trace(model, np.random.default_rng(0).uniform(size=(8, 96, 96, 3)));"
        # Where the system has it, not `resource`'s figure: on Linux that one begins with the peak
        # of the process that started this one.
        "status = pathlib.Path('/proc/self/status');"
        "unit = 1024 if sys.platform == 'darwin' else 1;"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit;"
        "print(status.read_text().split('VmHWM:')[1].split()[0] if status.exists() else peak)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=900
    )
    assert 1e5 < int(done.stdout.split()[-1]) < 2e6  # kB
