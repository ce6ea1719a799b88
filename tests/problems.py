"""The one table of small models that the tests share: name -> how to build it and its data.

There is a group for each family of rules, which explain all of its weights, and FALLBACK for what
they do not explain. TRAINING is apart: models whose pass in training is not that of inference.
Every model's output is already the raw output f; the models that end in a softmax or a sigmoid are
in `test_outputs.py`. `make` gives the model with random weights and a batch for it.
"""

import inspect
import warnings
from collections.abc import Callable
from functools import partial
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
    problem, rng = {**PROBLEMS, **TRAINING}[name], np.random.default_rng(seed)
    model = problem.build()
    randomise(model, rng)
    return model, batch(problem, n, rng)


def randomise(model, rng):
    for w in model.trainable_weights:
        w.assign(rng.normal(scale=0.6, size=w.shape))
    for w in model.non_trainable_weights:
        if "float" in w.dtype:
            w.assign(rng.uniform(0.5, 1.5, size=w.shape))


def announced(call):
    """What the exact fallback says of itself while `call` runs, once for each layer."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in caught if "no fast rule" in str(w.message)]


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


class TwoLayers(keras.Model):
    """A subclassed model for subclasses of its own; `call` knows no `training`."""

    def __init__(self):
        super().__init__()
        self.hidden, self.head = layers.Dense(4, "tanh"), layers.Dense(2)

    def build(self, shape):
        self.hidden.build(shape)
        self.head.build((None, 4))
        self.built = True

    def call(self, x):
        return self.head(self.hidden(x))


def built(kind):
    """A model of a kind of `TwoLayers`."""
    model = kind()
    model.build((None, 3))
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


def already_traced(forward, wrap=tf.function, **parts):
    """A builder: the functions in `forward` have been traced before, at all sizes."""

    def build():
        made = {name: make_layer() for name, make_layer in parts.items()}
        # A function that builds layers as it is traced has no gradient in that trace.
        model = subclassed((3,), lambda p, x: p["head"](p["step"](x)), **made)
        model.forward = wrap(forward)
        for size in (1, 3, 4, 5, 6, 10):
            model(np.zeros((size, 3), keras.config.floatx()))
        return model

    return build


def branching(p, x):
    if tf.reduce_sum(x) < 1e9:  # AutoGraph's to translate
        x = p["step"](x)
    return p["head"](x)


def open_and_in_a_function(p, x):
    if not hasattr(p["step"], "inside"):
        p["step"].inside = tf.function(lambda h: p["step"](h), jit_compile=True)
    return p["head"](p["step"].inside(p["step"](x)))


def in_a_signed_function(p, x):
    if not hasattr(p["step"], "inside"):
        spec = tf.TensorSpec((None, 3), keras.config.floatx())
        p["step"].inside = tf.function(lambda h: p["step"](h), input_signature=[spec])
    return p["head"](p["step"].inside(x))


def in_a_concrete_function(p, x):
    """Which nobody can look into."""
    if not hasattr(p["step"], "inside"):
        spec = tf.TensorSpec((None, 3), keras.config.floatx())
        with tf.init_scope():
            p["step"].inside = tf.function(lambda h: p["step"](h)).get_concrete_function(spec)
    return p["head"](p["step"].inside(x) * p["step"](x))


def by_the_variable_behind(p, x):
    """Reads a kernel past Keras."""
    h = p["step"](x)
    return p["head"](tf.matmul(h, p["step"]._kernel._value))


def steps(units, forward, shape=(3,)):
    return lambda: subclassed(shape, forward, step=Dense(units, "tanh"), head=Dense(2))


conv1d, conv2d, conv3d = layers.Conv1D, layers.Conv2D, layers.Conv3D


def of(shape, forward, units=2, dtype=None):
    """A builder: `forward` of the input, or of the list of inputs, and a Dense head."""

    def build():
        several = isinstance(shape, list)
        x = [Input(s) for s in shape] if several else Input(shape, dtype=dtype)
        return keras.Model(x, Dense(units)(layers.Flatten()(forward(x))))

    return build


def convolved(shape, *stack):
    return lambda: sequential(shape, *(make_layer() for make_layer in stack), layers.Flatten())


def headed(shape, make_layer, units=2, dtype=None):
    return lambda: sequential(shape, make_layer(), layers.Flatten(), Dense(units), dtype=dtype)


def stacked(shape, *makers, dtype=None):
    """A builder: layers of several options one after the other, with a tanh between them."""

    def build():
        between = [(make_layer(), layers.Activation("tanh")) for make_layer in makers]
        stack = [layer for pair in between for layer in pair]
        return sequential(shape, *stack, layers.Flatten(), Dense(1), dtype=dtype)

    return build


def lookup_and_reversed(**options):
    """Token indices to logits by one table, used forwards twice and backwards once."""

    def forward(x):
        table = layers.ReversibleEmbedding(4, 2, **options)
        hidden = Dense(2, "tanh")(table(x) * table(x[:, ::-1]))
        return table(hidden, reverse=True)

    return of((2,), forward, dtype="int32")


def attended(**options):
    """Cross-attention: query, value and key are three different tensors."""
    shape = [(2, 3), (3, 2), (3, 2)]
    return of(shape, lambda x: layers.MultiHeadAttention(**options)(x[0], x[1], key=x[2]))


def recurrent(*makers, shape=(3, 2)):
    """A builder: recurrent layers that return sequences, one after the other."""

    def forward(x):
        for make_layer in makers:
            x = make_layer()(x)
        return x

    return of(shape, forward, 1)


def masked_recurrent():
    x = Input((3,), dtype="int32")
    embedded = layers.Embedding(4, 2, mask_zero=True)(x)
    return keras.Model(x, Dense(2)(layers.LSTM(2)(embedded)))


def masked_both_ways():
    x = Input((3,), dtype="int32")
    embedded = layers.Embedding(4, 2, mask_zero=True)(x)
    steps = layers.Bidirectional(layers.SimpleRNN(2, return_sequences=True))(embedded)
    return keras.Model(x, Dense(1)(layers.Reshape((12,))(steps)))


def masked_statistics():
    x = Input((3,), dtype="int32")
    embedded = layers.Embedding(4, 2, mask_zero=True)(x)
    hidden = Dense(2)(layers.BatchNormalization()(embedded))
    return keras.Model(x, layers.Flatten()(layers.Activation("tanh")(hidden)))


def normalised_twice():
    x = Input((3,))
    norm = layers.BatchNormalization()
    return keras.Model(x, Dense(2)(norm(layers.Activation("tanh")(norm(x)))))


def training_and_not(p, x):
    """The second call sees the statistics that the first one moved."""
    return p["norm"](x) * p["norm"](ops.tanh(x), training=False)


def initial_state(x):
    state = Dense(2, "tanh")(x[:, 0])
    return layers.GRU(2)(x, initial_state=state)


def with_lora(layer, shape, dtype=None):
    """A builder: a layer with LoRA, its two factors in the model's precision."""

    def build():
        made = layer()
        model = sequential(shape, made, layers.Flatten(), Dense(1), dtype=dtype)
        # Keras makes them float32, too coarse for an exact comparison.
        add = made.add_weight
        made.add_weight = lambda **options: add(**{**options, "dtype": keras.config.floatx()})
        made.enable_lora(2)
        del made.add_weight
        if hasattr(made, "lora_alpha"):  # since Keras 3.9
            made.lora_alpha = 3
        return model

    return build


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
TRANSPOSED = {
    "conv1d transpose": Problem(
        stacked(
            (2, 2),
            partial(layers.Conv1DTranspose, 2, 3, 2, "valid", output_padding=1),
            partial(layers.Conv1DTranspose, 2, 2, 3, "same", use_bias=False),
        ),
        (2, 2),
    ),
    "conv2d transpose valid": Problem(
        headed((2, 3, 2), partial(layers.Conv2DTranspose, 3, (3, 2), 2, activation="tanh")),
        (2, 3, 2),
    ),
    "conv2d transpose same": Problem(
        stacked(
            (2, 2, 2),
            partial(layers.Conv2DTranspose, 2, 3, (2, 3), "same", output_padding=1),
            partial(layers.Conv2DTranspose, 1, 2, 1, "same"),
        ),
        (2, 2, 2),
    ),
    "conv3d transpose": Problem(
        headed((2, 1, 2, 2), partial(layers.Conv3DTranspose, 2, 2, (2, 1, 2), "same")),
        (2, 1, 2, 2),
    ),
}
DEPTHWISE = {
    "depthwise conv1d": Problem(
        stacked(
            (6, 2),
            partial(layers.DepthwiseConv1D, 3, 2, "same", depth_multiplier=2),
            partial(layers.DepthwiseConv1D, 2, dilation_rate=2, use_bias=False),
        ),
        (6, 2),
    ),
    "depthwise conv2d": Problem(
        stacked(
            (5, 4, 2),
            partial(layers.DepthwiseConv2D, (3, 2), 2, "same", depth_multiplier=2),
            partial(layers.DepthwiseConv2D, 2, dilation_rate=(2, 1), activation="sigmoid"),
        ),
        (5, 4, 2),
    ),
    "separable conv1d": Problem(
        stacked(
            (6, 2),
            partial(layers.SeparableConv1D, 2, 3, 2, "same", depth_multiplier=2),
            partial(layers.SeparableConv1D, 3, 2, dilation_rate=2, use_bias=False),
        ),
        (6, 2),
    ),
    "separable conv2d": Problem(
        stacked(
            (5, 4, 2),
            partial(layers.SeparableConv2D, 3, (3, 2), 2, "same", depth_multiplier=2),
            partial(layers.SeparableConv2D, 1, 2, activation="sigmoid", use_bias=False),
        ),
        (5, 4, 2),
    ),
}
EINSUM = {
    "einsum dense": Problem(
        headed((2, 3), partial(layers.EinsumDense, "abc,cd->abd", (2, 2), bias_axes="d")), (2, 3)
    ),
    "einsum dense, ellipsis": Problem(
        headed((2, 3), partial(layers.EinsumDense, "...x,xy->...y", 2, "tanh", "y")), (2, 3)
    ),
    "einsum dense, split and joined heads": Problem(
        stacked(
            (2, 3),
            partial(layers.EinsumDense, "abc,cde->abde", (2, 2, 3), bias_axes="de"),
            partial(layers.EinsumDense, "abcd,cde->abe", (2, 2), bias_axes="be"),
            partial(layers.EinsumDense, "abc,ced->abde", (2, 2, 2), bias_axes="e"),
        ),
        (2, 3),
    ),
    "einsum dense, groups": Problem(
        stacked(
            (2, 3),
            partial(layers.EinsumDense, "abc,bcd->abd", (2, 2), bias_axes="bd"),
            partial(layers.EinsumDense, "abc,dcb->adb", (3, 2), bias_axes="d"),
            partial(layers.EinsumDense, "abc,dbec->acde", (2, 2, 2)),
        ),
        (2, 3),
    ),
    "einsum dense, element by element": Problem(
        headed((2, 3), partial(layers.EinsumDense, "abc,cb->abc", (2, 3), bias_axes="b")), (2, 3)
    ),
}
EMBEDDING = {
    "embedding": Problem(headed((3,), lambda: layers.Embedding(4, 2), dtype="int32"), (3,), 4),
    "embedding of one index": Problem(
        of((), lambda x: layers.Embedding(4, 2)(x), dtype="int32"), (), 4
    ),
    "embedding of a grid": Problem(
        headed((2, 2), lambda: layers.Embedding(3, 2), dtype="int32"), (2, 2), 3
    ),
    "embedding and its sum": Problem(
        of((3,), lambda x: ops.tanh(ops.sum(layers.Embedding(2, 2)(x), 1)), dtype="int32"), (3,), 2
    ),
    "embedding, negative indices": Problem(
        of((3,), lambda x: layers.Embedding(4, 2)(x - 4), dtype="int32"), (3,), 4
    ),
    "embedding with a mask": Problem(masked_recurrent, (3,), 2),
}
if hasattr(layers, "ReversibleEmbedding"):
    EMBEDDING["reversible embedding"] = Problem(lookup_and_reversed(), (2,), 4)
