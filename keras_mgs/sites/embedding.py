"""Embedding: a position picks one row of the table."""

import dataclasses
import math

import keras
from keras import ops

from keras_mgs.sites.dense import lora
from keras_mgs.sites.registry import rule
from keras_mgs.sites.site import OneHot, Site, matrix


@rule(keras.layers.Embedding)
def embedding(layer, call):
    """u is 1 at the position's index."""
    if getattr(layer, "quantization_mode", None) is not None:
        return None
    site = lookup(layer, call)
    if layer.lora_enabled:
        return list(lora(site, layer.lora_embeddings_a, layer.lora_embeddings_b, layer))
    return [site]


def lookup(layer, call):
    """The site of a table whose rows `call.x` picks."""
    positions = math.prod(call.x.shape[1:])
    indices = ops.reshape(ops.cast(call.x, "int32"), (-1, positions))
    indices = ops.where(indices < 0, indices + layer.input_dim, indices)  # as Keras counts them

    def delta(d):
        return ops.reshape(d, (*ops.shape(d)[:2], positions, 1, layer.output_dim))

    return Site(layer._embeddings, OneHot(indices, layer.input_dim), call.result, delta)


if hasattr(keras.layers, "ReversibleEmbedding"):  # since Keras 3.12

    @rule(keras.layers.ReversibleEmbedding)
    def reversible_embedding(layer, call):
        """Backwards, the table is the matrix of an output layer, transposed."""
        if not layer.tie_weights or layer.lora_enabled or layer.quantization_mode is not None:
            return None
        if not call.kwargs.get("reverse", call.args[1] if call.args[1:] else False):
            return embedding(layer, call)
        if layer.logit_soft_cap is not None:
            return None
        site = matrix(layer._embeddings, call.x, call.z)
        return [dataclasses.replace(site, arrange=lambda j: ops.transpose(j, (0, 1, 4, 3, 2)))]
