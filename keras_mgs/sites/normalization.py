"""Normalisations and PReLU: weights that act element by element."""

import keras
from keras import ops

from keras_mgs.sites.registry import rule
from keras_mgs.sites.site import elementwise


@rule(
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
)
def normalization(layer, call):
    """z = γ · u + β: u is what the layer returns with γ = 1 and β = 0."""
    if getattr(layer, "renorm", False) and call.training:
        return None  # u depends on statistics that the call itself has changed
    weights = [(layer.gamma, ops.ones_like), (layer.beta, ops.zeros_like)]
    values = [(w, value(w)) for w, value in weights if w is not None]
    if not values:
        return []
    shape = _broadcast_shape(layer, call.z)
    sites = []
    if layer.gamma is not None:
        state = [(v, v.value) for v in layer.non_trainable_variables]  # as this pass has left it
        u = call.repeated([*state, *values])
        sites.append(elementwise(layer.gamma, u, call.z, shape))
    if layer.beta is not None:
        sites.append(elementwise(layer.beta, None, call.z, shape))
    return sites


if hasattr(keras.layers, "RMSNormalization"):  # since Keras 3.9

    @rule(keras.layers.RMSNormalization)
    def rms_normalization(layer, call):
        """z = scale · u."""
        u = call.repeated([(layer.scale, ops.ones_like(layer.scale))])
        return [elementwise(layer.scale, u, call.z, _broadcast_shape(layer, call.z))]


@rule(keras.layers.PReLU)
def prelu(layer, call):
    """z = relu(x) − α · relu(−x)."""
    return [elementwise(layer.alpha, -ops.relu(-call.x), call.z, tuple(layer.alpha.shape))]


def _broadcast_shape(layer, z):
    """Of weights along `layer.axis`, against a sample of z."""
    axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    kept = {a % len(z.shape) for a in axes}
    return tuple(z.shape[a] if a in kept else 1 for a in range(1, len(z.shape)))
