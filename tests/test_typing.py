"""A user's program is typed where it calls keras_mgs, and passes mypy --strict."""

import pytest
from mypy import api

import keras_mgs

HEAD = """
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_mgs
from keras_mgs.sites import Call, OneHot, Site, elementwise, find, matrix, rule

model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
x = np.ones((4, 3))
"""
PROGRAM = (
    HEAD
    + """
j: tf.Tensor = keras_mgs.jacobian(model, x, batch_size=3)
k: tf.Tensor = keras_mgs.kernel(model, x, {"a": x}, training=True, batch_size=None)
alike: tf.Tensor = keras_mgs.similarity(model, x, x, batch_size=3)
total: float = float(keras_mgs.trace(model, tf.data.Dataset.from_tensors(x)))
keras_mgs.sample_traces(model, x).numpy()
keras_mgs.log_det(model, x, epsilon=1e-3)
doubts: list[float] = keras_mgs.label_scores(model, x, [0, 1, 0, 1], kind="classes").tolist()
values: tf.Tensor = keras_mgs.eigenvalues(model, x)

for estimator in ("hutchinson", "exact"):
    penalty = keras_mgs.TracePenalty(1e-3, estimator, probes=2, every=1, samples=None)
outputs, extra = penalty(model, x, 3, training=False)
config: dict[str, Any] = penalty.get_config()
again: keras_mgs.TracePenalty = keras_mgs.TracePenalty.from_config(config)
schedule = keras.optimizers.schedules.CosineDecay(0.1, 100)
log_det: keras_mgs.LogDetPenalty = keras_mgs.LogDetPenalty(schedule, epsilon=1e-3)
log_det(model, x, keras.optimizers.SGD().iterations)
norm = keras_mgs.RKHSPenalty(0.1, every=8, differentiate_kernel=True)
rival = keras_mgs.LossGradientPenalty(0.1, wrt="inputs", every=2)
words: str = f"{rival.alpha} {rival.every} {rival.wrt} {keras_mgs.TracePenalty()!r}"


@rule(keras.layers.Rescaling)
def rescaling(layer: Any, call: Call) -> list[Site] | None:
    if call.training:
        return None
    return [elementwise(layer.scale, call.x, call.z), matrix(layer.kernel, call.x, call.z)]


table = OneHot(indices=x, size=3)
assert find(model.layers[0]) is None
"""
)
WRONG = {
    'keras_mgs.jacobian(model, x, batch_size="all")': '"batch_size" to "jacobian" has incompatible',
    "keras_mgs.kernel(model)": 'Missing positional argument "x"',
    "keras_mgs.similarity(model, x, training=1)": '"training" to "similarity" has incompatible',
    "keras_mgs.trace(model, x, True)": 'Too many positional arguments for "trace"',
    "keras_mgs.sample_traces(model, x, size=3)": 'Unexpected keyword argument "size"',
    "keras_mgs.label_scores(model, x, x, kind=3)": '"kind" to "label_scores" has incompatible type',
    'keras_mgs.log_det(model, x, epsilon="1")': '"epsilon" to "log_det" has incompatible type',
    "keras_mgs.eigenvalues(model, x, training=3)": '"training" to "eigenvalues" has incompatible',
    "keras_mgs.TracePenalty(probes=0.5)": '"probes" to "TracePenalty" has incompatible type',
    "keras_mgs.LogDetPenalty()": 'Missing positional argument "alpha"',
    "keras_mgs.RKHSPenalty(0.1, every=0.5)": '"every" to "RKHSPenalty" has incompatible type',
    "keras_mgs.LossGradientPenalty(0.1, wrt=1)": '"wrt" to "LossGradientPenalty" has incompatible',
    "keras_mgs.TracePenalty().no_such_name": 'has no attribute "no_such_name"',
    "rule(3)": 'Argument 1 to "rule" has incompatible type',
}


@pytest.fixture
def errors(tmp_path, monkeypatch, pytestconfig):
    """A function of a program: the errors that mypy reports, a line each."""
    monkeypatch.chdir(pytestconfig.rootpath)  # where mypy finds keras_mgs
    cache = f"--cache-dir={pytestconfig.cache.mkdir('mypy')}"
    # The user's program alone is to be reported on, as where keras_mgs is installed.
    options = ["--ignore-missing-imports", "--follow-imports=silent", "--no-error-summary"]

    def found(program):
        file = tmp_path / "program.py"
        file.write_text(program, encoding="utf-8")
        report, trouble, _ = api.run(["--strict", *options, "--config-file=", cache, str(file)])
        assert not trouble
        return [line for line in report.splitlines() if " error: " in line]

    return found


def test_a_program_that_uses_every_function_and_penalty_passes(errors):
    others = {"MGSMetrics", "MGSModel", "explain", "plot"}
    assert all(f"keras_mgs.{name}(" in PROGRAM for name in {*keras_mgs.__all__} - others)
    assert errors(PROGRAM) == []


def test_wrong_calls_are_reported(errors):
    found = errors(HEAD + "\n".join(WRONG))
    first = HEAD.count("\n") + 1
    assert len(found) == len(WRONG), found
    for line, (report, words) in enumerate(zip(found, WRONG.values(), strict=True), first):
        assert f"program.py:{line}: " in report and words in report
