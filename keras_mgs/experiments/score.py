"""What a model that is there already makes of each sample: its label, and its share of tr K."""

import os
import zipfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd

import keras_mgs
from keras_mgs import checks, labels, outputs, storage
from keras_mgs.data import inputs
from keras_mgs.experiments.data import files, images
from keras_mgs.experiments.reports import figures

_MOST = 1000  # samples that a picture has room for
_LAYOUTS = ((("x",), ("y",)), (("x_train",), ("y_train",)))


def score(model, data, *, out, top=16, batch_size=32, scaling=True, kind=None):
    """How doubtful each label is, and how far learning a sample moves the outputs for it.

    Writes the folder `out`, which appears complete: scores.csv, a row per sample in the order of
    the data, and suspects.png with the most doubtful of them; without labels, with those of the
    highest shares of tr K.

    Args:
        model: the path of a .keras file, of any Keras model or an `MGSModel`.
        data: the path of an .npz with x and, if there are labels, y; or x_train and y_train.
        out: a folder that does not exist yet, or is empty.
        top: how many samples the picture shows, at most 1000.
        batch_size: samples computed at a time.
        scaling: whether images of uint8 are divided by 255, as `compare` does.
        kind: of the labels, as for `keras_mgs.label_scores`; the loss is that in the model's file.

    Returns:
        A `pandas.DataFrame` with the columns index, given (the label), predicted (the class of the
        largest raw output, or whether the only one is positive), label_score
        (`keras_mgs.label_scores`), trace (`keras_mgs.sample_traces`), share (of their sum) and rank
        (1: the highest label_score). A regression has its numbers as given and predicted. Where
        samples have several labels or numbers there is neither; without labels there is no given
        and no label_score, and the rank is by the share.

    Raises:
        FileExistsError: `out` is a file, or a folder with something in it.
        FileNotFoundError, TypeError, ValueError: a file is missing or holds something else, the
            samples do not fit the model, or their labels do not.

    Reference: as for `keras_mgs.label_scores`; Szolnoky et al., NeurIPS 2022, supplement C; Martin
    and Elster, Neurocomputing 2020.
    """
    checks.count("top", top, most=_MOST)
    checks.count("batch_size", batch_size)
    storage.check_new("out", out)
    loaded = _load(model)
    network = loaded.model if isinstance(loaded, keras_mgs.MGSModel) else loaded
    checks.model(network)
    arrays = _read(data)
    (key, shown), *rest = arrays.items()
    x = _fitting(network, images.scale(shown) if scaling and shown.ndim > 2 else shown)
    inputs(key, network, x)
    _check_a_sample(network, x)
    columns = {"index": np.arange(len(x))}
    if rest:
        ((name, y),) = rest
        images.check_lengths(key, x, name, y)
        verdict = labels.judge(loaded, x, y, kind, batch_size)
        if verdict.given is not None:
            columns |= {"given": verdict.given, "predicted": verdict.predicted}
        columns["label_score"] = verdict.scores
    else:
        columns["predicted"] = outputs.classes(outputs.predict(network, x, batch_size))

    trace = keras_mgs.sample_traces(network, x, batch_size=batch_size).numpy().astype("float64")
    columns |= {"trace": trace, "share": trace / (trace.sum() or 1.0)}
    order = np.argsort(-columns.get("label_score", trace), kind="stable")
    columns["rank"] = np.argsort(order) + 1
    scores = pd.DataFrame(columns)
    with storage.whole(out) as folder:
        scores.to_csv(folder / "scores.csv", index=False)
        figure = figures.suspects(shown, scores.iloc[order[:top]])
        figure.savefig(folder / "suspects.png", dpi=150)
    return scores


def _load(path):
    """The model of a file, with its loss if Keras or keras_mgs knows it."""
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
        try:
            return keras.models.load_model(path)
        except Exception:  # a loss, metric or optimizer of somebody's own
            return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever its layers do
        raise ValueError(
            "Expected `model` to be a whole .keras file of layers that Keras or keras_mgs knows. "
            f"Received: model={str(path)!r} ({files.one_line(error)}). "
            "Write it with `model.save('NAME.keras')`."
        ) from error


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


def _check_a_sample(model, x):
    """That the model takes a sample."""
    try:
        outputs.predict(model, x[:1], 1)
    except Exception as error:  # whatever the model's layers raise
        raise ValueError(
            f"Expected x to fit '{model.name}'. Received: an array of shape {x.shape} and dtype "
            f"{x.dtype} ({files.one_line(error)})."
        ) from error
