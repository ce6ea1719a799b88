"""The same seed gives the same training."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from fitting import automatic_from_the_first_step, fitted, network, same_weights
from keras import layers

from keras_mgs import MGSModel, TracePenalty


@pytest.fixture(autouse=True)
def at_once():
    with automatic_from_the_first_step():
        yield


def trained(seed):
    """Dropout, and the order of the samples, are random."""
    keras.utils.set_random_seed(seed)
    mgs = MGSModel(network(layers.Dropout(0.5)), TracePenalty(every=2))
    return mgs, fitted(mgs, "adam", shuffle=True)


def test_the_same_seed_gives_the_same_training_twice():
    (a, first), (b, second) = trained(3), trained(3)
    assert first.keys() == second.keys() == {"loss", "mgs_penalty", "mgs_alpha"}
    # Threads may add up in another order, unless TensorFlow is told to be deterministic (below).
    for key, values in first.items():
        np.testing.assert_allclose(second[key], values, rtol=1e-12, err_msg=key)
    same_weights(a.model, b.model, 1e-12)
    _, other = trained(4)
    for key in ("loss", "mgs_penalty"):
        assert (np.abs(np.subtract(other[key], first[key])) > 1e-6).all(), key


DETERMINISTIC = """
import hashlib
import json

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_mgs

tf.config.experimental.enable_op_determinism()
for penalty in (
    keras_mgs.TracePenalty(every=2),
    keras_mgs.LogDetPenalty(1e-3),
):
    keras.utils.set_random_seed(3)
    x, y = np.random.rand(64, 6, 6, 1), np.random.randint(0, 2, 64)
    model = keras.Sequential([
        keras.Input((6, 6, 1)),
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(2),
    ])
    mgs = keras_mgs.MGSModel(model, penalty)
    mgs.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = mgs.fit(x, y, batch_size=8, verbose=0).history
    weights = b"".join(w.tobytes() for w in mgs.get_weights())
    print(json.dumps(history), hashlib.sha256(weights).hexdigest())
"""


def test_two_processes_agree_bit_for_bit_where_tensorflow_is_deterministic():
    """Processes, because this setting of TensorFlow cannot be taken back."""

    def run(hash_seed):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", DETERMINISTIC]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    with ThreadPoolExecutor() as pool:
        a, b = pool.map(run, ["1", "2"])
    assert a.returncode == 0, a.stderr
    assert a.stdout == b.stdout
    lines = a.stdout.splitlines()
    assert len(set(lines)) == 2
    assert all("NaN" not in line and "Infinity" not in line for line in lines)
