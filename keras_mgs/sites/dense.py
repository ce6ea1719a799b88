"""Dense and EinsumDense, and LoRA, which any layer with a kernel may have."""

import dataclasses
import math
import string

import keras
from keras import ops

from keras_mgs.sites.registry import rule
from keras_mgs.sites.site import Site, elementwise, matrix


@rule(keras.layers.Dense)
def dense(layer, call):
    """All axes between the first and the last are positions."""
    return with_bias(layer, call.z, matrix(layer._kernel, call.x, call.z))


@rule(keras.layers.EinsumDense)
def einsum_dense(layer, call):
    """The equation's letters say which axes are positions, groups, features and channels."""
    parsed = _parse(layer.equation, len(call.x.shape))
    if parsed is None:
        return None
    x, w, z = parsed
    batch, features = x[0], [a for a in w if a in x and a not in z]
    groups, channels = [a for a in w if a in x and a in z], [a for a in w if a not in x]
    positions = [a for a in z[1:] if a in x and a not in w]
    size = dict(zip(x + z + w, (*call.x.shape, *call.z.shape, *layer._kernel.shape), strict=True))
    sizes = [math.prod(size[a] for a in axes) for axes in (positions, groups, features, channels)]

    def axes(*parts):
        return "".join(a for part in parts for a in part)

    u = ops.einsum(f"{x}->{axes(batch, positions, groups, features)}", call.x)
    u = ops.reshape(u, (-1, *sizes[:3]))

    def delta(d):
        row = next(a for a in string.ascii_letters if a not in x + w + z)
        d = ops.einsum(f"{row}{z}->{axes(row, batch, positions, groups, channels)}", d)
        return ops.reshape(d, (*ops.shape(d)[:2], *sizes[:2], sizes[3]))

    def arrange(j):
        order = axes(features, groups, channels)
        j = ops.reshape(j, (*ops.shape(j)[:2], *(size[a] for a in order)))
        return ops.transpose(j, (0, 1, *(2 + order.index(a) for a in w)))

    return with_bias(layer, call.z, Site(layer._kernel, u, call.z, delta, arrange))


def with_bias(layer, z, kernel, shape=None):
    """The sites of a layer's kernel, or of its LoRA factors, and of its bias."""
    if getattr(layer, "quantization_mode", None) is not None:
        return None
    sites = [kernel]
    if getattr(layer, "lora_enabled", False):
        sites = list(lora(kernel, layer.lora_kernel_a, layer.lora_kernel_b, layer))
    if layer.bias is not None:
        sites.append(elementwise(layer.bias, None, z, shape))
    return sites


def lora(kernel, a, b, layer):
    """The sites of a and b, through which the weight `kernel + scale * a @ b` acts."""
    scale = getattr(layer, "lora_alpha", layer.lora_rank) / layer.lora_rank  # since Keras 3.9

    def of_a(j):
        j = ops.reshape(j, (*ops.shape(j)[:2], -1, b.shape[-1]))
        return _flat(scale * ops.matmul(j, ops.transpose(ops.cast(b, j.dtype))))

    def of_b(j):
        j = ops.reshape(j, (*ops.shape(j)[:2], -1, b.shape[-1]))
        rows = ops.reshape(ops.cast(a, j.dtype), (-1, b.shape[0]))
        return _flat(scale * ops.matmul(ops.transpose(rows), j))

    yield dataclasses.replace(kernel, weight=a, linear=of_a)
    yield dataclasses.replace(kernel, weight=b, linear=of_b)


def _flat(j):
    return ops.reshape(j, (*ops.shape(j)[:2], j.shape[2] * j.shape[3]))


def _parse(equation, rank):
    """The letters of x, kernel and z; None where the kernel acts in a way without positions."""
    x, rest = equation.replace(" ", "").split(",")
    w, z = rest.split("->")
    if "..." in x:
        free = [a for a in string.ascii_letters if a not in equation]
        rest = "".join(free[: rank - len(x.replace("...", ""))])
        x, z = x.replace("...", rest), z.replace("...", rest)
    plain = all(len(set(part)) == len(part) for part in (x, w, z))
    summed = set(x) - set(w) - set(z) or set(w) - set(x) - set(z)
    return (x, w, z) if plain and not summed and x[0] == z[0] and x[0] not in w else None
