"""The one table of small models that the tests share: name -> how to build it and its data.

Every model's output is already the raw output f; the models that end in a softmax or a sigmoid are
in `test_outputs.py`. `make` gives the model with random weights and a batch for it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

Dense, Input = layers.Dense, keras.Input


class Problem(NamedTuple):
    """A model's builder and, for its inputs, one shape per sample (or a structure of shapes)."""

    build: Callable[[], keras.Model]
    shape: Any
    vocabulary: int = 0  # above 0: the inputs are integers below it


def make(name, n=3, seed=0):
    """(model, x): every weight, moving statistics included, away from its initial value."""
    problem, rng = PROBLEMS[name], np.random.default_rng(seed)
    model = problem.build()
    randomise(model, rng)
    return model, batch(problem, n, rng)


def randomise(model, rng):
    for w in model.trainable_weights:
        w.assign(rng.normal(scale=0.6, size=w.shape))
    for w in model.non_trainable_weights:
        if "float" in w.dtype:
            w.assign(rng.uniform(0.5, 1.5, size=w.shape))


def batch(problem, n, rng):
    def leaf(shape):
        size = (n, *shape)
        if problem.vocabulary:
            return rng.integers(problem.vocabulary, size=size)
        return rng.normal(size=size).astype(keras.config.floatx())

    if isinstance(problem.shape, dict):
        return {key: leaf(shape) for key, shape in problem.shape.items()}
    if isinstance(problem.shape, list):
        return [leaf(shape) for shape in problem.shape]
    return leaf(problem.shape)


def sequential(shape, *stack, dtype=None):
    return keras.Sequential([Input(shape, dtype=dtype), *stack])


# Layers of a user's own


class Scale(layers.Layer):
    """A weight per feature, and no rule for it."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return x * self.scale


class SquaredDense(layers.Dense):
    """A Dense by class, but not by what it computes."""

    def call(self, x):
        return super().call(ops.square(x)) + ops.mean(self.kernel)


class TransposedDense(layers.Layer):
    """Reads another layer's kernel, transposed."""

    def __init__(self, other, **kwargs):
        super().__init__(**kwargs)
        self.other = other

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.other.kernel))


class EmbeddingReader(layers.Layer):
    """Reads an embedding as the matrix of an output layer."""

    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.embedding.embeddings))


class Subclassed(keras.Model):
    """A subclassed model: `layers` is a dict of them, `forward` what `call` does."""

    def __init__(self, parts, forward):
        super().__init__()
        self.parts = list(parts.values())
        self.by_name = dict(parts)
        self.forward = forward

    def call(self, x, training=None):
        return self.forward(self.by_name, x)


def subclassed(shape, forward, dtype=None, **parts):
    model = Subclassed(parts, forward)
    sample = np.zeros((2, *shape), dtype or keras.config.floatx())
    model(sample)
    return model


# Builders that need more than one line


def activation_with_weights():
    activation = layers.PReLU()
    activation.build((None, 3))
    return sequential((3,), Dense(3, activation=activation), Dense(2))


def frozen():
    model = sequential((3,), Dense(3, "tanh"), Dense(2))
    model.layers[0].trainable = False
    return model


def frozen_bias():
    model = sequential((3,), Dense(3, "tanh"), Dense(2))
    model.layers[0].bias.trainable = False
    return model


def called_twice():
    x = Input((3,))
    shared = Dense(3, "tanh")
    return keras.Model(x, Dense(2)(shared(shared(x))))


def called_twice_at_other_positions():
    x = Input((4, 3))
    shared = Dense(3, "tanh")
    once, again = shared(x), shared(layers.GlobalAveragePooling1D()(x))
    return keras.Model(x, Dense(2)(layers.Flatten()(once)) + again[:, :2])


def convolution_called_twice():
    x = Input((5, 5, 2))
    shared = layers.Conv2D(2, 3, padding="same", activation="tanh")
    return keras.Model(x, Dense(2)(layers.Flatten()(shared(shared(x)[:, ::2, ::2]))))


def tied():
    x = Input((3,))
    encoder = Dense(2, "tanh")
    code = encoder(x)
    return keras.Model(x, TransposedDense(encoder)(code))


