"""Convolutions: the features at a position are the patch that the kernel sees there."""

import math
from typing import NamedTuple

import keras
from keras import ops

from keras_mgs.sites.dense import with_bias
from keras_mgs.sites.registry import rule
from keras_mgs.sites.site import Deferred, Site, elementwise


@rule(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
def convolution(layer, call):
    """u is the patch that the kernel meets at each output position."""
    site = kernel_site(layer._kernel, window(layer), call.x, call.z, layer.groups)
    return with_bias(layer, call.z, site, channel_shape(layer, call.z))


@rule(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
def depthwise(layer, call):
    """Each input channel is a group of its own."""
    shape = window(layer)
    site = kernel_site(layer.kernel, shape, call.x, call.z, call.x.shape[shape.channel_axis])
    return with_bias(layer, call.z, site, channel_shape(layer, call.z))


@rule(
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
def transposed(layer, call):
    """The roles are swapped: an input position meets the patch of δ that it was spread over."""
    shape, sample = window(layer), call.z.shape[1:]
    x = shape.channels_last(call.x)
    positions, channels = x.shape[1:-1], x.shape[-1]
    u = ops.reshape(x, (-1, math.prod(positions), 1, channels))

    def delta(d):
        r, n, *_ = ops.shape(d)
        spread = shape.channels_last(ops.reshape(d, (-1, *sample)))
        seen = patches(spread, shape, positions, 1)
        return ops.reshape(seen, (r, n, *seen.shape[1:]))

    def arrange(j):  # from (in, 1, element · out) to (*element, out, in)
        n, r, *_ = ops.shape(j)
        return ops.reshape(ops.swapaxes(j[:, :, :, 0], 2, 3), (n, r, *layer.kernel.shape))

    site = Site(layer.kernel, u, call.z, delta, arrange)
    return with_bias(layer, call.z, site, channel_shape(layer, call.z))


@rule(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
def separable(layer, call):
    """A depthwise convolution, then a matrix, through which its cotangent comes back."""
    shape = window(layer)
    between = ops.depthwise_conv(
        call.x,
        layer.depthwise_kernel,
        strides=layer.strides,
        padding=layer.padding,
        data_format=layer.data_format,
        dilation_rate=layer.dilation_rate,
    )
    pointwise = layer.pointwise_kernel
    matrix = ops.reshape(ops.convert_to_tensor(pointwise), (-1, pointwise.shape[-1]))
    last = kernel_site(pointwise, shape.pointwise(), between, call.z)
    channels = call.x.shape[shape.channel_axis]
    first = kernel_site(layer.depthwise_kernel, shape, call.x, between, channels)

    def through_matrix(d):
        d = ops.matmul(last.delta(d), ops.transpose(ops.cast(matrix, d.dtype)))
        return ops.reshape(d, (*ops.shape(d)[:3], channels, layer.depth_multiplier))

    sites = [Site(layer.depthwise_kernel, first.u, call.z, through_matrix), last]
    if layer.bias is not None:
        sites.append(elementwise(layer.bias, None, call.z, channel_shape(layer, call.z)))
    return sites


class Window(NamedTuple):
    """What a kernel sees of its input, and where the channels are."""

    size: tuple
    strides: tuple
    dilation: tuple
    padding: str
    channels_first: bool

    @property
    def channel_axis(self):
        return 1 if self.channels_first else -1

    def channels_last(self, t, lead=1):
        return ops.moveaxis(t, lead, -1) if self.channels_first else t

    def pointwise(self):
        ones = (1,) * len(self.size)
        return self._replace(size=ones, strides=ones, dilation=ones, padding="valid")


def window(layer):
    """The window of a convolutional layer."""
    return Window(
        tuple(layer.kernel_size),
        tuple(layer.strides),
        tuple(layer.dilation_rate),
        layer.padding,
        layer.data_format == "channels_first",
    )


def channel_shape(layer, z):
    """The shape of a bias as it broadcasts against a sample of z."""
    channels = window(layer).channel_axis % len(z.shape)
    return tuple(size if i == channels else 1 for i, size in enumerate(z.shape))[1:]


def kernel_site(kernel, shape, x, z, groups=1):
    """The site of a convolution's kernel; z may be several tensors that share their channels."""
    sample = (z[0] if isinstance(z, tuple) else z).shape[1:]
    positions = sample[1:] if shape.channels_first else sample[:-1]

    def delta(*cotangents):
        d = ops.concatenate([shape.channels_last(t, 2) for t in cotangents], -1)
        sizes = (math.prod(positions), groups, d.shape[-1] // groups)
        return ops.reshape(d, (*ops.shape(d)[:2], *sizes))

    x = shape.channels_last(x)
    k = math.prod(shape.size) * (x.shape[-1] // groups)
    u = Deferred(
        (x.shape[0], math.prod(positions), groups, k),
        lambda: patches(x, shape, positions, groups),
    )
    return Site(kernel, u, z, delta)


def patches(x, window, positions, groups):
    """What each output position sees of x (n, *spatial, channels): (n, S, G, k).

    Made of strided slices, one spatial axis after the other, so few of them: differentiable to any
    order and the same in one, two and three dimensions.
    """
    channels, axes = x.shape[-1] // groups, list(zip(*window[:3], positions, strict=True))
    pads = []
    for length, (size, stride, dilation, out) in zip(x.shape[1:], axes, strict=False):
        span = (size - 1) * dilation + 1
        total = max((out - 1) * stride + span - length, 0)
        before = {"valid": 0, "same": total // 2, "causal": span - 1}[window.padding]
        pads.append((before, max(total - before, 0)))
    x = ops.pad(x, [(0, 0), *pads, (0, 0)])
    for axis, (size, stride, dilation, out) in reversed(list(enumerate(axes, start=1))):
        starts = (element * dilation for element in range(size))
        x = ops.concatenate([_slice(x, axis, start, stride, out) for start in starts], axis=-1)
    x = ops.reshape(x, (-1, math.prod(positions), math.prod(window.size), groups, channels))
    x = ops.swapaxes(x, 2, 3)  # in the order of the kernel: element, then channel
    return ops.reshape(x, (-1, math.prod(positions), groups, math.prod(window.size) * channels))


def _slice(x, axis, start, stride, size):
    """`size` entries of one axis."""
    if stride != 1:
        steps = slice(start, start + (size - 1) * stride + 1, stride)
        return x[(slice(None),) * axis + (steps,)]
    sizes = ops.shape(x)  # the derivative of a slice without steps is much cheaper
    starts = (start if i == axis else 0 for i in range(len(sizes)))
    return ops.slice(x, tuple(starts), (*sizes[:axis], size, *sizes[axis + 1 :]))
