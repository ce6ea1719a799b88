"""Public names with whatever arguments: a sentence that names one, or the right result."""

import functools
import re

import keras
import numpy as np
import oracles
import pandas as pd
import pytest
import scipy.sparse
import tensorflow as tf
from fitting import network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

import keras_mgs

pytestmark = pytest.mark.usefixtures("float64")

X = np.random.default_rng(0).normal(size=(4, 3))
NAN, INF = float("nan"), float("inf")
# No argument takes these.
NOTHING = [object(), len, b"x", 1j, ..., NotImplemented, {1: 2}, {"a": {"b": None}}, [[1], [2, 3]]]


class Good:
    """An argument that is right; `means`: the array that it stands for."""

    def __init__(self, value, means=None):
        self.value, self.means = value, means

    def __repr__(self):
        return f"Good({self.value!r})"


def dataset(*parts):
    return tf.data.Dataset.from_tensor_slices(parts if parts[1:] else parts[0]).batch(3)


def with_nan():
    return np.where(np.arange(12).reshape(4, 3) == 5, NAN, X)


DATA = [
    Good(X, X),
    Good(tf.constant(X), X),
    Good(X.astype("float32"), X.astype("float32")),
    Good(np.arange(12).reshape(4, 3), np.arange(12.0).reshape(4, 3)),
    Good(np.asfortranarray(X[::-1]), X[::-1]),
    Good([X], X),
    Good(pd.DataFrame(X), X),
    Good(dataset(X), X),
    Good(dataset(X, X[:, 0]), X),
    Good(X[:1], X[:1]),
    Good(np.repeat(X, 9, axis=0), np.repeat(X, 9, axis=0)),
    *NOTHING, None, True, 3, 0.5, "x", "", [], {}, (), X.tolist(), X[:0], X[:, :2], X[None], X[0],
    np.float64(3), X.astype(complex), X.astype(object), X.astype(str), with_nan(), X * INF,
    [X, X], {"a": X}, [X, None], keras.Input((3,)), tf.ragged.constant([[1.0], [1.0, 2.0]]),
    scipy.sparse.csr_matrix(X[:, :2]), dataset(X).repeat(), dataset(X).take(0), (v for v in X),
]  # fmt: skip
NUMBER = [
    *NOTHING, None, "1", "auto", [], X, NAN, INF, -1, -0.5, 10**400, -(10**400), np.array([1.0]),
    True, np.bool_(True),
]  # fmt: skip
COUNT = [*NUMBER, 0, 1.5, 2**40]
WORD = [*NOTHING, None, "", "tarce", 3, X, True, ["trace"]]
MODELS = [
    *NOTHING, None, "network", X, keras.Sequential(), keras.Input((3,)), layers.Dense(2),
    keras.Sequential([keras.Input((3,)), layers.Flatten()]), keras.Model,
]  # fmt: skip
FLAG = [Good(False), Good(True), Good(np.bool_(False)), *NOTHING, None, 0, 1, "", X]
BATCH_SIZE = [Good(None), Good(1), Good(np.int64(3)), *COUNT[len(NOTHING) + 1 :]]
POSITIVE = [Good(1e-6), Good(1), Good(np.float32(0.5)), *NUMBER, 0]
ALPHA = [Good(0), Good(1e-5), Good(np.float64(2)), *[v for v in NUMBER if v is not None]]
ALPHA = [v for v in ALPHA if not (isinstance(v, str) and v == "auto")]
EVERY = [Good(1), Good(np.int32(8)), *COUNT]


@functools.cache
def model():
    return network()


def data_and(**others):
    return {"model": [Good(None), *MODELS], "x": DATA, "training": FLAG, **others}


