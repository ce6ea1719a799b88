"""Tables and time series as a `Dataset`: what is no image, from packages that bring data along."""

import contextlib
import importlib.util
from collections.abc import Callable

import numpy as np
from sklearn import datasets as bundled

from keras_mgs.experiments.data.dataset import Dataset, divide
from keras_mgs.experiments.data.tables import standardised


def read(name, rng):
    """A table or series of `TABLES` as a `Dataset`, at its full size; split by a generator.

    Raises:
        ImportError: the package that brings the data along is missing.
    """
    return standardised(TABLES[name](name, rng))


def available(name):
    """Whether the package that brings a table along is installed."""
    try:
        return name not in _EXTRA or importlib.util.find_spec(_EXTRA[name]) is not None
    except ValueError:  # of a module that was put there by hand, or None
        return False


def _split(name, task, x, y, rng):
    """A `Dataset` of a table that has no test set of its own."""
    train, test = divide(len(x), rng, classes=y if task == "classification" else None)
    return Dataset(name, task, x[train], y[train], x[test], y[test])


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
