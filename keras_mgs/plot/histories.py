"""The numbers of a training, read from a Keras History, its dict, or a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import keras
import numpy as np

from keras_mgs.plot.arrays import as_array, real_numbers

if TYPE_CHECKING:
    import pandas

    Training: TypeAlias = keras.callbacks.History | Mapping[str, Any] | pandas.DataFrame


def columns(name, history, keys=None):
    """The epochs, and by key the numbers measured in them: of `keys` alone, or of all keys."""
    numbers = {
        key: column
        for key, values in _table(name, history).items()
        if (keys is None or key in (*keys, "epoch"))
        and (column := _column(f"{name}[{key!r}]", values)) is not None
    }
    lengths = {key: len(column) for key, column in numbers.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"Expected `{name}` to have one value of each kind per epoch. Received: {lengths}."
        )
    count = next(iter(lengths.values()), 0)
    epochs = numbers.get("epoch", np.arange(1.0, count + 1))
    if isinstance(history, keras.callbacks.History) and len(history.epoch) == count:
        epochs = np.asarray(history.epoch, "float64") + 1  # Keras counts from 0
    return epochs, numbers


def values_of_runs(name, trainings, key):
    """What a training, or a list of several runs, measured of one key.

    Returns:
        The epochs of all runs together; the numbers (runs, epochs), NaN where a run has none.
    """
    trainings = trainings if isinstance(trainings, list | tuple) else [trainings]
    curves = [_curve(name, training, key) for training in trainings]
    if not curves:
        raise ValueError(f"Expected `{name}` to hold at least one run. Received: [].")
    all_epochs = np.unique(np.concatenate([epochs for epochs, _ in curves]))
    runs = np.full((len(curves), len(all_epochs)), np.nan)
    for run, (epochs, numbers) in zip(runs, curves, strict=True):
        run[np.searchsorted(all_epochs, epochs)] = numbers
    return all_epochs, runs


def _curve(name, history, key):
    """The epochs of a training, and the numbers of one key."""
    epochs, numbers = columns(name, history, (key,))
    if key not in numbers:
        raise ValueError(
            f"Expected `{name}` to have `key`, a number per epoch. "
            f"Received: key={key!r}, and {list(_table(name, history))} there."
        )
    return epochs, numbers[key]


def _table(name, history):
    """What a training recorded, by key."""
    if isinstance(history, keras.callbacks.History) and not hasattr(history, "epoch"):
        raise ValueError(
            f"Expected `{name}` to be of a training. Received: a History that no `fit` has filled. "
            "Give what `fit` returns."
        )
    table = history.history if isinstance(history, keras.callbacks.History) else history
    if not hasattr(table, "items"):
        raise TypeError(
            f"Expected `{name}` to be a keras History, its dict, or a pandas DataFrame with the "
            f"same columns. Received: {history!r} of type {type(history).__name__}."
        )
    return {str(key): values for key, values in table.items()}


def _column(name, values):
    """A column as float64; None if it holds words, or several numbers per epoch."""
    array = as_array(name, values)
    has_words = array.dtype.kind in "SUMm" or any(isinstance(v, str) for v in array.ravel()[:1])
    return None if has_words or array.ndim != 1 else real_numbers(name, array)
