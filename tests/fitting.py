"""One small network, its data and its `fit`, which the tests of MGSModel share."""

import contextlib

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from keras import layers
from problems import randomise, sequential

from keras_mgs import LogDetPenalty, MGSModel, RKHSPenalty, TracePenalty
from keras_mgs.alpha import rule as alphas

N, BATCH = 12, 4


def slow(*arguments):
    """A case of a table whose other cases stand for it in the default run."""
    return pytest.param(*arguments, marks=pytest.mark.slow)


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


@contextlib.contextmanager
def automatic_from_the_first_step():
    """Let alpha="auto" act at once: it would wait for more steps than most tests make.

    And let exact tr K be measured itself, not by a projection, which each replica draws anew.
    """
    constants = {
        "STARTING": 0,
        "STEADY": np.inf,
        "learnt": lambda state: tf.ones((), "float64"),
        "left": lambda state: tf.ones((), "float64"),  # replicas deal labels among themselves
        "share": lambda epochs, steps: tf.constant(alphas.SHARE, "float64"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in constants.items():
            patch.setattr(alphas, name, value)
        patch.setattr(TracePenalty, "measures_itself", True)
        yield


def same_weights(a, b, tolerance=1e-9):
    for v, w in zip(a.trainable_weights, b.trainable_weights, strict=True):
        np.testing.assert_allclose(v, w, rtol=tolerance, atol=tolerance)


PENALTIES = {
    "hutchinson": lambda every, probes: TracePenalty(
        0.01, "hutchinson", probes, every, oracles.SAMPLES
    ),
    "exact": lambda every, probes: TracePenalty(0.01, "exact", every=every),
    "log_det": lambda every, probes: LogDetPenalty(0.01, EPSILON, every),
    "rkhs": lambda every, probes: RKHSPenalty(0.01, EPSILON, every),
    "rkhs, K too": lambda every, probes: RKHSPenalty(0.01, EPSILON, every, True),
}


def slices(x, y, epochs=1, size=BATCH):
    """As `batches`, of data in any structure."""
    n = len(keras.tree.flatten(x)[0])
    for _ in range(epochs):
        for i in range(0, n, size):
            yield keras.tree.map_structure(lambda a, i=i: tf.constant(a[i : i + size]), (x, y))


def trains_as_a_plain_loop(
    build,
    x,
    y,
    loss,
    plain_loss,
    kind,
    optimizer=lambda: keras.optimizers.SGD(0.05),
    *,
    plain_build=None,
    plain_optimizer=None,
    every=1,
    epochs=1,
    compiled=None,
    tolerance=1e-9,
    **kwargs,
):
    """Fit MGSModel(build()) with `loss`, train build() in a plain eager loop, and compare.

    `plain_loss(y, f)` is the same loss of the raw outputs, one row per sample; `plain_build` and
    `plain_optimizer` are for the loop, where it needs others of the same effect. Compared are every
    variable, moving statistics and the counters of random layers included, and `loss` and
    `mgs_penalty` of History. A loop without the penalty must end elsewhere: else the comparison
    would not see the penalty. Returns the wrapped model and History.
    """
    keras.utils.set_random_seed(0)  # the same seeds in the random layers of every model
    mgs = MGSModel(build(), PENALTIES[kind](every, 1))
    mgs.compile(optimizer(), loss, **(compiled or {}))
    options = {"epochs": epochs, "batch_size": BATCH, "shuffle": False, "verbose": 0, **kwargs}
    history = mgs.fit(x, y, **options).history

    def loop(kind, alpha, every):
        keras.utils.set_random_seed(0)
        model, stepper = (plain_build or build)(), (plain_optimizer or optimizer)()
        losses, penalties = oracles.train(
            model,
            lambda y, f: plain_loss(y, f) + sum(model.losses),
            stepper,
            slices(x, y, epochs),
            kind,
            alpha,
            every,
            epsilon=EPSILON,
        )
        stepper.finalize_variable_values(model.trainable_weights)  # the moving average, at the end
        return model, np.reshape(losses, (epochs, -1)), penalties

    reference, losses, penalties = loop(kind, 0.01, every)
    for v, w in zip(mgs.model.variables, reference.variables, strict=True):
        np.testing.assert_allclose(v, w, rtol=tolerance, atol=tolerance, err_msg=v.path)
    np.testing.assert_allclose(history["loss"], losses.mean(1), rtol=tolerance)
    epoch = np.arange(0, losses.size, every) // losses.shape[1]  # of each penalised step
    expected = [np.mean(np.array(penalties)[epoch == e]) for e in range(epochs)]
    np.testing.assert_allclose(history["mgs_penalty"], expected, rtol=tolerance)

    unpenalised, _, _ = loop("hutchinson", 0.0, losses.size)
    pairs = zip(reference.trainable_weights, unpenalised.trainable_weights, strict=True)
    assert max(np.abs(v.numpy() - w.numpy()).max() for v, w in pairs) > 1e3 * tolerance
    return mgs.model, history


def by_plain_loop(pairs, kind="hutchinson", every=2, loss=mean_square, model=None, optimizer=None):
    """A network that the plain eager loop has trained on `pairs`, its losses and its penalties."""
    model = model or network()
    optimizer = optimizer or keras.optimizers.SGD(0.05)
    run = oracles.train(model, loss, optimizer, pairs, kind, 0.01, every, epsilon=EPSILON)
    return model, *map(np.array, run)
