"""Recurrent cells: steps are positions, and the activations are handed each gate's z."""

import dataclasses
import sys

import keras
from keras import ops

from keras_mgs.sites.convolution import Window, kernel_site, window
from keras_mgs.sites.registry import rule
from keras_mgs.sites.site import Site, written_out


@rule(keras.layers.SimpleRNNCell)
def simple_cell(layer, call):
    """z = x W + h U + b."""
    x, h = _features(layer, call)
    return _sites(layer, x, h, (call.z,))


@rule(keras.layers.LSTMCell)
def lstm_cell(layer, call):
    """z = x W + h U + b for the gates i, f, c, o."""
    x, h = _features(layer, call)
    return _sites(layer, x, h, _lstm_gates(call))


@rule(keras.layers.GRUCell)
def gru_cell(layer, call):
    """z = x W + h U + b for the gates z, r, h, but that r scales h, or h U + b, in the last."""
    x, h = _features(layer, call)
    (_, update, _), (_, reset, r) = call.named("recurrent_activation")
    ((_, candidate, _),) = call.named("activation")
    z = (update, reset, candidate)
    if not layer.reset_after:
        # Two positions: one for the first two gates, one for the last.
        def split(d):
            d_gates, d_last = d[..., : 2 * layer.units], d[..., 2 * layer.units :]
            none = ops.zeros_like
            first = ops.concatenate([d_gates, none(d_last)], -1)
            return ops.concatenate([first, ops.concatenate([none(d_gates), d_last], -1)], 2)

        h = ops.concatenate([h, r[:, None, None] * h], 1)
        return _sites(layer, x, h, z, recurrent=split)

    def scaled(d):
        d_gates, d_last = d[..., : 2 * layer.units], d[..., 2 * layer.units :]
        return ops.concatenate([d_gates, ops.cast(r, d.dtype)[:, None, None] * d_last], -1)

    return _sites(layer, x, h, z, recurrent=scaled)


def convolutional_lstm_cell(layer, call):
    """As `lstm_cell`, with convolutions."""
    z, inputs = _lstm_gates(call), window(layer)
    ones = (1,) * layer.rank
    states = Window(inputs.size, ones, ones, "same", inputs.channels_first)
    x, h = _masked(layer, call)
    first = _by_gates([kernel_site(layer.kernel, inputs, t, z) for t in x])
    second = _by_gates([kernel_site(layer.recurrent_kernel, states, t, z) for t in h])
    bias = [Site(layer.bias, None, z, first.delta)] if layer.use_bias else []
    return [first, second, *bias]


# Keras does not export this class. (To make a layer and ask its cell would start TensorFlow.)
_ConvLSTMCell = getattr(
    sys.modules[keras.layers.ConvLSTM1D.__base__.__module__], "ConvLSTMCell", None
)
if _ConvLSTMCell is not None:  # else the fallback serves it
    rule(_ConvLSTMCell)(convolutional_lstm_cell)


def _sites(layer, x, h, z, recurrent=lambda d: d):
    """The sites of a cell's weights, of features (n, S, gates or 1, k).

    Args:
        recurrent: makes the recurrent kernel's δ of the input's, (r, n, 1, 1, c).
    """

    def delta(*d):
        return ops.concatenate(d, -1)[:, :, None, None]

    def recurrent_delta(*d):
        return recurrent(delta(*d))

    def both(*d):
        return ops.concatenate([delta(*d), recurrent_delta(*d)], -1)

    sites = [
        Site(layer.kernel, x, z, _split(delta, x.shape[2])),
        Site(layer.recurrent_kernel, h, z, _split(recurrent_delta, h.shape[2])),
    ]
    if layer.use_bias:
        two = len(layer.bias.shape) == 2  # one for the input, one for the state
        sites.append(Site(layer.bias, None, z, both if two else delta))
    return sites


def _by_gates(sites):
    """One site of a kernel that each gate sees with features of its own."""
    u = ops.concatenate([written_out(s.u) for s in sites], 2)
    return dataclasses.replace(sites[0], u=u, delta=_split(sites[0].delta, len(sites)))


def _split(delta, groups):
    """δ with its channels in groups: the gates' columns of a kernel lie side by side."""

    def split(*cotangents):
        d = delta(*cotangents)
        return ops.reshape(d, (*ops.shape(d)[:3], groups, d.shape[-1] // groups))

    return split


def _lstm_gates(call):
    (_, i, _), (_, f, _), (_, o, _) = call.named("recurrent_activation")
    c = call.named("activation")[0][1]
    return i, f, c, o


def _features(layer, call):
    """The input and the state, (n, 1, gates or 1, k)."""
    return [ops.stack(seen, 1)[:, None] for seen in _masked(layer, call)]


def _masked(layer, call):
    """The input and the state as the kernels see them in this pass.

    Lists of one tensor; of one per gate where each has a dropout mask of its own.
    """

    def masked(t, rate, masks):
        if not call.training or not 0 < rate < 1:
            return [t]
        masks = masks(t)
        return [t * mask for mask in (masks if isinstance(masks, list) else [masks])]

    states = call.args[1] if call.args[1:] else call.kwargs["states"]
    h = keras.tree.flatten(states)[0]
    return (
        masked(call.x, layer.dropout, layer.get_dropout_mask),
        masked(h, layer.recurrent_dropout, layer.get_recurrent_dropout_mask),
    )
