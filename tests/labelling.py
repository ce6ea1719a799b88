"""Labels of every kind, and small networks for them, which the tests of label_scores share."""

import functools

import keras
import numpy as np
from keras import layers
from problems import randomise, sequential

RNG = np.random.default_rng(0)
N = 7
X = RNG.normal(size=(N, 3))
CLASSES = np.array([0, 1, 2, 2, 1, 0, 1])
ONE_HOT = np.eye(3)[CLASSES]
BITS = np.array([0, 1, 1, 0, 1, 0, 0])
ROWS = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1]])
NUMBERS = RNG.normal(size=(N, 3))
IMAGES = RNG.normal(size=(N, 2, 3))
LOSSES = keras.losses


def network(units=3, end=None):
    model = sequential((3,), layers.Dense(4, "tanh"), layers.Dense(units, end))
    randomise(model, np.random.default_rng(1))
    return model


def compiled(loss, units=3, end=None):
    model = network(units, end)
    model.compile("sgd", loss)
    return model


def of_images():
    return sequential((3,), layers.Dense(6), layers.Reshape((2, 3)))


@functools.cache
def ready(end="softmax"):
    """A network in single precision that is built once."""
    return network(end=end)
