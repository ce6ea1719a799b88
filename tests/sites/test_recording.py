"""Recording: which reads of a weight are seen, and that nothing is left behind."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from keras import layers, ops
from problems import Subclassed, announced, make, sequential

import keras_mgs
from keras_mgs.sites import record

pytestmark = pytest.mark.usefixtures("float64")
X = np.ones((2, 3))

READS = {
    "ops": lambda w: ops.sum(w),
    "value": lambda w: w.value,
    "operator": lambda w: w + 1,
    "indexing": lambda w: w[0],
    "tensorflow": lambda w: tf.reduce_sum(w),
    "numpy": lambda w: w.numpy(),
}


@pytest.mark.parametrize("read", READS)
def test_every_way_of_reading_a_weight_outside_its_layer_is_noticed(read):
    model = sequential((3,), layers.Dense(2))
    kernel, bias = model.trainable_weights
    with record(model, X, training=False) as recording:
        model(X)
        READS[read](kernel)
    assert recording.sites(kernel) is None
    assert len(recording.sites(bias)) == 1


def test_each_call_is_a_site():
    shared = layers.Dense(3)
    model = Subclassed({"a": shared}, lambda p, x: p["a"](p["a"](x)))
    model(X)
    with record(model, X, training=False) as recording:
        model(X)
    assert [len(recording.sites(w)) for w in recording.weights] == [2, 2]


def test_a_weight_without_a_part_has_no_sites():
    model = Subclassed({"a": layers.Dense(3), "b": layers.Dense(3)}, lambda p, x: p["b"](x))
    for layer in model.parts:
        layer.build((None, 3))
    model(X)
    with record(model, X, training=False) as recording:
        model(X)
    assert [len(recording.sites(w)) for w in recording.weights] == [0, 0, 1, 1]


def test_everything_is_put_back_even_after_an_exception():
    model = sequential((3,), layers.Dense(2, "tanh"), layers.Dense(2))
    activations = [layer.activation for layer in model.layers]
    with pytest.raises(ZeroDivisionError), record(model, X, training=False):
        model(X)
        raise ZeroDivisionError
    assert [layer.activation for layer in model.layers] == activations
    for thing in (*model.layers, *model.weights):
        assert not {"call", "_maybe_autocast"} & vars(thing).keys()


@pytest.mark.parametrize("name", ["dense, activations", "kernel read by another layer"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_keras_that_reads_weights_another_way_is_left_to_the_fallback(
    name, is_there, monkeypatch
):
    model, x = make(name)
    monkeypatch.setattr(keras.Variable, "value", property(lambda weight: weight._value))
    if not is_there:
        (owner,) = (c for c in keras.Variable.__mro__ if "_maybe_autocast" in vars(c))
        monkeypatch.delattr(owner, "_maybe_autocast")
    found = []
    assert announced(lambda: found.append(keras_mgs.jacobian(model, x)))
    np.testing.assert_allclose(found[0], oracles.jacobian(model, x), rtol=1e-9, atol=1e-12)