def tied_embedding():
    x = Input((2,), dtype="int32")
    embedding = layers.Embedding(4, 2)
    code = layers.Flatten()(embedding(x))
    return keras.Model(x, EmbeddingReader(embedding)(Dense(2, "tanh")(code)))


def one_variable_in_two_layers():
    x = Input((3,))
    a, b = Dense(3, "tanh"), Dense(3, "softplus")
    model = keras.Model(x, Dense(1)(b(a(x))))
    b._tracker.unlock()
    b._untrack_variable(b._kernel)
    b._kernel = a._kernel
    b._tracker.lock()
    return model


def submodel_twice():
    part = sequential((3,), Dense(3, "tanh"), Dense(3, "softplus"))
    x = Input((3,))
    return keras.Model(x, Dense(2)(part(part(x))))


def nested():
    inner = sequential((3,), Dense(2, "tanh"), Scale())
    middle = keras.Sequential([Input((3,)), inner, Dense(3, "tanh")])
    return sequential((3,), middle, Dense(2))


def list_inputs():
    a, b = Input((3,), name="zeta"), Input((2,), name="alpha")
    return keras.Model([a, b], Dense(2)(Dense(3, "tanh")(a) * Dense(3)(b)))


def dict_inputs():
    inputs = {"zeta": Input((3,), name="zeta"), "alpha": Input((2,), name="alpha")}
    return keras.Model(
        inputs, Dense(2)(Dense(3, "tanh")(inputs["zeta"]) * Dense(3)(inputs["alpha"]))
    )


def list_outputs():
    x = Input((3,))
    hidden = Dense(3, "tanh")(x)
    return keras.Model(x, [Dense(2)(hidden), layers.Reshape((1, 1))(Dense(1)(hidden))])


def dict_outputs():
    x = Input((3,))
    hidden = Dense(3, "tanh")(x)
    return keras.Model(x, {"zeta": Dense(2)(hidden), "alpha": Dense(1)(hidden)})


def residual():
    x = Input((3,))
    hidden = Dense(3, "tanh")(x)
    hidden = layers.Add()([hidden, Dense(3, "tanh")(hidden)])
    return keras.Model(x, Dense(2)(layers.Concatenate()([hidden, x])))


def attention():
    x = Input((3, 2))
    return keras.Model(x, Dense(1)(layers.Flatten()(layers.MultiHeadAttention(1, 2)(x, x))))


def unused():
    return subclassed(
        (3,),
        lambda p, x: (p["unused"](x), p["used"](x))[1],
        used=Dense(2),
        unused=Dense(2),
    )


def not_called():
    model = subclassed((3,), lambda p, x: p["b"](p["a"](x)), a=Dense(3, "tanh"), b=Dense(2))
    model.forward = lambda p, x: p["b"](x)
    return model


def stopped():
    return subclassed(
        (3,),
        lambda p, x: p["b"](ops.stop_gradient(p["a"](x)) + x),
        a=Dense(3, "tanh"),
        b=Dense(2),
    )


def folded_time(p, x):
    _, t, d = ops.shape(x)
    h = ops.reshape(p["step"](ops.reshape(x, (-1, d))), (-1, t * 2))
    return p["head"](h)


def time_first(p, x):
    h = p["step"](ops.swapaxes(x, 0, 1))
    return p["head"](ops.mean(h, axis=0))


def constant_query(p, x):
    query = p["query"](ops.ones((1, 3), x.dtype))  # the same for every sample
    return p["head"](x * query)


def both_halves(p, x):
    rows = p["step"](ops.concatenate([x, -x], axis=0))
    a, b = ops.split(rows, 2, axis=0)
    return p["head"](a * b)


def in_a_branch(p, x):
    h = tf.cond(tf.reduce_sum(x) < 1e9, lambda: p["step"](x), lambda: x)
    return p["head"](h)


def in_a_loop(p, x):
    h = tf.map_fn(lambda row: p["step"](row[None])[0], x)
    return p["head"](h)


