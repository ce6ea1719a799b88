"""The networks: three of the paper's, others of every kind (`zoo`), and larger ones to measure."""

import functools
import math

from keras import Input, Model, Sequential, initializers, layers, regularizers


def lenet5(input_shape, outputs, dropout=0.0, weight_decay=0.0):
    """LeNet-5 with ReLU and max-pooling; 61,706 weights for 28 × 28 images and 10 classes.

    For images smaller than 16 pixels, such as scikit-learn's digits, the second convolution is
    padded too, or nothing would be left: 21,386 weights for 8 × 8 images.

    Args:
        input_shape: (height, width, channels).
        outputs: raw outputs; there is no final activation.
        dropout: rate of a dropout layer between all fully connected layers; 0: none.
        weight_decay: L2 penalty on all kernels; 0: none.
    """
    second = "same" if min(input_shape[:2]) < 16 else "valid"
    l2 = _l2(weight_decay)
    return Sequential(
        [
            Input(input_shape),
            layers.Conv2D(6, 5, padding="same", activation="relu", kernel_regularizer=l2),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 5, padding=second, activation="relu", kernel_regularizer=l2),
            layers.MaxPooling2D(),
            layers.Flatten(),
            *_fully_connected((120, 84), outputs, dropout, l2),
        ],
        name="lenet5",
    )


def fcn(input_shape, outputs, dropout=0.0, weight_decay=0.0, widths=(300,) * 6):
    """Six hidden layers of 300 units with ReLU; 690,010 weights for 28 × 28 images, 10 classes.

    Args: as for `lenet5`, and
        widths: other numbers of units of the hidden layers.
    """
    return Sequential(
        [
            Input(input_shape),
            layers.Flatten(),
            *_fully_connected(widths, outputs, dropout, _l2(weight_decay)),
        ],
        name="fcn",
    )


def alexnet(input_shape, outputs, dropout=0.0, weight_decay=0.0):
    """AlexNet for small images; 28,513,994 weights for 28 × 28 images and 10 classes.

    All kernels are 3 × 3, without strides, and pooling halves the sides, or nothing would be left.

    Args: as for `lenet5`, for images from 8 × 8 on.
    """
    l2 = _l2(weight_decay)
    features = [Input(input_shape)]
    for width, halved in ((64, True), (192, True), (384, False), (256, False), (256, True)):
        features += [
            layers.Conv2D(width, 3, padding="same", activation="relu", kernel_regularizer=l2)
        ]
        features += [layers.MaxPooling2D()] if halved else []
    classifier = _fully_connected((4096, 4096), outputs, dropout, l2)
    return Sequential([*features, layers.Flatten(), *classifier], name="alexnet")


def resnet18(input_shape, outputs):
    """ResNet-18 for small images; 11,173,962 trainable weights for 32 × 32 × 3 and 10 classes.

    Its first convolution is 3 × 3, without a stride, and is not followed by pooling.

    Args:
        input_shape: (height, width, channels), from 8 × 8 on.
        outputs: raw outputs; there is no final activation.
    """
    x = inputs = Input(input_shape)
    x = _normalised(x, 64, relu=True)
    for width in (64, 128, 256, 512):
        for _ in range(2):
            stride = 1 if width in (64, x.shape[-1]) else 2
            x = _block(x, width, stride)
    x = layers.GlobalAveragePooling2D()(x)
    return Model(inputs, layers.Dense(outputs)(x), name="resnet18")


