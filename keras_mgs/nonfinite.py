"""Penalised steps whose penalty has no finite gradient: in History, and in a warning."""

import contextlib
import warnings

import keras

from keras_mgs import checks


@contextlib.contextmanager
def told(mgs, callbacks):
    """What to give `fit` as callbacks, for it to tell."""
    ours = _Told(mgs)
    if not isinstance(callbacks, keras.callbacks.CallbackList):
        yield [ours, *keras.tree.flatten(callbacks or [])]
        return
    ours.set_model(mgs)
    callbacks.callbacks.insert(0, ours)  # History, the last one, shall have what it adds
    try:
        yield callbacks
    finally:
        callbacks.callbacks.remove(ours)


class _Told(keras.callbacks.Callback):
    """Adds `mgs_skipped`, steps of the epoch, from the first epoch on that has one."""

    def __init__(self, mgs):
        super().__init__()
        self.mgs = mgs
        self.before, self.said = self._count(), False

    def _count(self):
        return int(self.mgs._alpha.skipped.numpy()[0])

    def on_epoch_end(self, epoch, logs=None):
        count = self._count()
        now, self.before = count - self.before, count
        if now and not self.said:
            self._warn(now)
            earlier = getattr(self.mgs, "history", None)
            if earlier is not None and earlier.epoch and earlier.epoch[-1] == epoch - 1:
                earlier.history["mgs_skipped"] = [0] * len(earlier.epoch)
        self.said |= now > 0
        if self.said and logs is not None:
            logs["mgs_skipped"] = now

    def _warn(self, count):
        names = [w.path for w in checks.weights(self.mgs.model)]
        last = names[int(self.mgs._alpha.skipped.numpy()[1])]
        warnings.warn(
            f"The gradient of the penalty was not finite in {count} of the epoch's penalised "
            "steps, so that they were made without it (`mgs_skipped` in History). Look for an "
            "operation without a finite second derivative, such as a power or a square root at 0, "
            f"near '{last}', the last weight with such a gradient.",
            stacklevel=2,
        )
