"""Gradients of tables: what is computed of few rows is that of the whole table."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fitting import same_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from keras_mgs import MGSModel, TracePenalty, norms, slices

pytestmark = pytest.mark.usefixtures("float64")

ROWS = 5
INDICES = st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=9)


def some(indices, seed=0):
    values = np.random.default_rng(seed).normal(size=(len(indices), 3))
    return tf.IndexedSlices(tf.constant(values), tf.constant(indices), tf.constant([ROWS, 3]))


@settings(deadline=None, max_examples=30)
@given(INDICES, INDICES)
def test_sums_and_norms_are_those_of_dense_tables(a, b):
    one, other = some(a), some(b, 1)
    dense = [tf.convert_to_tensor(t).numpy() for t in (one, other)]
    for second in (other, tf.constant(dense[1])):
        for first in (one, tf.constant(dense[0])):
            found = slices.plus(first, second)
            assert type(found) is type(first)
            np.testing.assert_allclose(
                tf.convert_to_tensor(found), sum(dense), rtol=1e-9, atol=1e-12
            )
    expected = sum(np.sum(t**2) for t in dense)
    np.testing.assert_allclose(norms.squared([one, other]), expected, rtol=1e-9)
    np.testing.assert_allclose(norms.of_products([one, other]), expected, rtol=1e-9)
    halved = slices.of_values(lambda t: t / 2, one)
    np.testing.assert_allclose(tf.convert_to_tensor(halved), dense[0] / 2, rtol=1e-9)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_norm_of_rows_is_differentiated(compiled):
    @tf.function(jit_compile=compiled)
    def gradient(values):
        indices = tf.constant([1, 3, 1])
        with tf.GradientTape() as tape:
            tape.watch(values)
            table = tf.IndexedSlices(values, indices, tf.constant([ROWS, 2]))
            norm = norms.squared([table])
        return tape.gradient(norm, values)

    values = tf.constant(np.arange(6.0).reshape(3, 2))
    total = values[0] + values[2]
    np.testing.assert_allclose(gradient(values), 2 * tf.stack([total, values[1], total]))


def text(optimizer, wrap, **compiled):
    """A classifier of words, trained on few of those that it knows."""
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(40, 4),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ]
    )
    model = wrap(net)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer(), loss, **compiled)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 20, (24, 6)), rng.integers(0, 3, 24)
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return net


OPTIMIZERS = {
    "Adam": lambda: keras.optimizers.Adam(0.01),
    "AdamW, clipped": lambda: keras.optimizers.AdamW(0.01, global_clipnorm=0.1),
    "Adagrad": lambda: keras.optimizers.Adagrad(0.01),
    "RMSprop, averaged": lambda: keras.optimizers.RMSprop(0.01, use_ema=True),
    "SGD, two steps added up": lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"steps_per_execution": 3},
        {"jit_compile": True},
        {"jit_compile": True, "steps_per_execution": 3},
    ],
)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_a_penalty_tables_are_trained_as_keras_trains_them(name, options):
    """Keras' optimizers square the gradients of a row that occurs twice one by one."""
    plain = text(OPTIMIZERS[name], lambda net: net, **options)
    ours = text(OPTIMIZERS[name], lambda net: MGSModel(net, TracePenalty(0.0, every=2)), **options)
    same_weights(ours, plain)


def test_the_penalty_of_a_table_is_that_of_a_product_with_one_hot_rows():
    """Which has dense gradients: tr K and its derivative."""
    keras.utils.set_random_seed(0)
    hot = [layers.CategoryEncoding(40, "one_hot"), layers.Dense(4, use_bias=False)]
    heads = [[layers.Embedding(40, 4)], hot]
    nets = [
        keras.Sequential(
            [keras.Input((6,), dtype="int32"), *head, layers.GlobalAveragePooling1D(),
             layers.Dense(5, "tanh"), layers.Dense(3)]
        )
        for head in heads
    ]  # fmt: skip
    nets[1].set_weights(nets[0].get_weights())
    x = tf.constant(np.random.default_rng(1).integers(0, 9, (8, 6)), "int32")
    found = []
    for net in nets:
        with tf.GradientTape() as tape:
            _, value = TracePenalty(0.1, samples=None, every=1)(net, x, 0)
        gradients = tape.gradient(value, [w.value for w in net.trainable_weights[:-1]])
        found.append([value, *map(tf.convert_to_tensor, gradients)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_a_large_table_is_not_written_out_in_a_step():
    """All that a compiled step computes of the table has as many rows as the batch has words."""
    rows = 20_000
    net = keras.Sequential(
        [keras.Input((6,), dtype="int32"), layers.Embedding(rows, 4), layers.Flatten(),
         layers.Dense(3)]
    )  # fmt: skip
    mgs = MGSModel(net, TracePenalty(every=1))
    mgs.compile(keras.optimizers.SGD(0.1), "mse")
    x, y = tf.zeros((8, 6), "int32"), tf.zeros((8, 3), "float64")
    graph = tf.function(lambda: mgs.train_step((x, y)), autograph=False).get_concrete_function()
    made = [
        op.type
        for function in [graph.graph, *graph.graph._functions.values()]
        for op in getattr(function, "graph", function).get_operations()
        for output in op.outputs
        if output.shape.rank and output.shape[0] == rows and op.type != "ReadVariableOp"
    ]
    assert not made
