"""What MGSModel does at the end of an epoch: it counts the epoch, and reports skipped steps."""

import contextlib
import warnings

import keras

from keras_mgs import checks


@contextlib.contextmanager
def followed(mgs, callbacks):
    """The callbacks for `fit`: those of the user, and before them one that follows the epochs."""
    ours = _Epochs(mgs)
    if not isinstance(callbacks, keras.callbacks.CallbackList):
        yield [ours, *keras.tree.flatten(callbacks or [])]
        return
    ours.set_model(mgs)
    callbacks.callbacks.insert(0, ours)  # so that History and all others find `mgs_skipped`
    try:
        yield callbacks
    finally:
        callbacks.callbacks.remove(ours)


class _Epochs(keras.callbacks.Callback):
    """Counts epochs, and logs `mgs_skipped` from the first epoch with skipped steps on."""

    def __init__(self, mgs):
        super().__init__()
        self.mgs = mgs
        self.skipped_before, self.reported = self._skipped(), False

    def _skipped(self):
        return int(self.mgs._alpha.skipped.numpy()[0])

    def on_epoch_end(self, epoch, logs=None):
        self.mgs._alpha.epochs.assign_add(1)
        skipped = self._skipped()
        in_epoch, self.skipped_before = skipped - self.skipped_before, skipped
        if in_epoch and not self.reported:
            self._warn(in_epoch)
            history = getattr(self.mgs, "history", None)
            if history is not None and history.epoch and history.epoch[-1] == epoch - 1:
                history.history["mgs_skipped"] = [0] * len(history.epoch)
        self.reported |= in_epoch > 0
        if self.reported and logs is not None:
            logs["mgs_skipped"] = in_epoch

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
