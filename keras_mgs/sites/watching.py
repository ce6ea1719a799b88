"""Watching a forward pass through attributes of the model's layers and weights."""

import contextlib

import keras

from keras_mgs import hooks
from keras_mgs.sites import pooling
from keras_mgs.sites.recording import Recording


@contextlib.contextmanager
def watch(model):
    """Record what passes of the model in this context do: yields the `Recording`."""
    recording = Recording(model)

    def watched(layer):
        return lambda call: lambda *args, **kwargs: recording.run(layer, call, *args, **kwargs)

    def pooled(layer):
        return lambda call: lambda x: recording.pool(layer, call, x)

    def noted(weight):
        return lambda autocast: lambda value: recording.note_read(weight) or autocast(value)

    def unrolled(layer):
        """Steps that run in a loop's body cannot be seen."""

        def run(sequences, *args, **kwargs):
            # Keras 3.15 unrolls this case into something else: it forgets to reverse the mask.
            reversed_mask = (
                kwargs.get("mask") is not None
                and layer.go_backwards
                and getattr(layer, "zero_output_for_mask", False)
            )
            known = sequences.shape[1] is not None and not reversed_mask
            double = hooks.with_attributes(layer, unroll=layer.unroll or known)
            return type(layer).call(double, sequences, *args, **kwargs)

        return lambda _: run

    def coupling(layer):
        """A user may ask for batch statistics in any pass."""

        def make(call):
            def run(*args, **kwargs):
                recording.coupled |= bool(kwargs.get("training")) and layer.trainable
                return call(*args, **kwargs)

            return run

        return make

    layers = model._flatten_layers()
    watching = [
        *((v, coupling(v)) for v in layers if isinstance(v, keras.layers.BatchNormalization)),
        *((v, pooled(v)) for v in layers if isinstance(v, pooling.POOLS)),
        *((v, watched(v)) for v in recording.ruled),
        *(
            (v, unrolled(v))
            for v in layers
            if isinstance(v, keras.layers.RNN) and not hooks.is_own(v, "call")
        ),
    ]
    with contextlib.ExitStack() as stack:
        for layer, make in watching:
            stack.enter_context(hooks.replaced(layer, "call", make))
        for weight in recording.weights:
            # Every way of reading a `keras.Variable` passes through this method. If not, nothing is
            # noted, and the fallback serves.
            if hasattr(weight, "_maybe_autocast"):
                stack.enter_context(hooks.replaced(weight, "_maybe_autocast", noted(weight)))
        yield recording
    recording.leave_what_others_read()
