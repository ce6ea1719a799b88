"""Data-parallel training, in processes of its own, gives what one device gives."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from fitting import (
    BATCH,
    EPSILON,
    N,
    automatic_from_the_first_step,
    batches,
    data,
    mean_square,
    network,
)

from keras_mgs import LogDetPenalty, MGSMetrics, MGSModel, TracePenalty, trace

REPLICAS = 2
PENALTIES = {
    "exact": lambda: TracePenalty(0.01, "exact", every=2),
    "exact auto": lambda: TracePenalty("auto", "exact", every=2),
    "hutchinson": lambda: TracePenalty(0.01, probes=1, every=2),
    "log_det": lambda: LogDetPenalty(0.01, EPSILON, every=2),
}


def growing():
    """Batches whose gradients grow, so that "auto" has steps to shorten."""
    x, y = data()
    return x, y * np.geomspace(1, 100, N)[:, None]


@automatic_from_the_first_step()  # parts of a batch deal their labels among themselves
def train(strategy, kind):
    """Weights, History and α of a fit under `strategy`."""
    with strategy.scope():
        mgs = MGSModel(network(), PENALTIES[kind]())
        mgs.compile(keras.optimizers.SGD(0.05), "mse")
    x, y = growing()
    probe = MGSMetrics(x[:4])
    options = {"epochs": 2, "batch_size": BATCH, "shuffle": False, "verbose": 0}
    history = mgs.fit(x, y, callbacks=[probe], **options).history
    return {
        "weights": [w.tolist() for w in mgs.model.get_weights()],
        "history": history,
        "alpha": mgs.alpha,
    }


def train_in_single_precision(strategy, kind):
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    return train(strategy, kind)


@automatic_from_the_first_step()
def train_by_hand(strategy, kind):
    """Weights and α of a loop over `train_step`: Keras 3's own `fit` fails with several workers.

    https://github.com/keras-team/keras/issues/20585
    """
    with strategy.scope():
        mgs = MGSModel(network(), PENALTIES[kind]())
        mgs.compile(keras.optimizers.SGD(0.05), "mse")
        mgs.optimizer.build(mgs.trainable_variables)
    dataset = tf.data.Dataset.from_tensor_slices(growing()).batch(BATCH)
    step = tf.function(lambda batch: strategy.run(mgs.train_step, args=(batch,)), autograph=False)
    for _ in range(2):
        for batch in strategy.experimental_distribute_dataset(dataset):
            step(batch)
    return {"weights": [w.tolist() for w in mgs.model.get_weights()], "alpha": mgs.alpha}


# TensorFlow takes both only before anything has been computed, so before this file is imported.
MIRRORED = """
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
"""
WORKER = "strategy = tf.distribute.MultiWorkerMirroredStrategy()"


def start(strategy, function, kinds, **environment):
    """A process that trains under `strategy` and prints the results."""
    code = f"""
