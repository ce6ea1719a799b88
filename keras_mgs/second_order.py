"""Forward passes that can be differentiated twice."""

import contextlib
import functools
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import tensorflow as tf

from keras_mgs import derivatives, hooks  # noqa: F401  (TensorFlow's registry gets them)

# Where Keras' LSTM and GRU look for kernels of their own: `backend`; since 3.16, `backend.rnn`.
_BACKEND = getattr(sys.modules[keras.layers.LSTM.__module__], "backend", None)
_RECURRENT = next(
    (place for place in (getattr(_BACKEND, "rnn", None), _BACKEND) if hasattr(place, "lstm")), None
)

# They compute moments of the data.
_OF_STATISTICS = keras.layers.BatchNormalization, keras.layers.GroupNormalization


@contextlib.contextmanager
def twice_differentiable():
    """Let passes in this context, of this thread, be looked into and differentiated repeatedly.

    Enter it before anything else that replaces a layer's `call`.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_replaced())
        for kind in _OF_STATISTICS:
            checked = functools.partial(_checked, kind)
            stack.enter_context(hooks.replaced(kind, "call", checked))
        yield


@contextlib.contextmanager
def _replaced():
    """Functions of TensorFlow and Keras, replaced in this thread.

    `tf.nn.moments`, which batch and group normalisation call, stops the gradient from the variance
    to the mean up to TensorFlow 2.21: right for a first derivative, where that part is zero, and
    wrong for a second.

    A `tf.function` that was traced before would keep that, and hide the layers that it calls: it
    is run as part of the pass.

    cuDNN's LSTM and GRU have no second derivative. Keras has forms made of other operations, which
    it takes where there is no cuDNN.
    """
    function = type(tf.function(lambda: None))
    with contextlib.ExitStack() as stack:
        stack.enter_context(hooks.replaced(tf.nn, "moments", lambda _: _moments))
        stack.enter_context(hooks.replaced(function, "__call__", _as_part_of_the_pass))
        if _RECURRENT is not None:
            stack.enter_context(hooks.replaced(_RECURRENT, "lstm", lambda _: _without_cudnn))
            stack.enter_context(hooks.replaced(_RECURRENT, "gru", lambda _: _without_cudnn))
        yield


def _moments(x, axes, shift=None, keepdims=False, name=None):
    y = tf.cast(x, tf.float32) if x.dtype == tf.float16 else x  # as `tf.nn.moments` does
    mean = tf.reduce_mean(y, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(y, mean), axes, keepdims=keepdims)
    mean = mean if keepdims else tf.squeeze(mean, axes)
    return tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)


def _without_cudnn(*args, **kwargs):
    raise NotImplementedError("a second derivative of cuDNN's kernels")


def _as_part_of_the_pass(call):
    def run(function, *args, **kwargs):
        python = function.python_function
        ours_to_inline = not (getattr(python, "__module__", None) or "").startswith("tensorflow.")
        if function.input_signature is not None:  # it would make tensors of what is none
            ours_to_inline &= all(tf.is_tensor(a) for a in tf.nest.flatten((args, kwargs)))
        if not ours_to_inline:
            return call(function, *args, **kwargs)
        if not getattr(function, "_autograph", True):
            return python(*args, **kwargs)
        status = tf.__internal__.autograph.control_status_ctx()
        with type(status)(status=type(status.status).ENABLED) as enabled:
            return tf.__internal__.autograph.tf_convert(python, enabled)(*args, **kwargs)

    return run


def _checked(kind, call):
    """The `call` of a kind of layers, but an error where its second derivative would be wrong."""

    def run(layer, *args, **kwargs):
        training = args[1] if args[1:] else kwargs.get("training")
        of_data = kind is not keras.layers.BatchNormalization or (training and layer.trainable)
        if of_data and not _is_exact(kind):
            raise NotImplementedError(
                f"MGS needs the second derivative of {kind.__name__}, and gets a wrong one with "
                f"the way in which Keras {keras.__version__} computes it. Received: "
                f"'{layer.name}' in a forward pass. Use Keras 3.15, or another normalisation; a "
                "frozen BatchNormalization (`layer.trainable = False`), or one with "
                "training=False, is exact."
            )
        return call(layer, *args, **kwargs)

    return run


@functools.cache
def _is_exact(kind):
    """Whether layers of a kind have the right second derivative, found by trying.

    A Keras that does not compute their statistics by `tf.nn.moments` may have a wrong one. They are
    tried in a thread of their own, which no graph, strategy or precision of the caller's reaches.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_try, kind).result()


def _try(kind):
    """Whether the second derivative of such a layer is that of its first."""
    options = {"groups": 1} if kind is keras.layers.GroupNormalization else {}
    layer = kind(dtype="float64", **options)
    x = tf.reshape(tf.sin(tf.range(12, dtype="float64")), (3, 4))
    direction, step = tf.cos(x), 1e-4

    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(layer(x, training=True) ** 3)
        return tape.gradient(y, x)

    with _replaced():
        with tf.GradientTape() as tape:
            tape.watch(x)
            along = tf.reduce_sum(slope(x) * direction)
        found = tape.gradient(along, x)
        expected = (slope(x + step * direction) - slope(x - step * direction)) / (2 * step)
    error = tf.reduce_max(tf.abs(found - expected))
    return bool(error < 1e-4 * tf.reduce_max(tf.abs(expected)))
