"""Dense: every position but the last axis sees the same matrix."""

import math

import keras
from keras import ops

from keras_mgs.sites.registry import rule
from keras_mgs.sites.site import Site


@rule(keras.layers.Dense)
def dense(layer, x, z):
    """u is the input, with all axes between the first and the last as positions."""
    if layer.lora_enabled or layer.quantization_mode is not None:
        return None  # the kernel is computed from other variables
    if None in z.shape[1:]:
        return None  # how many positions there are must be known

    positions = math.prod(z.shape[1:-1])

    def channels_last(t):
        lead = ops.shape(t)[: len(t.shape) - len(z.shape) + 1]
        return ops.reshape(t, (*lead, positions, 1, z.shape[-1]))

    u = ops.reshape(x, (-1, positions, 1, x.shape[-1]))
    sites = [Site(layer.kernel, u, z, channels_last)]
    if layer.use_bias:
        sites.append(Site(layer.bias, None, z, channels_last))
    return sites
