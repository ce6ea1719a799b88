"""A network of somebody's own, from a .keras file: its architecture alone."""

import functools
import json
import os
import zipfile
from pathlib import Path

import keras
import tensorflow as tf

import keras_mgs
from keras_mgs import checks, outputs
from keras_mgs.experiments.data import files


def is_file(network):
    """Whether a network is a file, not one of `NETWORKS`."""
    return network is not None and Path(network).suffix == ".keras"


def network(path):
    """What `NETWORKS` has of others: of an input shape and a number of outputs, the network."""
    return functools.partial(read, path)


def read(path, input_shape, number):
    """The network of a file with new weights, and without a softmax or sigmoid at its end.

    Args:
        path: of a .keras file with a Sequential or functional model, or an `MGSModel` of one.
        input_shape: of a sample.
        number: of raw outputs.

    Raises:
        FileNotFoundError, ValueError: it is something else, or does not fit.
    """
    found = _without_softmax(_fitting(path, _model(path), input_shape, number))
    checks.model(found)
    kinds = []
    tf.function(lambda x: kinds.append(outputs.normalisation(found(x)))).get_concrete_function(
        tf.TensorSpec((1, *input_shape), found.inputs[0].dtype)
    )
    if kinds[0]:
        raise ValueError(
            "Expected the network to return raw outputs, or to end in one layer of softmax or "
            f"sigmoid. Received: {_words(path)}, whose outputs are made of a {kinds[0]}. End it "
            "with a Dense layer."
        )
    return found


def _model(path):
    """As the file's configuration says, which has no weights."""
    if not os.path.isfile(path):
        raise FileNotFoundError(
            "Expected `network` to be the path of an existing .keras file. "
            f"Received: {_words(path)}. Check the spelling."
        )
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("not a .keras archive, or a truncated one")
        with zipfile.ZipFile(path) as archive:
            files.check_size(archive, ["config.json"])
            config = json.loads(archive.read("config.json"))
        model = keras.saving.deserialize_keras_object(_unseeded(config))
        checks.built(model)
    except Exception as error:  # Keras raises whatever its layers do
        raise ValueError(
            "Expected `network` to be a .keras file of a built model, of layers that Keras or "
            f"keras_mgs knows. Received: {_words(path)} ({files.one_line(error)}). "
            "Write it with `model.save('NAME.keras')`."
        ) from error
    return model.model if isinstance(model, keras_mgs.MGSModel) else model


def _unseeded(config):
    """Without seeds of its own, for the weights are drawn by the run's; and not compiled."""
    if isinstance(config, list):
        return [_unseeded(value) for value in config]
    if not isinstance(config, dict):
        return config
    kept = {key: value for key, value in config.items() if key != "compile_config"}
    return {key: None if key == "seed" else _unseeded(value) for key, value in kept.items()}


def _fitting(path, model, input_shape, number):
    """As a functional model, whose only input and output are those of the data."""
    ends = [list(getattr(model, name, None) or []) for name in ("inputs", "outputs")]
    shapes = [tuple(end.shape)[1:] for end in ends[0] + ends[1]]
    fits = [len(end) for end in ends] == [1, 1] and len(shapes[0]) == len(input_shape)
    if fits:
        fits = all(a in (None, b) for a, b in zip(shapes[0], input_shape, strict=True))
    if not fits or shapes[1] != (number,):
        raise ValueError(
            "Expected the network to take an input and return an output of the data: samples of "
            f"shape {tuple(input_shape)}, and {number} outputs, one for each class or target. "
            f"Received: {_words(path)}, of inputs {shapes[: len(ends[0])]} and outputs "
            f"{shapes[len(ends[0]) :]}. Give it others."
        )
    return keras.Model(*ends, name=model.name)


def _without_softmax(model):
    """Its raw outputs."""
    end = model.operations[-1]  # all others lead to it
    last = (keras.layers.Dense, keras.layers.Activation)
    normalising = (keras.activations.softmax, keras.activations.sigmoid)
    if isinstance(end, last) and end.activation in normalising:
        end.activation = keras.activations.linear
    elif type(end).__name__ in ("Softmax", "Sigmoid"):  # Keras' layer or function
        return keras.Model(model.inputs, end.input, name=model.name)
    return model


def _words(path):
    return f"network={os.fspath(path)!r}"
