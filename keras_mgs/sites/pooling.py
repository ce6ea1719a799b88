"""A convolution whose output only max-pooling reads: most positions have no cotangent."""

import math

import keras
import numpy as np
from keras import ops

from keras_mgs.sites.site import Deferred, OneHot, Shape, Site, elementwise, written_out

POOLS = (keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D)
_LAYERS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_MOST = 4  # times the features of the convolution alone: after pooling, each channel has its own


def pooled(layer, sites, a, pool, y):
    """The sites of a convolution as seen through the max-pooling of its output a to y.

    Of each window one position has a cotangent, another one in each channel. So positions are
    those of y, channels are groups with features of their own, and the cotangents are y's, where
    the activation let them through.

    Returns:
        New sites, or `sites` where this does not hold, or would not save anything.
    """
    windows, features = _windows(layer, pool, a), [s.u for s in sites if s.u is not None]
    if windows is None or not features or not all(_plain(s) for s in sites):
        return sites
    _, positions, _, k = features[0].shape
    channels, kept = a.shape[-1], len(windows)
    if kept * channels > _MOST * positions or Shape(positions, 1, k, channels).route != "rows":
        return sites
    best = ops.argmax(ops.take(ops.reshape(a, (-1, positions, channels)), windows, axis=1), axis=2)
    first = np.arange(kept, dtype="int32")[:, None] * windows.shape[1]
    at = ops.take(windows.ravel(), ops.cast(best, "int32") + first)  # (n, kept, channels)

    def through(site):
        def cotangent(d):
            return d * ops.cast(y > 0, d.dtype) if _is_relu(layer) else d

        if site.u is None:
            bias = elementwise(site.weight, None, y)
            return Site(site.weight, None, y, lambda d: bias.delta(cotangent(d)))

        def features():
            start = positions * ops.arange(ops.shape(at)[0], dtype="int32")
            rows = ops.swapaxes(at, 1, 2) + start[:, None, None]
            u = ops.take(ops.reshape(written_out(site.u), (-1, k)), rows, axis=0)
            return ops.swapaxes(u, 1, 2)  # from (n, channels, kept, k)

        def delta(d):
            return ops.reshape(cotangent(d), (*ops.shape(d)[:2], kept, channels, 1))

        u = Deferred((site.u.shape[0], kept, channels, k), features)
        return Site(site.weight, u, y, delta)

    return [through(s) for s in sites]


def _windows(layer, pool, a):
    """The positions of each window, (kept, size), where windows do not overlap; else None."""
    size = tuple(pool.pool_size)
    if (
        type(layer) not in _LAYERS
        or layer.groups != 1
        or not (_is_relu(layer) or layer.activation in (None, keras.activations.linear))
        or "channels_first" in (layer.data_format, pool.data_format)
        or tuple(pool.strides) != size
    ):
        return None
    spatial = a.shape[1:-1]
    counts = [length // s for length, s in zip(spatial, size, strict=True)]
    whole = all(c * s == length for c, s, length in zip(counts, size, spatial, strict=True))
    if not (whole or pool.padding == "valid") or 0 in counts:
        return None
    at = np.arange(math.prod(spatial), dtype="int32").reshape(spatial)
    at = at[tuple(slice(c * s) for c, s in zip(counts, size, strict=True))]
    at = at.reshape([n for pair in zip(counts, size, strict=True) for n in pair])
    axes = range(0, at.ndim, 2), range(1, at.ndim, 2)
    return at.transpose([*axes[0], *axes[1]]).reshape(math.prod(counts), math.prod(size))


def _is_relu(layer):
    return layer.activation is keras.activations.relu


def _plain(site):
    """Whether a site is that of a kernel as it is, or of a bias."""
    return site.linear is None and site.arrange is None and not isinstance(site.u, OneHot)
