"""Tables and time series as a `Dataset`: what is no image, from packages that bring data along."""

import contextlib
import dataclasses
import functools
import importlib.util
from collections.abc import Callable

import numpy as np
from sklearn import datasets as bundled
from sklearn.model_selection import train_test_split

from keras_mgs import checks
from keras_mgs.experiments.data import datasets
from keras_mgs.experiments.data.dataset import Dataset

_TEST = 0.3  # of the samples of a table


def load(name, *, training_size=None, label_noise=0.0, noise_kind="uniform", seed=0):
    """Loads a table or time series, takes a training subset of it and adds noise by the seed.

    Inputs are standardised by all samples that may be trained on, and so are targets: the noise
    on them is in their standard deviations.

    Args:
        name: one of `TABLES`.
        training_size, label_noise, noise_kind, seed: as for `datasets.load`.

    Returns:
        A `Dataset` of inputs (n, features), or of series (n, steps, channels).

    Raises:
        ValueError: a bad argument.
        ImportError: the package that brings the data along is missing.
    """
    checks.choice("name", name, tuple(TABLES))
    return datasets.sample(
        functools.partial(_read, name),
        training_size=training_size,
        label_noise=label_noise,
        noise_kind=noise_kind,
        seed=seed,
    )


def available(name):
    """Whether the package that brings a table along is installed."""
    try:
        return name not in _EXTRA or importlib.util.find_spec(_EXTRA[name]) is not None
    except ValueError:  # of a module that was put there by hand, or None
        return False


def _read(name, rng):
    return _standardised(TABLES[name](name, rng))


def _standardised(raw):
    axes = tuple(range(raw.x_train.ndim - 1))  # of samples, and of a series also of time
    x_train, x_test = _scaled(raw.x_train, raw.x_test, axes)
    found = dataclasses.replace(raw, x_train=x_train, x_test=x_test)
    if raw.task == "regression":
        y_train, y_test = _scaled(raw.y_train, raw.y_test, 0)
        found = dataclasses.replace(found, y_train=y_train, y_test=y_test)
    return found


def _scaled(train, test, axes):
    """Both as float32, by mean and standard deviation of the first."""
    mean, std = train.mean(axis=axes), train.std(axis=axes)
    std = np.where(std > 0, std, 1)  # a constant feature tells nothing
    return tuple(((values - mean) / std).astype(np.float32) for values in (train, test))


def _split(name, task, x, y, rng):
    """A `Dataset` of a table that has no test set of its own."""
    stratify = y if task == "classification" else None
    parts = train_test_split(
        x, y, test_size=_TEST, stratify=stratify, random_state=int(rng.integers(2**32))
    )
    x_train, x_test, y_train, y_test = parts
    return Dataset(name, task, x_train, y_train, x_test, y_test)


def _bundled_classes(name, rng):
    found = getattr(bundled, f"load_{name}")()
    return _split(name, "classification", found.data, found.target.astype(np.int32), rng)


def _bundled_targets(name, rng):
    found = getattr(bundled, f"load_{name}")()
    return _split(name, "regression", found.data, found.target[:, None], rng)


def _diamonds(name, rng):
    """The logarithm of the price by weight, grades and measures."""
    with _extra():
        from plotnine.data import diamonds
    grades = {key: diamonds[key].cat.codes for key in ("cut", "color", "clarity")}
    x = diamonds.drop(columns="price").assign(**grades)
    y = np.log(diamonds[["price"]])
    return _split(name, "regression", x.to_numpy("float64"), y.to_numpy("float64"), rng)


def _japanese_vowels(name, rng):
    """Speakers by a vowel: twelve channels, each held at its last value until the longest ends."""
    with _extra():
        from sktime.datasets import load_japanese_vowels
    parts = [load_japanese_vowels(split, return_X_y=True) for split in ("TRAIN", "TEST")]
    steps = max(len(series) for x, _ in parts for series in x.iloc[:, 0])
    (x_train, y_train), (x_test, y_test) = ((_held(x, steps), _numbered(y)) for x, y in parts)
    return Dataset(name, "classification", x_train, y_train, x_test, y_test)


def _held(nested, steps):
    """Series of series as an array (n, steps, channels)."""
    rows = [[np.asarray(series) for series in row] for row in nested.to_numpy()]
    padded = [[np.pad(v, (0, steps - len(v)), mode="edge") for v in row] for row in rows]
    return np.moveaxis(np.array(padded), 1, 2)


def _numbered(y):
    """Labels from 1 on as classes from 0 on."""
    return np.asarray(y).astype(np.int32) - 1


@contextlib.contextmanager
def _extra():
    """Imports of the extra `zoo`."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"Some problems of the zoo need the extra `zoo`. Received: {error}. "
            'Install it: pip install "keras_mgs[zoo]"'
        ) from error


TABLES: dict[str, Callable] = {
    "breast_cancer": _bundled_classes,
    "wine": _bundled_classes,
    "diabetes": _bundled_targets,
    "diamonds": _diamonds,
    "japanese_vowels": _japanese_vowels,
}
_EXTRA = {"diamonds": "plotnine", "japanese_vowels": "sktime"}  # what they need, of the extra `zoo`
