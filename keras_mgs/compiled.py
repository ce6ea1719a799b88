"""Functions of a model, compiled once and kept as long as the model lives."""

import weakref

import tensorflow as tf

from keras_mgs.sites import signature

_COMPILED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def compiled(model, function, training, *options):
    """`function(model, training, *options, *data)` as a compiled function of the data."""
    kept = _COMPILED.setdefault(model, {})
    key = (function, bool(training), options, signature(model))
    if key not in kept:
        reference = weakref.ref(model)  # a strong one would keep the model alive for ever

        def run(*data):
            return function(reference(), training, *options, *data)

        kept[key] = _with_xla_where_needed(run)
    return kept[key]


def _with_xla_where_needed(function):
    """`function` compiled; by XLA where TensorFlow's own kernels cannot run it on this device.

    On a CPU these are the gradients of grouped convolutions and whatever has its channels first.
    """
    plain = tf.function(function, autograph=False)
    by_xla = tf.function(function, autograph=False, jit_compile=True)
    chosen = [plain]

    def run(*data):
        try:
            return chosen[0](*data)
        except tf.errors.UnknownError as error:
            if "pyfunc_" not in error.message:
                raise
            raise NotImplementedError(
                "The exact functions take several reverse passes through the model, of which "
                "TensorFlow allows a tf.py_function only one. Write what it does with operations "
                "of TensorFlow or keras.ops, or keep it to the data, before all weights."
            ) from error
        except tf.errors.OpError as error:
            if chosen[0] is by_xla or not _xla_may_do_better(error):
                raise
        result = by_xla(*data)
        chosen[0] = by_xla
        return result

    return run


def _xla_may_do_better(error):
    """Whether TensorFlow, not the model or its data, is at fault: XLA does not check the latter."""
    # AlreadyExistsError: TensorFlow 2.21's graph optimiser trips over sums in ConvNeXtTiny.
    faults = (tf.errors.UnimplementedError, tf.errors.AlreadyExistsError)
    return isinstance(error, faults) or "support" in error.message
