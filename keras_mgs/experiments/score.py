"""Each sample's share of tr K under a model that is there already."""

import os
import zipfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd

import keras_mgs
from keras_mgs import checks, outputs, storage
from keras_mgs.data import inputs
from keras_mgs.experiments.data import files, images
from keras_mgs.experiments.reports import figures

_MOST = 1000  # samples that a picture has room for
_LAYOUTS = ((("x",), ("y",)), (("x_train",), ("y_train",)))


def score(model, data, *, out, top=16, batch_size=32, scaling=True):
    """Each sample's share of tr K: how far learning it moves the model's outputs for it.

    Writes the folder `out`, which appears complete: scores.csv, a row per sample in the order of
    the data, and suspects.png with the highest of them.

    Args:
        model: the path of a .keras file, of any Keras model or an `MGSModel`.
        data: the path of an .npz with x and, if there are labels, y; or x_train and y_train.
        out: a folder that does not exist yet, or is empty.
        top: how many samples the picture shows, at most 1000.
        batch_size: samples computed at a time.
        scaling: whether images of uint8 are divided by 255, as `compare` does.

    Returns:
        A `pandas.DataFrame` with the columns index, label (if there are any), predicted (the class
        of the largest raw output, or whether the only one is positive), trace
        (`keras_mgs.sample_traces`), share (of their sum) and rank (1: the highest). Of targets that
        are no classes there is neither label nor predicted.

    Raises:
        FileExistsError: `out` is a file, or a folder with something in it.
        FileNotFoundError, TypeError, ValueError: a file is missing or holds something else, or the
            samples do not fit the model.

    Reference: Szolnoky et al., NeurIPS 2022, supplement C; Martin and Elster, Neurocomputing 2020.
    """
    checks.count("top", top, most=_MOST)
    checks.count("batch_size", batch_size)
    storage.check_new("out", out)
    network = _load(model)
    arrays = _read(data)
    (key, shown), *rest = arrays.items()
    x = _fitting(network, images.scale(shown) if scaling and shown.ndim > 2 else shown)
    inputs(key, network, x)
    q = _outputs(network, x)
    labels = None
    classes = True
    for name, y in rest:
        images.check_lengths(key, x, name, y)
        labels = _labels(name, y, q)
        classes = labels is not None

    trace = keras_mgs.sample_traces(network, x, batch_size=batch_size).numpy().astype("float64")
    order = np.argsort(-trace, kind="stable")
    columns = {"index": np.arange(len(trace))}
    if labels is not None:
        columns["label"] = labels
    if classes:
        columns["predicted"] = outputs.classes(outputs.predict(network, x, batch_size))
    columns["trace"] = trace
    columns["share"] = trace / (trace.sum() or 1.0)
    columns["rank"] = np.argsort(order) + 1
    scores = pd.DataFrame(columns)
    with storage.whole(out) as folder:
        scores.to_csv(folder / "scores.csv", index=False)
        figure = figures.suspects(shown, scores.iloc[order[:top]])
        figure.savefig(folder / "suspects.png", dpi=150)
    return scores


def _load(path):
    """The network of a file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            "Expected `model` to be the path of an existing .keras file. "
            f"Received: model={str(path)!r}. Check the spelling."
        )
    try:
        if path.suffix != ".keras" or not zipfile.is_zipfile(path):
            raise ValueError("not a .keras archive, or a truncated one")
        with zipfile.ZipFile(path) as archive:
            files.check_size(archive)
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever its layers do
        raise ValueError(
            "Expected `model` to be a whole .keras file of layers that Keras or keras_mgs knows. "
            f"Received: model={str(path)!r} ({files.one_line(error)}). "
            "Write it with `model.save('NAME.keras')`."
        ) from error
    network = model.model if isinstance(model, keras_mgs.MGSModel) else model
    checks.model(network)
    return network


def _read(path):
    """x and, if there are any, its labels, by their names in the file."""
    if not os.path.isfile(path):
        raise FileNotFoundError(
            "Expected `data` to be the path of an existing .npz file. "
            f"Received: data={os.fspath(path)!r}. Check the spelling."
        )
    return files.read_npz(path, _LAYOUTS)


def _fitting(model, x):
    """Images without channels as those with one, for a model that takes these."""
    inputs = list(getattr(model, "inputs", None) or [])  # a subclassed model may not know
    one_channel = len(inputs) == 1 and tuple(inputs[0].shape[x.ndim :]) == (1,)
    return x[..., None] if one_channel else x


def _outputs(model, x):
    """The number of raw outputs, from a sample that also shows whether the model takes it."""
    try:
        return len(outputs.predict(model, x[:1], 1)[0])
    except Exception as error:  # whatever the model's layers raise
        raise ValueError(
            f"Expected x to fit '{model.name}'. Received: an array of shape {x.shape} and dtype "
            f"{x.dtype} ({files.one_line(error)})."
        ) from error


def _labels(name, y, q):
    """Class labels (n,), or None where `y` are targets of a regression."""
    if y.dtype.kind == "f":
        checks.finite(name, y)
        if (y != np.round(y)).any():
            return None
        y = y.astype("int64")
    if y.ndim == 2 and y.shape[1] == q > 1 and np.isin(y, (0, 1)).all() and (y.sum(1) == 1).all():
        return y.argmax(axis=1)  # one-hot
    return images.labels(name, {name: y}).astype("int64")