NORMALIZATION = {
    "batch normalization": Problem(headed((4,), layers.BatchNormalization), (4,)),
    "batch normalization, options": Problem(
        stacked(
            (2, 3),
            layers.BatchNormalization,
            partial(layers.BatchNormalization, axis=1),
            partial(layers.BatchNormalization, scale=False),
            partial(layers.BatchNormalization, center=False),
        ),
        (2, 3),
    ),
    "batch normalization with a mask": Problem(masked_statistics, (3,), 2),
    "layer normalization": Problem(
        stacked(
            (4,), layers.LayerNormalization, partial(layers.LayerNormalization, rms_scaling=True)
        ),
        (4,),
    ),
    "layer normalization, options": Problem(
        stacked(
            (2, 3, 2),
            partial(layers.LayerNormalization, axis=[1, 2]),
            partial(layers.LayerNormalization, axis=[1, -1]),
            partial(layers.LayerNormalization, scale=False),
            partial(layers.LayerNormalization, axis=2, center=False),
        ),
        (2, 3, 2),
    ),
    "group normalization": Problem(
        stacked(
            (2, 4),
            partial(layers.GroupNormalization, 2),
            partial(layers.GroupNormalization, -1, scale=False),
            partial(layers.GroupNormalization, 1, axis=1, center=False),
            partial(layers.GroupNormalization, 2, axis=1),
        ),
        (2, 4),
    ),
    "unit and spectral normalization": Problem(
        of((3,), lambda x: layers.UnitNormalization()(layers.SpectralNormalization(Dense(3))(x))),
        (3,),
    ),
    "prelu": Problem(
        stacked((2, 3, 2), layers.PReLU, partial(layers.PReLU, shared_axes=[1, 2])), (2, 3, 2)
    ),
}
if hasattr(layers, "RMSNormalization"):
    NORMALIZATION["rms normalization"] = Problem(
        stacked((2, 3), layers.RMSNormalization, partial(layers.RMSNormalization, axis=[1, 2])),
        (2, 3),
    )
