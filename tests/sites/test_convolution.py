"""The convolutions' rules, and what only XLA can compute on a CPU: channels first, groups."""

import warnings

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from keras import layers
from problems import randomise, sequential

import keras_mgs
from keras_mgs import autodiff
from keras_mgs.rows import Rows
from keras_mgs.sites import jacobian_blocks, record

pytestmark = pytest.mark.usefixtures("float64")


def convolution(rank, kind="Conv{}D", **options):
    sizes = (2,) if "Depthwise" in kind else (4, 2)
    return getattr(layers, kind.format(rank))(*sizes, activation="tanh", **options)


def network(shape, layer):
    model = sequential(shape, layer, layers.Flatten(), layers.Dense(1))
    randomise(model, np.random.default_rng(0))
    return model


def xla(function, *args):
    return tf.function(lambda: function(*args), jit_compile=True, autograph=False)()


# Not 5 in one dimension: Keras 3.15 misplaces the bias of a channels-first Conv1D that has as many
# positions as filters.
SHAPES = {1: (6, 2), 2: (4, 3, 2), 3: (3, 2, 3, 2)}


KINDS = [
    (rank, {"kind": kind, "padding": "same", "strides": 2, **more})
    for kind, ranks, more in (
        ("Conv{}DTranspose", (1, 2), {}),  # in three dimensions it takes XLA ten seconds
        ("DepthwiseConv{}D", (1, 2), {"depth_multiplier": 2}),
        ("SeparableConv{}D", (1, 2), {"depth_multiplier": 2}),
    )
    for rank in ranks
]
PLAIN = [(rank, options) for rank in (1, 2, 3) for options in ({"padding": "same"}, {"strides": 2})]


@pytest.mark.parametrize(("rank", "options"), [*PLAIN, *KINDS], ids=str)
def test_channels_first_equals_channels_last(rank, options):
    """The same kernel on transposed data, its outputs transposed back, is the same function."""
    shape = SHAPES[rank]
    first = (shape[-1], *shape[:-1])
    last_model = sequential(shape, convolution(rank, **options), layers.Flatten())
    randomise(last_model, np.random.default_rng(0))
    first_model = sequential(
        first,
        convolution(rank, data_format="channels_first", **options),
        layers.Permute((*range(2, rank + 2), 1)),
        layers.Flatten(),
    )
    first_model.set_weights(last_model.get_weights())
    x = np.random.default_rng(1).normal(size=(3, *shape))
    j = xla(keras_mgs.jacobian, first_model, np.moveaxis(x, -1, 1))
    np.testing.assert_allclose(j, oracles.jacobian(last_model, x), rtol=1e-9, atol=1e-12)


