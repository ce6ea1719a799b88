"""Long trainings cost in the end what they cost at the beginning: in memory, and in tracing."""

import gc
import weakref
from pathlib import Path

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from fitting import (
    BATCH,
    EPSILON,
    PENALTIES,
    batches,
    data,
    mean_square,
    network,
    same_weights,
    slow,
)
from keras import layers
from problems import randomise, sequential

from keras_mgs import LogDetPenalty, LossGradientPenalty, MGSMetrics, MGSModel, TracePenalty


class Counted(MGSModel):
    """Python runs `_step` once for each trace of a training step."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        traces = []
        self.traces = lambda: traces  # as an attribute Keras would track it

    def _step(self, data):
        self.traces().append(None)
        return super()._step(data)


class Passing(layers.Layer):
    """Counts the symbolic passes through a network, whoever traces it, in `passes`."""

    def __init__(self, passes):
        super().__init__()
        self.passes = lambda: passes.append(None)

    def call(self, x):
        if tf.inside_function():
            self.passes()
        return x


class PerEpoch(keras.callbacks.Callback):
    """What `measure` returns at the end of every epoch, before History takes its share."""

    def __init__(self, measure):
        super().__init__()
        self.measure, self.values = measure, []

    def on_epoch_end(self, epoch, logs=None):
        self.values.append(self.measure())


def resident():
    """Bytes of this process in memory, or the most that they have been."""
    import resource

    statm = Path("/proc/self/statm")
    if statm.exists():  # Linux
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes


def brute_trace(model, x):
    return (oracles.jacobian(model, tf.constant(x)) ** 2).sum()


@pytest.mark.slow
def test_20_000_steps_need_no_more_memory_and_no_more_traces():
    x, y = data(100 * BATCH)
    passes = []
    mgs = Counted(network(Passing(passes)))
    mgs.compile(keras.optimizers.SGD(0.01), "mse")
    seen = PerEpoch(lambda: (resident(), len(mgs.traces()), len(passes)))
    history = mgs.fit(
        x, y, batch_size=BATCH, epochs=200, verbose=0, callbacks=[MGSMetrics(x[:8]), seen]
    ).history
    assert int(mgs.optimizer.iterations) == 20_000
    assert max(history["mgs_alpha"]) > 0  # so that there was a penalty
    assert np.isfinite([v for values in history.values() for v in values]).all()
    np.testing.assert_allclose(history["mgs_trace"][-1], brute_trace(mgs.model, x[:8]), rtol=1e-9)

    memory, *traces = np.transpose(seen.values)
    assert all((t == t[0]).all() for t in traces)
    steps = 100 * np.arange(100)
    slope = np.polyfit(steps, memory[100:], 1)[0]
    # Bytes per step. Measured: 14, and 5 without any penalty. A tensor kept at each step would be
    # 900, its logs 260, one trace per epoch 1750.
    assert slope < 100


@pytest.mark.parametrize("n", [3 * BATCH, 3 * BATCH - 2])
@pytest.mark.parametrize(
    ("penalty", "kind"),
    [
        (PENALTIES["hutchinson"](8, 1), "hutchinson"),
        (PENALTIES["exact"](2, 1), "exact"),
        (PENALTIES["log_det"](2, 1), "log_det"),
    ],
)
def test_a_step_is_traced_once_also_with_a_smaller_last_batch(penalty, kind, n):
    """The numbers of a plain loop, too. Keras tells a step on its iterator that sizes differ."""
    x, y = data(n)
    passes = []
    mgs = Counted(network(Passing(passes)), penalty)
    mgs.compile(keras.optimizers.SGD(0.05), "mse")
    seen = PerEpoch(lambda: (len(mgs.traces()), len(passes)))
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0, "validation_data": (x, y)}
    history = mgs.fit(x, y, epochs=4, callbacks=[MGSMetrics(x[:6]), seen], **options).history
    mgs.fit(x, y, epochs=2, callbacks=[MGSMetrics(x[:6]), seen], **options)
    assert len(mgs.traces()) == 1
    assert seen.values == [seen.values[0]] * 6

    reference = network()
    pairs = batches(x, y, 6)
    optimizer = keras.optimizers.SGD(0.05)
    losses, _ = oracles.train(
        reference, mean_square, optimizer, pairs, kind, 0.01, penalty.every, 1, EPSILON
    )
    same_weights(mgs.model, reference)
    sizes = np.array([BATCH, BATCH, n - 2 * BATCH])
    expected = np.reshape(losses, (6, 3)) @ sizes / n
    np.testing.assert_allclose(history["loss"], expected[:4], rtol=1e-9)


@pytest.mark.parametrize(
    "penalty",
    ["trace", TracePenalty("auto", "exact", every=2), LossGradientPenalty(0.1, "inputs", 2)],
)
def test_nothing_is_traced_again_when_numbers_change(penalty):
    """α, weights and the learning rate are data of the compiled step."""
    (x, y), passes = data(), []
    mgs = Counted(network(Passing(passes)), penalty)
    mgs.compile(keras.optimizers.SGD(0.05), "mse")
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    metrics = MGSMetrics(x)
    initial = mgs.get_weights()
    first = mgs.fit(x, y, callbacks=[metrics], **options).history
    before = len(passes)
    mgs.fit(x, y, callbacks=[metrics], **options)
    mgs.alpha = 0.5
    mgs.optimizer.learning_rate = 0.01
    assert mgs.fit(x, y, callbacks=[metrics], **options).history["mgs_alpha"] == [0.5]
    mgs.set_weights(initial)
    mgs.alpha = first["mgs_alpha"][0]
    mgs.optimizer.learning_rate = 0.05
    mgs.optimizer.iterations.assign(0)
    mgs._steps.assign(0)
    again = mgs.fit(x, y, callbacks=[metrics], **options).history
    assert (len(mgs.traces()), len(passes)) == (1, before)
    for name, values in first.items():  # and the numbers are those of the first time
        np.testing.assert_allclose(again[name], values, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("jit", [False, True])
def test_the_first_step_is_traced_once_though_it_creates_variables(jit):
    """Those of the optimizer, its moving averages, and the metrics; plain Keras traces twice."""
    (x, y), passes = data(), []
    mgs = Counted(network(Passing(passes)))
    metrics = {"metrics": ["mae"], "weighted_metrics": [keras.metrics.F1Score()]}
    mgs.compile(keras.optimizers.Adam(use_ema=True), "mse", **metrics, jit_compile=jit)
    mgs.fit(x, y > 0, batch_size=BATCH, verbose=0)
    assert len(mgs.traces()) == 1
    assert int(mgs.optimizer.iterations) == 3


@pytest.mark.parametrize("n", [3 * BATCH - 2, slow(3 * BATCH), slow(BATCH - 1)])
@pytest.mark.parametrize("kind", ["hutchinson", "exact", "log_det"])
def test_a_smaller_last_batch_of_images_is_trained_as_in_a_plain_loop(kind, n):
    """Of unknown size, where batch statistics couple the samples."""

    def convolutional():
        model = sequential(
            (4, 4, 1),
            layers.Conv2D(2, 3),
            layers.BatchNormalization(momentum=0.5),
            layers.Flatten(),
            layers.Dense(2),
        )
        randomise(model, np.random.default_rng(0))
        return model

    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(n, 4, 4, 1)), rng.normal(size=(n, 2))
    mgs = Counted(convolutional(), PENALTIES[kind](2, 1))
    mgs.compile(keras.optimizers.SGD(0.05), "mse")
    mgs.fit(x, y, epochs=2, batch_size=BATCH, shuffle=False, verbose=0)
    assert len(mgs.traces()) == 1
    reference, optimizer = convolutional(), keras.optimizers.SGD(0.05)
    oracles.train(reference, mean_square, optimizer, batches(x, y, 2), kind, 0.01, 2, 1, EPSILON)
    for v, w in zip(mgs.model.weights, reference.weights, strict=True):
        np.testing.assert_allclose(v.numpy(), w.numpy(), rtol=1e-9, atol=1e-12, err_msg=v.path)


@pytest.mark.parametrize("penalty", ["trace", TracePenalty(0.01, "exact"), LogDetPenalty(0.01)])
def test_a_model_that_is_no_longer_used_is_freed_with_all_that_was_compiled_for_it(penalty):
    x, y = data()
    net = network()
    mgs = MGSModel(net, penalty)
    mgs.compile("sgd", "mse")
    history = mgs.fit(x, y, batch_size=BATCH, verbose=0, callbacks=[MGSMetrics(x)]).history
    np.testing.assert_allclose(history["mgs_trace"][-1], brute_trace(net, x), rtol=1e-9)
    references = [weakref.ref(net), weakref.ref(mgs)]
    del net, mgs
    gc.collect()
    assert [r() for r in references] == [None, None]