import json, keras, tensorflow as tf
{strategy}
keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")
import test_distribution
train = test_distribution.{function.__name__}
print(json.dumps({{kind: train(strategy, kind) for kind in {list(kinds)}}}))
"""
    here = Path(__file__).parent
    paths = [str(here), str(here.parent), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results(processes):
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()  # a worker whose partner has failed waits for ever
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


@pytest.fixture(scope="module")
def on_two_devices():
    (found,) = results([start(MIRRORED, train, PENALTIES)])
    return found


def same(a, b):
    for v, w in zip(a["weights"], b["weights"], strict=True):
        np.testing.assert_allclose(v, w, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(a["alpha"], b["alpha"], rtol=1e-9)


@pytest.mark.parametrize("kind", ["exact", "exact auto"])
def test_two_devices_train_as_one_does_with_the_same_global_batch(kind, on_two_devices):
    found, expected = on_two_devices[kind], train(tf.distribute.get_strategy(), kind)
    same(found, expected)
    assert found["history"].keys() == expected["history"].keys()
    for key, values in expected["history"].items():
        np.testing.assert_allclose(found["history"][key], values, rtol=1e-9, err_msg=key)


def test_two_devices_train_in_single_precision():
    """Gradients of one precision are then summed beside numbers of "auto" in another."""
    (found,) = results([start(MIRRORED, train_in_single_precision, ["exact auto"])])
    expected = train_in_single_precision(tf.distribute.get_strategy(), "exact auto")
    for v, w in zip(found["exact auto"]["weights"], expected["weights"], strict=True):
        np.testing.assert_allclose(v, w, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["exact auto"]["alpha"], expected["alpha"], rtol=1e-3)


def test_a_step_was_shortened_in_these_trainings():
    """Or the test above would not have seen whether two devices shorten as one does."""
    automatic = train(tf.distribute.get_strategy(), "exact auto")
    mgs = MGSModel(network(), TracePenalty(automatic["alpha"], "exact", every=2))
    mgs.compile(keras.optimizers.SGD(0.05), "mse")
    x, y = growing()
    mgs.fit(x, y, epochs=2, batch_size=BATCH, shuffle=False, verbose=0)
    assert np.abs(mgs.model.get_weights()[0] - automatic["weights"][0]).max() > 1e-3


@pytest.mark.parametrize("kind", ["hutchinson", "log_det"])
def test_the_penalties_of_the_parts_add_up(kind, on_two_devices):
    """Each replica draws projections of its own, or takes the log determinant of its part."""
    model, optimizer = network(), keras.optimizers.SGD(0.05)
    weights = oracles.variables(model)
    for step, (x, y) in enumerate(batches(*growing(), epochs=2)):
        with tf.GradientTape() as tape:
            loss = mean_square(y, oracles.flat(model(x)))
            if step % 2 == 0:
                for replica, part in enumerate(tf.split(x, REPLICAS)):
                    f = lambda part=part: oracles.flat(model(part))  # noqa: E731
                    value = oracles.penalty(kind, f, weights, step, 1, EPSILON, first=replica)[1]
                    loss += 0.01 * 2 * value
        optimizer.apply(tape.gradient(loss, weights), model.trainable_weights)
    for v, w in zip(on_two_devices[kind]["weights"], model.get_weights(), strict=True):
        np.testing.assert_allclose(v, w, rtol=1e-9, atol=1e-12)


def test_the_callback_measures_a_model_on_two_devices(on_two_devices):
    found = on_two_devices["exact"]
    model = network()
    model.set_weights([np.array(w) for w in found["weights"]])
    np.testing.assert_allclose(
        found["history"]["mgs_trace"][-1], trace(model, growing()[0][:4]), rtol=1e-9
    )


def test_two_workers_train_as_one_device_does():
    ports = []
    for _ in range(REPLICAS):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            ports.append(free.getsockname()[1])
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": i}} for i in range(REPLICAS)]
    kinds = ("exact", "exact auto")
    workers = [start(WORKER, train_by_hand, kinds, TF_CONFIG=json.dumps(task)) for task in tasks]
    for found in results(workers):
        for kind in found:
            same(found[kind], train(tf.distribute.get_strategy(), kind))


@pytest.mark.parametrize(
    "strategy", [tf.distribute.MirroredStrategy, tf.distribute.OneDeviceStrategy]
)
def test_a_strategy_of_one_device_trains_as_no_strategy_does(strategy):
    """As on any machine with one GPU."""
    devices = "/cpu:0" if strategy is tf.distribute.OneDeviceStrategy else ["/cpu:0"]
    with strategy(devices).scope():
        mgs = MGSModel(network(), PENALTIES["exact"]())
        mgs.compile(keras.optimizers.SGD(0.05), "mse")
    x, y = growing()
    history = mgs.fit(x, y, epochs=2, batch_size=BATCH, shuffle=False, verbose=0).history
    expected = train(tf.distribute.get_strategy(), "exact")
    for v, w in zip(mgs.model.get_weights(), expected["weights"], strict=True):
        np.testing.assert_allclose(v, w, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(history["mgs_penalty"], expected["history"]["mgs_penalty"])


@pytest.mark.parametrize("wrapped_inside", [False, True])
def test_a_model_made_outside_of_the_scope_is_refused(wrapped_inside):
    net = network()
    mgs = MGSModel(net)
    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        if wrapped_inside:
            mgs = MGSModel(net)
        mgs.compile("sgd", "mse")
        with pytest.raises(ValueError, match="made in the scope of the MirroredStrategy"):
            mgs.fit(*growing(), verbose=0)