sequences = {"return_sequences": True}
RECURRENT = {
    "simple rnn": Problem(
        recurrent(
            partial(layers.SimpleRNN, 2, **sequences),
            partial(layers.SimpleRNN, 3, use_bias=False, go_backwards=True, **sequences),
            partial(layers.SimpleRNN, 2, unroll=True),
        ),
        (3, 2),
    ),
    "LSTM": Problem(headed((3, 2), lambda: layers.LSTM(2)), (3, 2)),
    "unrolled LSTM": Problem(headed((3, 2), lambda: layers.LSTM(2, unroll=True)), (3, 2)),
    "LSTM, options": Problem(
        recurrent(
            partial(layers.LSTM, 2, implementation=1, use_bias=False, **sequences),
            partial(layers.LSTM, 2, go_backwards=True, activation="softplus"),
        ),
        (3, 2),
    ),
    "GRU": Problem(
        recurrent(
            partial(layers.GRU, 2, implementation=1, **sequences),
            partial(layers.GRU, 2, use_bias=False, go_backwards=True),
        ),
        (3, 2),
    ),
    "GRU, reset before": Problem(
        recurrent(
            partial(layers.GRU, 2, reset_after=False, **sequences),
            partial(layers.GRU, 3, reset_after=False, implementation=1, use_bias=False),
        ),
        (3, 2),
    ),
    "cells one above the other": Problem(
        recurrent(lambda: layers.RNN([layers.LSTMCell(2), layers.GRUCell(3)])), (3, 2)
    ),
    "initial state": Problem(of((3, 2), initial_state), (3, 2)),
    "bidirectional": Problem(
        recurrent(
            lambda: layers.Bidirectional(layers.GRU(2, **sequences)),
            lambda: layers.Bidirectional(layers.SimpleRNN(2), merge_mode="sum"),
        ),
        (3, 2),
    ),
    # Keras 3.15, unrolled, zeroes the backward outputs by a mask that it did not reverse.
    "bidirectional with a mask": Problem(masked_both_ways, (3,), 2),
    "time distributed": Problem(
        of(
            (2, 3, 2),
            lambda x: layers.TimeDistributed(Dense(2, "tanh"))(
                layers.TimeDistributed(conv1d(2, 2, activation="tanh"))(x)
            ),
        ),
        (2, 3, 2),
    ),
    "convolutional LSTM, 1D": Problem(
        recurrent(
            lambda: layers.ConvLSTM1D(2, 2, padding="same", use_bias=False, **sequences),
            lambda: layers.ConvLSTM1D(1, 2, dilation_rate=2),
            shape=(2, 4, 1),
        ),
        (2, 4, 1),
    ),
    "convolutional LSTM, 2D": Problem(
        recurrent(lambda: layers.ConvLSTM2D(2, (2, 3), 2, "same"), shape=(2, 3, 3, 2)),
        (2, 3, 3, 2),
    ),
}
ATTENTION = {
    "attention": Problem(of((3, 2), lambda x: layers.MultiHeadAttention(1, 2)(x, x)), (3, 2)),
    "attention, two heads": Problem(
        attended(num_heads=2, key_dim=3, value_dim=2, output_shape=3), [(2, 3), (3, 2), (3, 2)]
    ),
    "attention without bias, causal": Problem(
        of(
            (3, 2),
            lambda x: layers.MultiHeadAttention(2, 2, use_bias=False)(x, x, use_causal_mask=True),
        ),
        (3, 2),
    ),
    "attention over two axes": Problem(
        of((2, 2, 2), lambda x: layers.MultiHeadAttention(2, 2, attention_axes=(1, 2))(x, x)),
        (2, 2, 2),
    ),
    "grouped query attention": Problem(
        of((2, 3), lambda x: layers.GroupQueryAttention(2, 4, 2)(x, x)), (2, 3)
    ),
}
LORA = {
    "LoRA, dense": Problem(with_lora(lambda: Dense(3, "tanh"), (2, 3)), (2, 3)),
    "LoRA, einsum dense": Problem(
        with_lora(lambda: layers.EinsumDense("abc,cde->abde", (2, 2, 3), bias_axes="e"), (2, 3)),
        (2, 3),
    ),
    "LoRA, convolution": Problem(with_lora(lambda: conv2d(3, 2), (3, 3, 2)), (3, 3, 2)),
    "LoRA, embedding": Problem(
        with_lora(lambda: layers.Embedding(4, 3), (2,), dtype="int32"), (2,), 4
    ),
}
FALLBACK = {
    "own layer": Problem(headed((3,), Scale), (3,)),
    "own layer on top": Problem(lambda: sequential((3,), Dense(3, "tanh"), Scale()), (3,)),
    "dense subclass": Problem(headed((3,), lambda: SquaredDense(2, "tanh")), (3,)),
    "einsum dense without samples in z": Problem(
        of((2, 3), lambda x: layers.EinsumDense("abc,cd->bad", (None, 2))(x)[0]), (2, 3)
    ),
    "scaled and additive attention": Problem(
        of(
            (2, 2),
            lambda x: layers.Attention(use_scale=True)([x, x]) + layers.AdditiveAttention()([x, x]),
        ),
        (2, 2),
    ),
}
if hasattr(layers, "ReversibleEmbedding"):
    FALLBACK["reversible embedding, capped"] = Problem(
        lookup_and_reversed(logit_soft_cap=2.0), (2,), 4
    )
    FALLBACK["reversible embedding, untied"] = Problem(
        lookup_and_reversed(tie_weights=False), (2,), 4
    )

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
plain_steps = {"step": partial(Dense, 3, "tanh"), "head": partial(Dense, 2)}
FUNCTION = {
    "function": Problem(already_traced(lambda p, x: p["head"](p["step"](x)), **plain_steps), (3,)),
    "function with a branch": Problem(already_traced(branching, **plain_steps), (3,)),
    "functions in functions, compiled": Problem(
        already_traced(
            lambda p, x: p["head"](tf.function(p["step"], jit_compile=True)(x)), **plain_steps
        ),
        (3,),
    ),
    "in the open and in a function": Problem(
        already_traced(open_and_in_a_function, lambda f: f, **plain_steps), (3,)
    ),
    "function with a signature": Problem(
        already_traced(in_a_signed_function, lambda f: f, **plain_steps), (3,)
    ),
    "concrete function": Problem(
        already_traced(in_a_concrete_function, lambda f: f, **plain_steps),
        (3,),
    ),
    "kernel read past Keras": Problem(steps(3, by_the_variable_behind), (3,)),
}
TRAINING = {
    "normalised convolutions": Problem(
        stacked(
            (4, 4, 2),
            partial(conv2d, 2, 2),
            layers.BatchNormalization,
            partial(layers.Conv2DTranspose, 2, 2, use_bias=False),
            partial(layers.BatchNormalization, axis=1, center=False),
            partial(layers.SeparableConv2D, 2, 3),
        ),
        (4, 4, 2),
    ),
    "normalised embedding and steps": Problem(
        stacked(
            (3,),
            partial(layers.Embedding, 4, 2),
            layers.BatchNormalization,
            partial(layers.GRU, 2, reset_after=False, return_sequences=True),
            layers.BatchNormalization,
            dtype="int32",
        ),
        (3,),
        4,
    ),
    "normalised groups": Problem(
        stacked(
            (2, 3),
            partial(layers.EinsumDense, "abc,bcd->abd", (2, 3), bias_axes="bd"),
            layers.BatchNormalization,
            layers.PReLU,
            partial(layers.GroupNormalization, 3),
        ),
        (2, 3),
    ),
    "one normalization, called twice": Problem(normalised_twice, (3,)),
    "one normalization, in training and not": Problem(
        lambda: subclassed((3,), training_and_not, norm=layers.BatchNormalization(momentum=0.5)),
        (3,),
    ),
    "dropout": Problem(
        stacked((3,), partial(Dense, 4), partial(layers.Dropout, 0.5, seed=3), partial(Dense, 2)),
        (3,),
    ),
    "SimpleRNN and LSTM with dropout": Problem(
        recurrent(
            partial(layers.SimpleRNN, 2, dropout=0.4, recurrent_dropout=0.3, seed=1, **sequences),
            partial(layers.LSTM, 2, dropout=0.4, seed=2),
        ),
        (3, 2),
    ),
    "LSTM with recurrent dropout": Problem(
        recurrent(partial(layers.LSTM, 2, dropout=0.4, recurrent_dropout=0.3, seed=1)), (3, 2)
    ),
    "GRU with dropout": Problem(recurrent(partial(layers.GRU, 2, dropout=0.4, seed=1)), (3, 2)),
    "GRU with recurrent dropout": Problem(
        recurrent(partial(layers.GRU, 2, dropout=0.4, recurrent_dropout=0.3, seed=1)), (3, 2)
    ),
    "GRU with recurrent dropout, reset before": Problem(
        recurrent(partial(layers.GRU, 2, recurrent_dropout=0.3, reset_after=False, seed=1)), (3, 2)
    ),
    "convolutional LSTM with dropout": Problem(
        recurrent(
            partial(layers.ConvLSTM1D, 1, 2, dropout=0.4, recurrent_dropout=0.3, seed=1),
            shape=(2, 3, 1),
        ),
        (2, 3, 1),
    ),
    "spectral normalization": Problem(
        of((3,), lambda x: layers.SpectralNormalization(Dense(3, "tanh"))(x)), (3,)
    ),
}
if "renorm" in inspect.signature(layers.BatchNormalization).parameters:  # since Keras 3.13
    TRAINING["batch renormalization"] = Problem(
        headed((3,), partial(layers.BatchNormalization, renorm=True)), (3,)
    )
PROBLEMS = {
    **DENSE,
    **EINSUM,
    **CONVOLUTION,
    **TRANSPOSED,
    **DEPTHWISE,
    **EMBEDDING,
    **NORMALIZATION,
    **RECURRENT,
    **ATTENTION,
    **LORA,
    **FALLBACK,
    **SHARING,
    **STRUCTURE,
    **FIRST_AXIS,
    **FUNCTION,
}
