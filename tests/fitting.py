"""One small network, its data and its `fit`, which the tests of MGSModel share."""

import numpy as np
import tensorflow as tf
from keras import layers
from problems import randomise, sequential

from keras_mgs import LogDetPenalty, TracePenalty

N, BATCH = 12, 4
EPSILON = 1e-3  # keeps log det K's second derivatives, as large as 1/ε, out of the comparison


def network(*more, units=2):
    model = sequential((3,), layers.Dense(4, "tanh"), *more, layers.Dense(units))
    randomise(model, np.random.default_rng(0))
    return model


def data(n=N, units=2):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, 3)), rng.normal(size=(n, units))


def mean_square(y, f):
    return tf.reduce_mean(tf.square(f - y))


def batches(x, y, epochs, size=BATCH):
    for _ in range(epochs):
        for i in range(0, len(x), size):
            yield tf.constant(x[i : i + size]), tf.constant(y[i : i + size])


def fitted(mgs, optimizer="sgd", epochs=2, compiled=None, **kwargs):
    x, y = data()
    mgs.compile(optimizer, "mse", **(compiled or {}))
    options = {"epochs": epochs, "batch_size": BATCH, "shuffle": False, "verbose": 0, **kwargs}
    return mgs.fit(x, y, **options).history


def same_weights(a, b, tolerance=1e-9):
    for v, w in zip(a.trainable_weights, b.trainable_weights, strict=True):
        np.testing.assert_allclose(v, w, rtol=tolerance, atol=tolerance)


PENALTIES = {
    "hutchinson": lambda every, probes: TracePenalty(0.01, "hutchinson", probes, every),
    "exact": lambda every, probes: TracePenalty(0.01, "exact", every=every),
    "log_det": lambda every, probes: LogDetPenalty(0.01, EPSILON, every),
}
