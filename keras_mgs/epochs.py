"""What MGSModel does at the end of an epoch: it counts it, and reports penalties without effect."""

import contextlib
import warnings

import keras

from keras_mgs import checks
from keras_mgs.alpha import AUTO, rule


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
    """Counts epochs, logs `mgs_skipped` from the first epoch with skipped steps on, and warns.

    It warns of skipped steps, and where "auto" finds nothing to do.
    """

    def __init__(self, mgs):
        super().__init__()
        self.mgs, self.told_of_constant = mgs, False
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
        if not self.told_of_constant and not skipped and self._is_constant():
            self._warn_of_constant()

    def _is_constant(self):
        """Whether every penalised step so far has moved the weights, but none by the penalty."""
        alpha = self.mgs._alpha
        state = rule.State(*alpha.state.numpy())
        enough = int(self.mgs._steps.numpy()) >= rule.STARTING * rule.EVERY
        return alpha.current == AUTO and enough and state.count == 0 and state.length > 0

    def _warn_of_constant(self):
        self.told_of_constant = True
        warnings.warn(
            "alpha='auto' stays 0, since no penalised step so far had a penalty with a gradient: "
            "tr K does not depend on the trainable weights. So it is where the outputs are linear "
            "in them, as of one Dense layer on top of frozen ones. Give the model a hidden layer "
            "that learns, or unfreeze layers; else there is nothing for MGS to hold back.",
            stacklevel=2,
        )

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
