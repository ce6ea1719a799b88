"""The metrics that MGSModel adds to History."""

import math

import keras
from keras import ops


class LastMean(keras.metrics.Mean):
    """A mean over an epoch; without an update in it, that of the last epoch that had one.

    That one is kept in a variable of the model, made by `add_weight`, and so saved with it.
    """

    def __init__(self, add_weight, **kwargs):
        super().__init__(**kwargs)
        last = add_weight(
            name="penalty",
            shape=(),
            dtype="float64",
            initializer=keras.initializers.Constant(math.nan),
            trainable=False,
            autocast=False,
        )
        self._last = lambda: last  # not one of the metric's own variables

    def update_state(self, *args, **kwargs):
        super().update_state(*args, **kwargs)
        self._last().assign(super().result())

    def result(self):
        mean = super().result()
        return ops.where(self.count > 0, mean, ops.cast(self._last(), mean.dtype))


class Reading(keras.metrics.Metric):
    """What `read()` returns, as a metric, so that it reaches History."""

    def __init__(self, read, **kwargs):
        super().__init__(**kwargs)
        self._read = read

    def update_state(self, *args, **kwargs):
        pass

    def result(self):
        return self._read()

    def reset_state(self):
        pass
