"""Tables and time series of somebody's files as a `Dataset`, checked and standardised."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mgs.experiments.data.dataset import Dataset, divide
from keras_mgs.experiments.data.images import check_lengths

_CLASSES = 20  # whole numbers of more values than this are taken for a regression
_LARGEST = np.finfo(np.float32).max


def read(
    name: str, arrays: Mapping[str, np.ndarray], task: str | None, rng: np.random.Generator
) -> Dataset:
    """Checked tables or series, divided as the file says, or else by a generator.

    Args:
        name: of the data.
        arrays: x (n, features) or (n, steps, features), y of numbers or texts and optionally split;
            or x_train, y_train, x_test and y_test.
        task: "classification", "regression" or None: by y. Texts, and few different whole numbers,
            are classes.
        rng: a NumPy `Generator`.

    Raises:
        ValueError: they are something else.
    """
    for key in arrays.keys() & {"y", "y_train", "y_test"}:
        _check_targets(key, arrays[key])
    if "x" in arrays:
        x, y = _inputs("x", arrays["x"]), arrays["y"]
        check_lengths("x", x, "y", y)
        split = arrays.get("split")
    else:
        x, y, split = _joined(arrays)
    task = task or _guessed(y)
    if task == "regression":
        y = _numbers(y)
        train, test = divide(len(x), rng, split)
    else:
        y = _classes(y)
        train, test = divide(len(x), rng, split, y)
        _check_classes(y[train], y[test])
    return standardised(Dataset(name, task, x[train], y[train], x[test], y[test]))


def standardised(raw: Dataset) -> Dataset:
    """Inputs, and targets of a regression, by mean and standard deviation of the training set."""
    axes = tuple(range(raw.x_train.ndim - 1))  # of samples, and of a series also of time
    x_train, x_test = _scaled(raw.x_train, raw.x_test, axes)
    found = dataclasses.replace(raw, x_train=x_train, x_test=x_test)
    if raw.task == "regression":
        y_train, y_test = _scaled(raw.y_train, raw.y_test, 0)
        found = dataclasses.replace(found, y_train=y_train, y_test=y_test)
    return found


def _scaled(train: np.ndarray, test: np.ndarray, axes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as float32, by mean and standard deviation of the first."""
    mean, std = train.mean(axis=axes), train.std(axis=axes)
    std = np.where(std > 0, std, 1)  # a constant feature tells nothing
    return ((train - mean) / std).astype(np.float32), ((test - mean) / std).astype(np.float32)


def _joined(arrays):
    """Inputs, targets and split of training and test samples."""
    parts = [(f"x_{part}", f"y_{part}") for part in ("train", "test")]
    (x_train, y_train), (x_test, y_test) = ((arrays[x], arrays[y]) for x, y in parts)
    for what, one, other in (("x", x_train, x_test), ("y", y_train, y_test)):
        if one.shape[1:] != other.shape[1:] or _is_text(one) != _is_text(other):
            raise ValueError(
                f"{what}_train and {what}_test must hold samples of one shape and kind. "
                f"Received: shape {one.shape} of {one.dtype} and shape {other.shape} of "
                f"{other.dtype}. Make them alike."
            )
    found = [_inputs(x, arrays[x]) for x, _ in parts]
    for (x, y), inputs in zip(parts, found, strict=True):
        check_lengths(x, inputs, y, arrays[y])
    split = np.repeat([0, 2], [len(x_train), len(x_test)])
    return np.concatenate(found), np.concatenate([y_train, y_test]), split


def _inputs(key, x):
    """Numbers, as float64."""
    if x.dtype.kind not in "biuf":
        raise ValueError(
            f"{key} must hold numbers. Received: dtype {x.dtype}. Number the words, or leave out "
            "what they stand in."
        )
    if x.size == 0:
        raise ValueError(
            f"{key} must hold at least one sample with a feature. Received: shape {x.shape}. "
            "Add samples."
        )
    x = x.astype(np.float64)
    bad = ~(np.abs(x) <= _LARGEST).all(axis=tuple(range(x.ndim - 1)))
    if bad.any():
        raise ValueError(
            f"{key} must be finite. Received: NaN, infinite or beyond float32 in the features "
            f"{np.flatnonzero(bad)[:10].tolist()} of {x.shape[-1]}, counted from 0. Remove or fill "
            "in these samples."
        )
    return x


def _check_targets(key, y):
    """That they are numbers, or a text each."""
    good = y.dtype.kind in "biufUS" and y.ndim in (1, 2) and y.size > 0
    if not good or (_is_text(y) and y.size != len(y)):
        raise ValueError(
            f"{key} must be numbers of shape (n,) or (n, t), or texts of shape (n,). "
            f"Received: shape {y.shape}, dtype {y.dtype}. Store one row per sample."
        )
    if not _is_text(y) and not (np.abs(y) <= _LARGEST).all():
        raise ValueError(
            f"{key} must be finite. Received: NaN, infinite or beyond float32 among its values. "
            "Remove these samples."
        )


def _is_text(y):
    return y.dtype.kind in "bUS"


def _guessed(y):
    """The task: texts, and few different whole numbers, are classes."""
    if _is_text(y):
        return "classification"
    few = y.size == len(y) and (y == np.round(y)).all() and len(np.unique(y)) <= _CLASSES
    return "classification" if few else "regression"


def _numbers(y):
    """Targets of a regression, float64 (n, t)."""
    if _is_text(y):
        raise ValueError(
            "Expected targets of a regression to be numbers. "
            f"Received: {', '.join(map(repr, np.unique(y)[:5].tolist()))}. Leave the task out."
        )
    return y.reshape(len(y), -1).astype(np.float64)


def _classes(y):
    """Values as classes, int32 (n,)."""
    if y.size != len(y):
        raise ValueError(
            f"Expected classes as one number or text per sample. Received: shape {y.shape}. Turn "
            "one-hot labels into integers with argmax."
        )
    values, y = np.unique(y.ravel(), return_inverse=True)
    if len(values) < 2:
        raise ValueError(
            "Expected a target of at least 2 classes. "
            f"Received: {values[0].item()!r} alone. Add samples of another class, or choose "
            "another target."
        )
    return y.astype(np.int32)


def _check_classes(train, test):
    """That the training samples have all classes."""
    missing = np.setdiff1d(test, train)
    if missing.size or len(np.unique(train)) < 2:
        raise ValueError(
            "Expected the training samples to have all classes, of which there are at least 2. "
            f"Received: {len(np.unique(train))} of {1 + max(train.max(), test.max())}. Mend the "
            "split, or remove it for a random one."
        )
