"""What MGSModel does at the end of an epoch of `fit`: counts it, and tells of skipped steps."""

import contextlib
import warnings

import keras

from keras_mgs import checks


@contextlib.contextmanager
def followed(mgs, callbacks):
    """What to give `fit` as callbacks, for `mgs` to follow its epochs."""
    ours = _Epochs(mgs)
    if not isinstance(callbacks, keras.callbacks.CallbackList):
        yield [ours, *keras.tree.flatten(callbacks or [])]
        return
    ours.set_model(mgs)
    callbacks.callbacks.insert(0, ours)  # all others, History among them, shall find what it does
    try:
        yield callbacks
    finally:
        callbacks.callbacks.remove(ours)


class _Epochs(keras.callbacks.Callback):
    """Counts epochs, and from the first one on that has skipped steps adds `mgs_skipped`."""

    def __init__(self, mgs):
        super().__init__()
        self.mgs = mgs
        self.before, self.said = self._count(), False

    def _count(self):
        return int(self.mgs._alpha.skipped.numpy()[0])

    def on_epoch_end(self, epoch, logs=None):
        self.mgs._alpha.epochs.assign_add(1)
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
