"""Second derivatives against differences of TensorFlow's own first ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from problems import randomise, sequential

import keras_mgs

BOXES = np.array([[0.1, 0.0, 0.8, 0.9], [0.2, 0.3, 1.1, 0.7]], "float32")
RESIZED = {
    f"{name}, {size}, {options}": (
        lambda x, name=name, size=size, options=options: getattr(tf.raw_ops, name)(
            images=x, size=size, **{o: True for o in options}
        )
    )
    for name in ("ResizeNearestNeighbor", "ResizeBicubic")
    for size in ((5, 7), (2, 3))
    for options in ((), ("align_corners",), ("half_pixel_centers",))
}
FUNCTIONS = {
    "softsign": tf.nn.softsign,
    **RESIZED,
    "lanczos": lambda x: tf.image.resize(x, (5, 3), "lanczos3", antialias=True),
    "crop and resize": lambda x: tf.image.crop_and_resize(x, BOXES, [1, 0], (3, 2)),
    "crop and resize, nearest": lambda x: tf.image.crop_and_resize(
        x, BOXES, [1, 0], (3, 2), "nearest"
    ),
    "local response normalization": lambda x: tf.nn.local_response_normalization(
        x, 1, 1.5, 0.3, 0.7
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_derivatives_equal_differences_of_the_first(name):
    rng, function = np.random.default_rng(0), FUNCTIONS[name]
    x = tf.constant(rng.normal(size=(2, 4, 4, 3)), "float32")
    direction = tf.constant(rng.normal(size=x.shape), "float32")
    weights = tf.constant(rng.normal(size=function(x).shape), "float32")
    other = tf.constant(rng.normal(size=x.shape), "float32")

    def first(x):
        """A function of x whose derivative has a part by each input of the first derivative."""
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(weights * tf.square(function(x)))
        return tf.reduce_sum(other * tape.gradient(y, x))

    with tf.GradientTape() as tape:
        tape.watch(x)
        value = first(x)
    found = float(tf.reduce_sum(direction * tape.gradient(value, x)))
    step = 1e-2
    sides = [float(first(x + sign * step * direction)) for sign in (1, -1)]
    # float32, as TensorFlow has some of these operations in no other dtype.
    assert found == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=2e-2, abs=2e-2)


LAYERS = {
    "softsign": ((3,), lambda: layers.Dense(4, "softsign")),
    "softsign layer": ((3,), lambda: layers.Activation(tf.nn.softsign)),
    "upsampling": ((3, 3, 2), layers.UpSampling2D),
    "bicubic upsampling": ((3, 3, 2), lambda: layers.UpSampling2D(interpolation="bicubic")),
    "resizing": ((3, 3, 2), lambda: layers.Resizing(4, 2, "bicubic")),
    "nearest resizing": ((3, 3, 2), lambda: layers.Resizing(4, 2, "nearest")),
    "normalised locally": (
        (3, 3, 2),
        lambda: layers.Lambda(tf.nn.local_response_normalization),
    ),
}
PENALTIES = {
    "projection": lambda: keras_mgs.TracePenalty(1e-3, every=1),
    "exact": lambda: keras_mgs.TracePenalty(1e-3, "exact", every=1),
    "log det": lambda: keras_mgs.LogDetPenalty(1e-3),
}


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_with_these_operations_train(name, penalty):
    shape, make = LAYERS[name]
    first = layers.Dense(2) if len(shape) == 1 else layers.Conv2D(2, 2, padding="same")
    model = sequential(shape, first, make(), layers.Flatten(), layers.Dense(2))
    randomise(model, np.random.default_rng(0))
    mgs = keras_mgs.MGSModel(model, PENALTIES[penalty]())
    mgs.compile(keras.optimizers.SGD(1e-3), "mse")
    x = np.random.default_rng(1).normal(size=(4, *shape)).astype("float32")
    history = mgs.fit(x, np.zeros((4, 2)), verbose=0).history
    assert np.isfinite(history["mgs_penalty"]).all()


@pytest.mark.parametrize("eagerly", [False, True])
def test_what_has_no_second_derivative_is_an_error_that_names_it_before_the_first_step(eagerly):
    def pooled(x):
        return tf.nn.fractional_max_pool(x, [1, 1.5, 1.5, 1], seed=1)[0]

    model = sequential(
        (4, 4, 1),
        layers.Conv2D(2, 2, padding="same"),
        layers.Lambda(pooled, output_shape=(2, 2, 2), name="fractional"),
        layers.Flatten(),
        layers.Dense(2),
    )
    before = model.get_weights()
    mgs = keras_mgs.MGSModel(model, keras_mgs.TracePenalty(1e-3, every=1))
    mgs.compile("sgd", "mse", run_eagerly=eagerly)
    where = "" if eagerly else ".*fractional"
    with pytest.raises(NotImplementedError, match="FractionalMaxPoolGrad'" + where):
        mgs.fit(np.ones((4, 4, 4, 1)), np.ones((4, 2)), verbose=0)
    for was, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)
