"""explain: every weight is told of, by what serves it, and the costs are those of the formulas."""

import keras
import numpy as np
import pytest
from keras import layers
from problems import Scale, Subclassed, make, sequential

import keras_mgs


def lines(capsys, *args, **kwargs):
    keras_mgs.explain(*args, **kwargs)
    return capsys.readouterr().out.splitlines()


def test_each_layer_is_told_of_with_its_rule_or_the_fallback(capsys):
    model = sequential(
        (4, 4, 1),
        layers.Conv2D(2, 3, name="first"),
        layers.BatchNormalization(name="second"),
        layers.Flatten(),
        Scale(name="mine"),
        layers.Dense(3, name="last"),
    )
    found = {line.split()[0]: line for line in lines(capsys, model)}
    assert "kernel 3x3x1x2, bias 2" in found["first"]
    assert "convolution, rows" in found["first"]
    assert "gamma 2, beta 2" in found["second"]
    assert "normalization" in found["second"]
    assert "fallback" in found["mine"]
    assert "dense, outer product" in found["last"]


def test_costs_are_those_of_the_documented_formulas(capsys):
    model = sequential(
        (5, 2), layers.Conv1D(4, 2, name="c"), layers.Flatten(), layers.Dense(3, name="d")
    )
    found = {line.split()[0]: line for line in lines(capsys, model, batch_size=8)}
    # 4 positions, features of 2 · 2, 4 channels, 3 outputs: J's rows are cheaper than a Gram matrix
    assert f"{8 * 4 * 4 * 4 * 3:,}" in found["c"].split()
    assert f"{8 * (16 + 3 * 3):,}" in found["d"].split()


def test_steps_of_a_recurrent_layer_count_as_positions(capsys):
    short, long = (
        next(
            line
            for line in lines(capsys, sequential((t, 2), layers.SimpleRNN(3), layers.Dense(1)))
            if "SimpleRNNCell" in line
        )
        for t in (2, 4)
    )
    assert "simple cell, rows" in short
    costs = [int(line.split()[-2].replace(",", "")) for line in (short, long)]
    assert costs[1] == 2 * costs[0]


@pytest.mark.parametrize("name", ["list of inputs", "dict of inputs", "nested", "embedding"])
def test_models_that_know_their_inputs_need_no_data(name, capsys):
    model, x = make(name)
    without = lines(capsys, model)
    assert without == lines(capsys, model, x)
    for w in model.trainable_weights:
        assert any("x".join(map(str, w.shape)) in line for line in without)


def test_a_model_that_does_not_know_its_inputs_asks_for_data(capsys):
    model = Subclassed({"a": layers.Dense(2)}, lambda p, x: p["a"](x))
    x = np.ones((2, 3))
    model(x)
    with pytest.raises(ValueError, match="does not say which shapes.*Received: x=None"):
        keras_mgs.explain(model)
    assert any("dense (Dense)" in line or "(Dense)" in line for line in lines(capsys, model, x))


def test_a_coupled_batch_is_told_of(capsys):
    model = sequential((3,), layers.Dense(3), layers.BatchNormalization(), layers.Dense(2))
    assert "depend on each other" not in "".join(lines(capsys, model))
    assert "depend on each other" in lines(capsys, model, training=True)[-1]


def test_a_model_without_weights_is_refused():
    with pytest.raises(ValueError, match="trainable weights"):
        keras_mgs.explain(keras.Sequential([keras.Input((3,)), layers.Flatten()]))
