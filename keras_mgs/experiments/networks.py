"""The paper's two networks, for images of any size."""

from keras import Input, Sequential, layers, regularizers


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


def fcn(input_shape, outputs, dropout=0.0, weight_decay=0.0):
    """Six hidden layers of 300 units with ReLU; 690,010 weights for 28 × 28 images, 10 classes.

    Args: as for `lenet5`.
    """
    return Sequential(
        [
            Input(input_shape),
            layers.Flatten(),
            *_fully_connected((300,) * 6, outputs, dropout, _l2(weight_decay)),
        ],
        name="fcn",
    )


NETWORKS = {"lenet5": lenet5, "fcn": fcn}


def _fully_connected(widths, outputs, dropout, l2):
    for width in widths:
        yield layers.Dense(width, activation="relu", kernel_regularizer=l2)
        if dropout:
            yield layers.Dropout(dropout)
    yield layers.Dense(outputs, kernel_regularizer=l2)


def _l2(strength):
    return regularizers.L2(strength) if strength else None
