"""Hooks act in the thread that asks for them, and leave everything as it was, however they end."""

import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from problems import make

import keras_mgs
from keras_mgs import hooks, second_order


class Thing:
    def name(self):
        return "class"


def elsewhere(call):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def test_a_function_is_replaced_in_one_thread_only():
    thing = Thing()
    with hooks.replaced(thing, "name", lambda was: lambda: f"hook on {was()}"):
        assert thing.name() == "hook on class"
        assert elsewhere(lambda: thing.name()) == "class"
        assert not hooks.is_own(thing, "name")
        with hooks.replaced(thing, "name", lambda was: lambda: f"another {was()}"):
            assert thing.name() == "another hook on class"
        assert thing.name() == "hook on class"
    assert "name" not in vars(thing)


def test_layers_of_a_replaced_kind_can_be_made_meanwhile():
    """Keras reads the signature of `call` when a layer is made."""

    def shape():
        return keras.layers.BatchNormalization()(tf.ones((2, 3)), training=True).shape

    with hooks.replaced(keras.layers.BatchNormalization, "call", lambda call: call):
        assert shape() == elsewhere(shape) == (2, 3)


def test_what_somebody_else_put_there_stays():
    thing = Thing()
    thing.name = own = lambda: "own"
    with hooks.replaced(thing, "name", lambda was: lambda: f"hook on {was()}"):
        assert thing.name() == "hook on own"
        assert hooks.is_own(thing, "name")
    assert thing.name is own


@pytest.mark.parametrize("first", [0, 1])
def test_two_threads_may_end_in_any_order(first):
    thing, inside = Thing(), threading.Barrier(3)
    leave = [threading.Event(), threading.Event()]

    def use(i):
        with hooks.replaced(thing, "name", lambda _: lambda: i):
            inside.wait()
            leave[i].wait()
            found.append((i, thing.name()))

    found = []
    threads = [threading.Thread(target=use, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    inside.wait()
    for i in (first, 1 - first):
        assert thing.name() == "class"
        leave[i].set()
        threads[i].join()
    assert found == [(first, first), (1 - first, 1 - first)]
    assert "name" not in vars(thing)


def test_doubles_share_all_but_the_attributes_given():
    layer = keras.layers.Dense(2, "tanh")
    layer.build((None, 3))
    double = hooks.with_attributes(layer, activation=None)
    assert double.kernel is layer.kernel
    x = np.ones((1, 3))
    np.testing.assert_allclose(np.tanh(double.call(x)), layer.call(x), rtol=1e-6)
    double.note = "shared"
    assert layer.note == "shared"


def globals_of_tensorflow():
    return tf.nn.moments, type(tf.function(lambda: 0)).__call__


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("same", [True, False])
def test_threads_compute_at_once_and_nothing_stays_replaced(same):
    before = globals_of_tensorflow()
    one = make("batch normalization, options")
    jobs = [one if same else make("batch normalization, options", seed=i) for i in range(4)]
    expected = [(oracles.jacobian(*job) ** 2).sum() for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda job: float(keras_mgs.trace(*job)), jobs))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert globals_of_tensorflow() == before
    for model, _ in jobs:
        for thing in (*model.layers, *model.weights):
            assert not {"call", "_maybe_autocast"} & vars(thing).keys()


def test_other_threads_see_tensorflow_as_it_is_during_a_pass():
    function = tf.function(lambda x: tf.executing_eagerly())
    x = tf.ones((2, 2))

    def traced():
        return bool(function(x)), tf.nn.moments(x, [0])[1].numpy().tolist()

    with second_order.twice_differentiable():
        assert elsewhere(traced) == (False, [0.0, 0.0])
        assert function(x) is True  # as part of the pass


@pytest.mark.parametrize("make_layer", [keras.layers.LSTM, keras.layers.GRU])
def test_passes_do_without_kernels_that_have_no_second_derivative(make_layer, monkeypatch):
    """On a GPU, Keras would take cuDNN's."""
    model = keras.Sequential([keras.Input((3, 2)), make_layer(2), keras.layers.Dense(1)])
    x = tf.ones((2, 3, 2))
    expected = model(x)

    def kernel(*args, **kwargs):
        raise AssertionError("cuDNN")

    monkeypatch.setattr(second_order._RECURRENT, make_layer.__name__.lower(), kernel)
    with pytest.raises(AssertionError, match="cuDNN"):
        model(x)
    with second_order.twice_differentiable():
        np.testing.assert_allclose(model(x), expected, rtol=1e-6)