CALLS = {
    "jacobian": data_and(batch_size=BATCH_SIZE),
    "kernel": data_and(x2=[Good(None), *[d for d in DATA if d is not None]], batch_size=BATCH_SIZE),
    "similarity": data_and(
        x2=[Good(None), *[d for d in DATA if d is not None]], batch_size=BATCH_SIZE
    ),
    "trace": data_and(batch_size=BATCH_SIZE),
    "sample_traces": data_and(batch_size=BATCH_SIZE),
    "log_det": data_and(batch_size=BATCH_SIZE, epsilon=POSITIVE),
    "eigenvalues": data_and(batch_size=BATCH_SIZE),
    "explain": {**data_and(), "x": [Good(None), *[d for d in DATA if d is not None]]},
    "TracePenalty": {
        "alpha": [Good("auto"), *ALPHA],
        "estimator": [Good("exact"), Good("hutchinson"), *WORD],
        "probes": EVERY, "every": EVERY,
        "samples": [Good(None), *EVERY[:2], *COUNT[len(NOTHING) + 1 :]],
    },
    "LogDetPenalty": {"alpha": [*ALPHA, "auto"], "epsilon": POSITIVE, "every": EVERY},
    "RKHSPenalty": {
        "alpha": [*ALPHA, "auto"], "epsilon": POSITIVE, "every": EVERY,
        "differentiate_kernel": FLAG,
    },
    "LossGradientPenalty": {
        "alpha": [*ALPHA, "auto"], "wrt": [Good("weights"), Good("inputs"), *WORD], "every": EVERY,
    },
    "MGSModel": {
        "model": [Good(None), *[m for m in MODELS if not getattr(m, "built", False)]],
        "penalty": [Good("trace"), Good(keras_mgs.TracePenalty(1)), *WORD],
        "alpha": [Good(None), *[v for v in NUMBER if v is not None and not isinstance(v, str)]],
    },
    "MGSMetrics": {
        "x": DATA,
        "metrics": [Good(("trace",)), Good("trace"), *WORD[:-1], ("trace", 3), ()],
        "every": EVERY, "batch_size": [Good(3), *COUNT], "training": FLAG,
    },
}  # fmt: skip
EXACT = (
    "jacobian", "kernel", "similarity", "trace", "sample_traces", "log_det", "eigenvalues",
)  # fmt: skip
# What data they are shows when they are measured.
CALLS["MGSMetrics"]["x"] = [d for d in DATA if isinstance(d, Good)]


@st.composite
def calls(draw):
    """(name, arguments, names of those that are wrong): at most two."""
    name = draw(st.sampled_from(sorted(CALLS)))
    pools = {
        argument: [[v for v in values if isinstance(v, Good) is good] for good in (True, False)]
        for argument, values in CALLS[name].items()
    }
    spoilt = sorted(argument for argument, (_, bad) in pools.items() if bad)
    wrong = draw(st.sets(st.sampled_from(spoilt), max_size=2))
    arguments = {a: draw(st.sampled_from(pool[a in wrong])) for a, pool in pools.items()}
    return name, arguments, wrong


def expected(name, x, x2, epsilon, training):
    """By brute force."""
    j = oracles.jacobian(model(), x, training)
    if name == "jacobian":
        return j
    k = oracles.kernel(j)
    if name == "kernel":
        return k if x2 is None else oracles.kernel(j, oracles.jacobian(model(), x2, training))
    if name == "similarity":
        rows, others = (
            j.reshape(len(j), -1) / np.sqrt((j**2).sum((1, 2)))[:, None]
            for j in (j, j if x2 is None else oracles.jacobian(model(), x2, training))
        )
        return rows @ others.T
    if name == "trace":
        return np.trace(k)
    if name == "sample_traces":
        return np.sum(j**2, axis=(1, 2))
    if name == "log_det":
        return np.linalg.slogdet(k + epsilon * np.trace(k) / len(k) * np.eye(len(k)))[1]
    return np.linalg.eigvalsh(k)


def says(message, names):
    """Whether one of them, or what stands for it, is in a sentence."""
    return any(re.search(rf"\b{name}\b", message) for name in names)


def check(name, arguments, wrong):
    values = {a: v.value if isinstance(v, Good) else v for a, v in arguments.items()}
    if isinstance(arguments.get("model"), Good):
        values["model"] = network() if name == "MGSModel" else model()
    if name == "MGSModel" and isinstance(values["penalty"], keras_mgs.TracePenalty):
        values["alpha"] = None if "alpha" not in wrong else values["alpha"]
    before = model().get_weights()
    try:
        found = getattr(keras_mgs, name)(**values)
    except (TypeError, ValueError) as error:
        assert wrong, f"{name} refused {values}: {error}"
        assert says(str(error), wrong), f"{name}, wrong {wrong}: {error}"
    else:
        assert not wrong, f"{name} took {[(w, values[w]) for w in wrong]}"
        if name in EXACT:
            meant = {a: arguments[a].means for a in ("x", "x2") if a in arguments}
            epsilon = float(values.get("epsilon", 1e-6))
            right = expected(name, meant["x"], meant.get("x2"), epsilon, bool(values["training"]))
            scale = np.abs(right).max()
            np.testing.assert_allclose(found, right, rtol=1e-9, atol=1e-9 * scale)
    for v, w in zip(before, model().get_weights(), strict=True):
        np.testing.assert_array_equal(v, w)
    assert not any("call" in vars(layer) for layer in model().layers)


OPTIONS = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, **OPTIONS)
@given(calls())
def test_a_call_names_what_is_wrong_or_gives_the_right_result(call):
    check(*call)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=5000, **OPTIONS)
@given(calls())
def test_thousands_of_calls_name_what_is_wrong_or_give_the_right_result(call):
    check(*call)