def in_a_while_loop(p, x):
    _, h = tf.while_loop(
        lambda i, h: i < 2, lambda i, h: (i + 1, p["step"](h)), (0, x), maximum_iterations=2
    )
    return p["head"](h)


def in_recomputed(p, x):
    return p["head"](tf.recompute_grad(lambda h: p["step"](h))(x))


def steps(units, forward, shape=(3,)):
    return lambda: subclassed(shape, forward, step=Dense(units, "tanh"), head=Dense(2))


conv1d, conv2d, conv3d = layers.Conv1D, layers.Conv2D, layers.Conv3D


def convolved(shape, *stack):
    return lambda: sequential(shape, *(make_layer() for make_layer in stack), layers.Flatten())


def headed(shape, make_layer, units=2, dtype=None):
    return lambda: sequential(shape, make_layer(), layers.Flatten(), Dense(units), dtype=dtype)


DENSE = {
    "dense": Problem(lambda: sequential((3,), Dense(2)), (3,)),
    "dense without bias": Problem(lambda: sequential((3,), Dense(2, use_bias=False)), (3,)),
    "dense, activations": Problem(
        lambda: sequential(
            (3,), Dense(3, "relu"), Dense(3, "tanh"), Dense(2, "sigmoid"), Dense(2, "gelu")
        ),
        (3,),
    ),
    "dense, activation layer": Problem(
        lambda: sequential((3,), Dense(3), layers.LeakyReLU(), Dense(2)), (3,)
    ),
    "dense, activation with weights": Problem(activation_with_weights, (3,)),
    "dense on 3D, many positions": Problem(headed((4, 2), lambda: Dense(2, "tanh")), (4, 2)),
    "dense on 3D, few positions": Problem(headed((2, 7), lambda: Dense(6, "tanh"), 1), (2, 7)),
    "dense with a 4D output": Problem(lambda: sequential((1, 2, 3), Dense(2)), (1, 2, 3)),
}
CONVOLUTION = {
    "conv1d valid": Problem(headed((6, 2), lambda: conv1d(2, 3, activation="tanh")), (6, 2)),
    "conv1d same, strided": Problem(
        convolved((6, 2), lambda: conv1d(2, 4, 2, "same", activation="tanh")), (6, 2)
    ),
    "conv1d causal, dilated": Problem(
        headed((5, 2), lambda: conv1d(2, 2, padding="causal", dilation_rate=2), 1), (5, 2)
    ),
    "conv2d valid": Problem(
        headed((4, 4, 2), lambda: conv2d(2, (2, 3), use_bias=False)), (4, 4, 2)
    ),
    "conv2d same, strided": Problem(
        convolved((5, 6, 2), lambda: conv2d(2, 3, (2, 3), "same", activation="tanh")), (5, 6, 2)
    ),
    "conv2d dilated": Problem(
        convolved((6, 5, 2), lambda: conv2d(1, 2, dilation_rate=(3, 2))), (6, 5, 2)
    ),
    "conv2d dilated, same": Problem(
        convolved((3, 3, 1), lambda: conv2d(1, 3, dilation_rate=2, padding="same")), (3, 3, 1)
    ),
    "conv2d stride beyond kernel": Problem(
        convolved((6, 6, 1), lambda: conv2d(2, 2, 3, "same")), (6, 6, 1)
    ),
    "conv2d few positions": Problem(
        convolved((3, 2, 3), lambda: conv2d(6, (2, 2)), lambda: Scale()), (3, 2, 3)
    ),
    "conv2d one position": Problem(convolved((2, 2, 2), lambda: conv2d(3, 2)), (2, 2, 2)),
    "conv2d stacked": Problem(
        lambda: sequential(
            (6, 6, 2),
            conv2d(2, 3, activation="relu", padding="same"),
            layers.MaxPooling2D(),
            conv2d(2, 2, activation="tanh"),
            layers.Flatten(),
            Dense(2),
        ),
        (6, 6, 2),
    ),
    "conv3d same, strided": Problem(
        convolved((3, 2, 3, 1), lambda: conv3d(2, 2, 2, "same", activation="tanh")), (3, 2, 3, 1)
    ),
}
FALLBACK = {
    "layer normalization": Problem(headed((4,), layers.LayerNormalization), (4,)),
    "batch normalization": Problem(headed((4,), layers.BatchNormalization), (4,)),
    "embedding": Problem(headed((3,), lambda: layers.Embedding(4, 2), dtype="int32"), (3,), 4),
    "unrolled LSTM": Problem(headed((3, 2), lambda: layers.LSTM(2, unroll=True)), (3, 2)),
    "LSTM": Problem(headed((3, 2), lambda: layers.LSTM(2)), (3, 2)),
    "own layer": Problem(headed((3,), Scale), (3,)),
    "own layer on top": Problem(lambda: sequential((3,), Dense(3, "tanh"), Scale()), (3,)),
    "dense subclass": Problem(headed((3,), lambda: SquaredDense(2, "tanh")), (3,)),
    "einsum dense": Problem(
        headed((2, 3), lambda: layers.EinsumDense("abc,cd->abd", (2, 2), bias_axes="d")), (2, 3)
    ),
    "separable convolution": Problem(
        headed((3, 3, 2), lambda: layers.SeparableConv2D(2, 2)), (3, 3, 2)
    ),
    "transposed convolution": Problem(
        headed((2, 2, 1), lambda: layers.Conv2DTranspose(1, 2)), (2, 2, 1)
    ),
    "time distributed": Problem(
        headed((3, 2), lambda: layers.TimeDistributed(Dense(2, "tanh"))), (3, 2)
    ),
    "attention": Problem(attention, (3, 2)),
}
SHARING = {
    "frozen layer": Problem(frozen, (3,)),
    "frozen bias": Problem(frozen_bias, (3,)),
    "layer called twice": Problem(called_twice, (3,)),
    "layer called at other positions": Problem(called_twice_at_other_positions, (4, 3)),
    "convolution called twice": Problem(convolution_called_twice, (5, 5, 2)),
    "kernel read by another layer": Problem(tied, (3,)),
    "embedding read by another layer": Problem(tied_embedding, (2,), 4),
    "one variable in two layers": Problem(one_variable_in_two_layers, (3,)),
    "sub-model used twice": Problem(submodel_twice, (3,)),
    "weights that lead nowhere": Problem(unused, (3,)),
    "weights of a layer that is not called": Problem(not_called, (3,)),
    "stopped gradient": Problem(stopped, (3,)),
}
STRUCTURE = {
    "nested": Problem(nested, (3,)),
    "residual": Problem(residual, (3,)),
    "list of inputs": Problem(list_inputs, [(3,), (2,)]),
    "list of inputs, given as a dict": Problem(list_inputs, {"zeta": (3,), "alpha": (2,)}),
    "dict of inputs": Problem(dict_inputs, {"zeta": (3,), "alpha": (2,)}),
    "list of outputs": Problem(list_outputs, (3,)),
    "dict of outputs": Problem(dict_outputs, (3,)),
    "subclassed": Problem(steps(3, lambda p, x: p["head"](p["step"](x))), (3,)),
    "layers called by keyword": Problem(
        steps(3, lambda p, x: p["head"](inputs=p["step"](inputs=x))), (3,)
    ),
}
FIRST_AXIS = {
    "time folded into the batch": Problem(steps(2, folded_time, (4, 3)), (4, 3)),
    "time before the batch": Problem(steps(2, time_first, (4, 3)), (4, 3)),
    "a layer on a constant": Problem(
        lambda: subclassed((3,), constant_query, query=Dense(3, "tanh"), head=Dense(2)), (3,)
    ),
    "two halves of one batch": Problem(steps(3, both_halves), (3,)),
    "in a branch": Problem(steps(3, in_a_branch), (3,)),
    "in a map": Problem(steps(3, in_a_loop), (3,)),
    "in a while loop": Problem(steps(3, in_a_while_loop), (3,)),
    "recomputed": Problem(steps(3, in_recomputed), (3,)),
}
PROBLEMS = {**DENSE, **CONVOLUTION, **FALLBACK, **SHARING, **STRUCTURE, **FIRST_AXIS}
