"""The networks: three of the paper's, for images of any size, and larger ones to measure."""

from keras import Input, Model, Sequential, layers, regularizers


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
            y = _normalised(x, width, stride=stride, relu=True)
            y = _normalised(y, width)
            if width != x.shape[-1]:
                x = _normalised(x, width, size=1, stride=stride)
            x = layers.ReLU()(layers.add([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return Model(inputs, layers.Dense(outputs)(x), name="resnet18")


def transformer(input_shape, outputs, depth=4, heads=4):
    """Transformer encoder of 64 units; 204,874 weights for 64 features and 10 classes.

    Args:
        input_shape: (steps, features).
        outputs: raw outputs, of the mean over the steps; there is no final activation.
        depth: layers, each of attention and an MLP of 256 units.
        heads: heads of attention, which share the 64 units.
    """
    width = 64
    inputs = Input(input_shape)
    x = layers.Dense(width)(inputs)
    for _ in range(depth):
        y = layers.LayerNormalization()(x)
        x = layers.add([x, layers.MultiHeadAttention(heads, width // heads)(y, y)])
        y = layers.Dense(4 * width, "gelu")(layers.LayerNormalization()(x))
        x = layers.add([x, layers.Dense(width)(y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return Model(inputs, layers.Dense(outputs)(x), name="transformer")


NETWORKS = {"lenet5": lenet5, "fcn": fcn, "alexnet": alexnet}  # of the paper


def _normalised(x, width, size=3, stride=1, relu=False):
    """A convolution and batch normalisation."""
    x = layers.Conv2D(width, size, stride, padding="same", use_bias=False)(x)
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