def transformer(input_shape, outputs, dropout=0.0, weight_decay=0.0, depth=4, heads=4):
    """Transformer encoder of 64 units; 208,906 weights for 64 steps, 64 features and 10 classes.

    Args: as for `lenet5`, but
        input_shape: (steps, features); the rows of an image, or numbers, are taken as steps.
        outputs: raw outputs, of the mean over the steps; there is no final activation.
        dropout: rate of a dropout layer after attention and each MLP; 0: none.
        depth: layers, each of attention and an MLP of 256 units.
        heads: heads of attention, which share the 64 units.
    """
    width, l2 = 64, _l2(weight_decay)
    inputs = Input(input_shape)
    steps = _steps(inputs)
    # A bias of its own for each step tells attention where it stands.
    x = layers.EinsumDense(
        "btf,fd->btd",
        (steps.shape[1], width),
        bias_axes="td",
        bias_initializer=initializers.RandomNormal(stddev=0.02),
        kernel_regularizer=l2,
    )(steps)
    for _ in range(depth):
        y = layers.LayerNormalization()(x)
        y = layers.MultiHeadAttention(heads, width // heads, kernel_regularizer=l2)(y, y)
        x = layers.add([x, _dropped(y, dropout)])
        y = layers.Dense(4 * width, "gelu", kernel_regularizer=l2)(layers.LayerNormalization()(x))
        y = layers.Dense(width, kernel_regularizer=l2)(y)
        x = layers.add([x, _dropped(y, dropout)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return Model(inputs, layers.Dense(outputs, kernel_regularizer=l2)(x), name="transformer")


def mlp(input_shape, outputs, dropout=0.0, weight_decay=0.0, normalization=None, widths=(128,) * 3):
    """Hidden layers of a normalisation each before ReLU.

    Args: as for `lenet5`, and
        normalization: makes the layer; None: there is none.
        widths: numbers of units of the hidden layers.
    """
    l2 = _l2(weight_decay)
    hidden: list = [Input(input_shape), layers.Flatten()]
    for width in widths:
        hidden += [layers.Dense(width, kernel_regularizer=l2)]
        hidden += [normalization()] if normalization else []
        hidden += [layers.ReLU()]
        hidden += [layers.Dropout(dropout)] if dropout else []
    return Sequential([*hidden, layers.Dense(outputs, kernel_regularizer=l2)], name="mlp")


def lenet5_batch_norm(input_shape, outputs, dropout=0.0, weight_decay=0.0):
    """`lenet5` with batch normalisation before each ReLU.

    Args: as for `lenet5`.
    """
    l2 = _l2(weight_decay)
    second = "same" if min(input_shape[:2]) < 16 else "valid"
    features: list = [Input(input_shape)]
    for width, padding in ((6, "same"), (16, second)):
        features += [
            layers.Conv2D(width, 5, padding=padding, use_bias=False, kernel_regularizer=l2),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
        ]
    features += [layers.Flatten()]
    for width in (120, 84):
        features += [
            layers.Dense(width, use_bias=False, kernel_regularizer=l2),
            layers.BatchNormalization(),
            layers.ReLU(),
        ]
        features += [layers.Dropout(dropout)] if dropout else []
    return Sequential(
        [*features, layers.Dense(outputs, kernel_regularizer=l2)], name="lenet5_batch_norm"
    )


def resnet(input_shape, outputs, dropout=0.0, weight_decay=0.0, widths=(16, 32, 64)):
    """Residual network of one block per width; 77,754 trainable weights for 28 × 28 and 10 classes.

    Args: as for `lenet5`, for images from 4 × 4 on, and
        dropout: rate of a dropout layer before the last.
        widths: channels of the blocks, all of which but the first halve the sides.
    """
    l2 = _l2(weight_decay)
    inputs = Input(input_shape)
    x = _normalised(inputs, widths[0], relu=True, l2=l2)
    for width in widths:
        x = _block(x, width, 1 if width == widths[0] else 2, l2)
    x = _dropped(layers.GlobalAveragePooling2D()(x), dropout)
    return Model(inputs, layers.Dense(outputs, kernel_regularizer=l2)(x), name="resnet")


def separable(input_shape, outputs, dropout=0.0, weight_decay=0.0):
    """Depthwise-separable convolutions of 32, 64 and 128 channels, without normalisation.

    Args: as for `lenet5`, for images from 4 × 4 on, and
        dropout: rate of a dropout layer before the last.
    """
    l2 = _l2(weight_decay)
    features: list = [
        Input(input_shape),
        layers.Conv2D(32, 3, padding="same", activation="relu", kernel_regularizer=l2),
    ]
    for width in (64, 128):
        features += [
            layers.SeparableConv2D(
                width,
                3,
                padding="same",
                activation="relu",
                depthwise_regularizer=l2,
                pointwise_regularizer=l2,
            ),
            layers.MaxPooling2D(),
        ]
    features += [layers.Flatten()]
    features += [layers.Dropout(dropout)] if dropout else []
    return Sequential([*features, layers.Dense(outputs, kernel_regularizer=l2)], name="separable")


def gru(input_shape, outputs, dropout=0.0, weight_decay=0.0, units=64):
    """Gated recurrent units over the steps of a series, of which the last state is classified.

    The steps are unrolled: TensorFlow cannot vectorise the loop, which exact derivatives need.

    Args: as for `lenet5`, but
        input_shape: (steps, features); the rows of an image, or numbers, are taken as steps.
        dropout: rate of a dropout layer before the last.
        units: of the state.
    """
    l2 = _l2(weight_decay)
    inputs = Input(input_shape)
    state = layers.GRU(units, unroll=True, kernel_regularizer=l2, recurrent_regularizer=l2)
    x = _dropped(state(_steps(inputs)), dropout)
    return Model(inputs, layers.Dense(outputs, kernel_regularizer=l2)(x), name="gru")


# Those that take `dropout` and `weight_decay`, for images and where they can for other shapes.
NETWORKS = {
    "lenet5": lenet5,  # the paper's are this and the next two
    "fcn": fcn,
    "alexnet": alexnet,
    "deep_fcn": functools.partial(fcn, widths=(64,) * 12),  # which stands still at first
    "lenet5_batch_norm": lenet5_batch_norm,
    "resnet": resnet,
    "mlp_layer_norm": functools.partial(mlp, normalization=layers.LayerNormalization),
    "mlp_batch_norm": functools.partial(mlp, normalization=layers.BatchNormalization),
    "mlp_group_norm": functools.partial(
        mlp, normalization=functools.partial(layers.GroupNormalization, 8)
    ),
    "transformer": functools.partial(transformer, depth=2),
    "gru": gru,
    "separable": separable,
}


_OF_IMAGES = ("lenet5", "alexnet", "lenet5_batch_norm", "resnet", "separable")


def check(name, input_shape):
    """That one of `NETWORKS` takes samples of this shape."""
    if name in _OF_IMAGES and len(input_shape) != 3:
        raise ValueError(
            f"Expected a network for samples of shape {input_shape}. Received: network={name!r}, "
            "which convolves images. Take one of "
            f"{', '.join(other for other in NETWORKS if other not in _OF_IMAGES)}."
        )


def _steps(inputs):
    """Samples as (steps, features): the rows of an image, or each number by itself."""
    shape = inputs.shape[1:]
    if len(shape) == 2:
        return inputs
    return layers.Reshape((shape[0], math.prod(shape[1:])))(inputs)


def _dropped(x, rate):
    return layers.Dropout(rate)(x) if rate else x


def _block(x, width, stride, l2=None):
    """A residual block of two convolutions."""
    y = _normalised(x, width, stride=stride, relu=True, l2=l2)
    y = _normalised(y, width, l2=l2)
    if width != x.shape[-1]:
        x = _normalised(x, width, size=1, stride=stride, l2=l2)
    return layers.ReLU()(layers.add([x, y]))


def _normalised(x, width, size=3, stride=1, relu=False, l2=None):
    """A convolution and batch normalisation."""
    x = layers.Conv2D(width, size, stride, padding="same", use_bias=False, kernel_regularizer=l2)(x)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(x) if relu else x


def _fully_connected(widths, outputs, dropout, l2):
    for width in widths:
        yield layers.Dense(width, activation="relu", kernel_regularizer=l2)
        if dropout:
            yield layers.Dropout(dropout)
    yield layers.Dense(outputs, kernel_regularizer=l2)


def _l2(strength):
    return regularizers.L2(strength) if strength else None
