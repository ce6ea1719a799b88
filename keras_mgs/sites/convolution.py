"""Conv1D, Conv2D, Conv3D: the features at a position are the patch that the kernel sees there."""

import itertools
import math

import keras
from keras import ops

from keras_mgs.sites.registry import rule
from keras_mgs.sites.site import Site


@rule(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
def convolution(layer, x, z):
    """u is the patch that the kernel meets at each output position."""
    if layer.lora_enabled or getattr(layer, "quantization_mode", None) is not None:
        return None  # the kernel is computed from other variables
    if None in x.shape[1:]:
        return None  # how many positions there are must be known
    first = layer.data_format == "channels_first"
    positions = z.shape[2:] if first else z.shape[1:-1]
    groups, filters = layer.groups, layer.filters

    def channels_last(t):
        lead = len(t.shape) - layer.rank - 1
        t = ops.moveaxis(t, lead, -1) if first else t
        return ops.reshape(
            t, (*ops.shape(t)[:lead], math.prod(positions), groups, filters // groups)
        )

    x = ops.moveaxis(x, 1, -1) if first else x
    sites = [Site(layer.kernel, _patches(layer, x, positions), z, channels_last)]
    if layer.use_bias:
        sites.append(Site(layer.bias, None, z, channels_last))
    return sites


def _patches(layer, x, positions):
    """What each output position sees of x (n, *spatial, channels): (n, S, G, k).

    Made of strided slices, one per kernel element: differentiable to any order and the same in
    one, two and three dimensions.
    """
    spans = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    pads = []
    for size, out, span, stride in zip(x.shape[1:], positions, spans, layer.strides, strict=False):
        total = max((out - 1) * stride + span - size, 0)
        before = {"valid": 0, "same": total // 2, "causal": span - 1}[layer.padding]
        pads.append((before, max(total - before, 0)))
    x = ops.pad(x, [(0, 0), *pads, (0, 0)])
    offsets = itertools.product(*(range(k) for k in layer.kernel_size))
    slices = [
        x[
            (
                slice(None),
                *(
                    slice(o * d, o * d + (out - 1) * s + 1, s)
                    for o, d, s, out in zip(
                        offset, layer.dilation_rate, layer.strides, positions, strict=True
                    )
                ),
            )
        ]
        for offset in offsets
    ]
    channels = x.shape[-1] // layer.groups
    patches = ops.reshape(
        ops.stack(slices, axis=-2),
        (-1, math.prod(positions), len(slices), layer.groups, channels),
    )
    patches = ops.swapaxes(patches, 2, 3)  # in the order of the kernel: element, then channel
    return ops.reshape(patches, (-1, *patches.shape[1:3], len(slices) * channels))