def test_channels_first_convolutional_lstm_equals_channels_last():
    last_model = sequential((2, 3, 3, 2), layers.ConvLSTM2D(2, 2, padding="same"), layers.Flatten())
    randomise(last_model, np.random.default_rng(0))
    first_model = sequential(
        (2, 2, 3, 3),
        layers.ConvLSTM2D(2, 2, padding="same", data_format="channels_first"),
        layers.Permute((2, 3, 1)),
        layers.Flatten(),
    )
    first_model.set_weights(last_model.get_weights())
    x = np.random.default_rng(1).normal(size=(3, 2, 3, 3, 2))
    j = xla(keras_mgs.jacobian, first_model, np.moveaxis(x, -1, 2))
    np.testing.assert_allclose(j, oracles.jacobian(last_model, x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_dilated_transposed_convolution_equals_one_with_zeros_in_its_kernel(padding):
    """TensorFlow has no kernel for it on a CPU but XLA's, which is taken unasked."""
    dilated, wide = (
        sequential(
            (3, 4, 2),
            layers.Conv2DTranspose(2, size, padding=padding, dilation_rate=d, activation="tanh"),
            layers.Flatten(),
        )
        for size, d in (((2, 3), (3, 2)), ((4, 5), 1))
    )
    randomise(dilated, np.random.default_rng(0))
    kernel, bias = dilated.get_weights()
    spread = np.zeros((4, 5, 2, 2))
    spread[::3, ::2] = kernel
    wide.set_weights([spread, bias])
    x = np.random.default_rng(1).normal(size=(3, 3, 4, 2))
    j = oracles.jacobian(wide, x)
    kernels = j[..., :-2].reshape(*j.shape[:2], *spread.shape)[:, :, ::3, ::2]
    expected = np.concatenate([kernels.reshape(*j.shape[:2], -1), j[..., -2:]], axis=2)
    for actual in (keras_mgs.jacobian(dilated, x), xla(keras_mgs.jacobian, dilated, x)):
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_grouped_convolution_equals_one_convolution_for_each_group(rank, data_format):
    shape = SHAPES[rank]
    x = np.random.default_rng(1).normal(size=(3, *shape))
    first = data_format == "channels_first"
    grouped = sequential(
        (shape[-1], *shape[:-1]) if first else shape,
        convolution(rank, groups=2, data_format=data_format),
        layers.Permute((*range(2, rank + 2), 1)) if first else layers.Identity(),
        layers.Flatten(),
    )
    randomise(grouped, np.random.default_rng(0))
    kernel, bias = grouped.get_weights()

    inputs = keras.Input(shape)
    parts = [
        getattr(layers, f"Conv{rank}D")(2, 2, activation="tanh")(inputs[..., i : i + 1])
        for i in range(2)
    ]
    apart = keras.Model(inputs, layers.Flatten()(layers.Concatenate()(parts)))
    apart.set_weights([kernel[..., :2], bias[:2], kernel[..., 2:], bias[2:]])
    reference = oracles.jacobian(apart, x)
    half = kernel.size // 2
    kernels = np.concatenate(
        [
            part.reshape(*reference.shape[:2], -1, 2)
            for part in (reference[..., :half], reference[..., half + 2 : 2 * half + 2])
        ],
        axis=-1,
    ).reshape(*reference.shape[:2], -1)
    biases = [reference[..., half : half + 2], reference[..., 2 * half + 2 :]]
    expected = np.concatenate([kernels, *biases], axis=-1)

    data = np.moveaxis(x, -1, 1) if first else x
    j = xla(keras_mgs.jacobian, grouped, data)
    np.testing.assert_allclose(j, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(xla(keras_mgs.trace, grouped, data), (expected**2).sum(), rtol=1e-9)


def test_unknown_image_sizes_are_left_to_the_fallback():
    model = sequential(
        (None, None, 1), layers.Conv2D(2, 2, activation="tanh"), layers.GlobalAveragePooling2D()
    )
    randomise(model, np.random.default_rng(0))
    for size in (3, 4):  # the second size makes TensorFlow trace with unknown ones
        x = np.random.default_rng(1).normal(size=(2, size, size, 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            j = keras_mgs.jacobian(model, x)
        np.testing.assert_allclose(j, oracles.jacobian(model, x), rtol=1e-9, atol=1e-12)


def test_patches_are_written_out_after_the_cotangents_of_their_layer():
    """Or those of all layers would lie in memory at once: nothing but an order keeps them apart."""
    kinds = [layers.Conv2D(c, 3, padding="same") for c in (3, 4)]
    model = sequential((6, 6, 2), *kinds, layers.Flatten())

    @tf.function(autograph=False)
    def traces(x):
        with record(model, x, False) as recording, autodiff.tape() as tape:
            f = model(x)
        blocks = jacobian_blocks(
            tape, f, recording, Rows(tf.eye(2, f.shape[1], dtype=f.dtype), False)
        )
        return [b.sample_traces() for b in blocks]

    def before(operation, seen):
        for other in (*(t.op for t in operation.inputs), *operation.control_inputs):
            if other not in seen:
                seen.add(other)
                before(other, seen)
        return seen

    found = traces.get_concrete_function(tf.zeros((2, 6, 6, 2), "float64"))
    operations = found.graph.get_operations()
    patches = [op for op in operations if op.type in ("Pad", "PadV2")]
    assert len(patches) == 2  # one per layer
    assert any(op.type == "Conv2DBackpropInput" for op in before(patches[0], set()))
