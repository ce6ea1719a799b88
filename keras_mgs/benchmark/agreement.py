"""What was measured, held against the same numbers by other means."""

import math

import keras
import numpy as np
import tensorflow as tf

import keras_mgs
from keras_mgs import autodiff, parts
from keras_mgs.kernel import EPSILON

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def pairs(what, found, model, x, y):
    """Numbers that were found, each beside what it is by other means, eagerly, without XLA."""
    if what in ("kernel", "metrics"):
        k = (found if what == "kernel" else keras_mgs.kernel(model, x)).numpy().astype("float64")
        yield from _of_kernel(k, model, x, training=False)
        if what == "metrics":
            yield found["trace"], np.trace(k)
            yield _mean_eigenvalue(found["log_det"], k), _mean_eigenvalue(_log_det(k), k)
        return
    with tf.GradientTape() as tape:
        loss = LOSS(y, model(x, training=True))
    yield np.ravel(found["loss"])[-1], loss
    if what == "plain" or what.endswith("epoch"):
        return
    value = float(found["mgs_penalty"]) / float(found["mgs_alpha"])
    if what == "loss_gradient":
        yield value, _squared(tape.gradient(loss, model.trainable_weights))
    elif what.startswith("hutchinson"):
        samples = keras_mgs.TracePenalty().samples
        some = x[:samples] if parts.separable(model, x, samples, training=True) else x
        signs = autodiff.random_signs((len(some), model.output_shape[1]), "float32", [0, 0])
        yield value, len(x) / len(some) * _projected(model, some, signs, training=True)
    else:
        k = keras_mgs.kernel(model, x, training=True).numpy().astype("float64")
        yield from _of_kernel(k, model, x, training=True)
        if what == "exact_trace":
            yield value, np.trace(k)
            yield value, np.sum(keras_mgs.sample_traces(model, x, training=True))
        else:
            yield _mean_eigenvalue(value, k), _mean_eigenvalue(_log_det(k), k)


def _of_kernel(k, model, x, training):
    """vᵀ K v = ‖Jᵀ v‖², for some v."""
    yield k, k.T
    rng = np.random.default_rng(1)
    for v in rng.choice([-1.0, 1.0], (3, len(k))):
        signs = tf.constant(v.reshape(len(x), -1), "float32")
        yield v @ k @ v, _projected(model, x, signs, training)


def _projected(model, x, v, training):
    """‖Jᵀ v‖², by the gradient of v · f."""
    with tf.GradientTape() as tape:
        projection = tf.reduce_sum(v * model(x, training=training))
    return _squared(tape.gradient(projection, model.trainable_weights))


def _squared(gradients):
    return sum(np.sum(np.square(g.numpy().astype("float64"))) for g in gradients)


def _log_det(k):
    shift = EPSILON * np.trace(k) / len(k)
    return np.linalg.slogdet(k + shift * np.eye(len(k)))[1]


def _mean_eigenvalue(log_det, k):
    """The geometric mean, of which a relative difference can be told, as of a trace."""
    return math.exp(float(log_det) / len(k))


def difference(numbers):
    """The largest relative difference of pairs; NaN of what is not finite."""
    norms = [
        np.linalg.norm(np.asarray(a, "float64") - b) / np.linalg.norm(np.asarray(b, "float64"))
        for a, b in numbers
    ]
    return float(np.max(norms))
