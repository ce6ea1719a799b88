"""Loading the data of experiments: subsets, blur and label noise, by the seed."""

from __future__ import annotations

import dataclasses
import functools
import numbers
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.utils import resample

from keras_mgs import checks
from keras_mgs.experiments.catalogue.names import NOISES
from keras_mgs.experiments.data import files, images, missing, motion_blur, noise, tables, tabular
from keras_mgs.experiments.data.dataset import Dataset

NAMES = ("digits", "mnist", "mnist_corrupted", *tabular.TABLES)
CORRUPTIONS = ("motion_blur",)

TRAINING_SIZE = 3000  # the paper's training set
DIGITS_TRAINING_SIZE = 1000
_IMAGES = ("x_train", "y_train", "x_test", "y_test")
_KEYPOINTS = ("x", "y")


def load(
    data: str | os.PathLike[str],
    *,
    target: str | None = None,
    task: str | None = None,
    kind: str | None = None,
    corruption: str | None = None,
    training_size: int | None = None,
    label_noise: float = 0.0,
    noise_kind: str = "uniform",
    missing_share: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """Loads a dataset, takes a training subset of it, and adds blur and label noise by the seed.

    Args:
        data: one of `NAMES`, or the path of an .npz of images with either
            x_train, y_train, x_test, y_test (uint8 or already scaled float images (n, h, w) or
            (n, h, w, c), integer labels (n,) or (n, 1)), or x (n, h, w), y (n, t) and optionally
            split (n,) with 0 for train, 1 for validation and 2 for test; or that of Kaggle's .csv
            of facial keypoints: t columns of targets and Image, pixels with spaces between them,
            of which rows with missing values are dropped. Tables and series are of these layouts
            of an .npz, too, with two or three axes, or a .csv with a column to learn: see `tables`.
        target: the column of a .csv to learn, which makes it a table.
        task: "classification" or "regression", of tables and series whose targets may be both.
        kind: "images" or "series", of samples of three axes; by default images if all
            values lie in [0, 1] or are whole numbers up to 255.
        corruption: None, or `"motion_blur"` for MNIST-C's at severity 1 (uint8 images only).
        training_size: int, training samples to draw, stratified by class. By default 3000 for
            classification, or all where there are fewer, and all for regression.
        label_noise: float, the share of training labels that are made wrong, or the standard
            deviation of Gaussian noise on the training targets, which those of tables and series
            are measured in.
        noise_kind: one of `names.NOISES`: how labels are made wrong.
        missing_share: float, how likely each value of a sample is missing, of training and test
            samples alike: see `missing.remove`.
        seed: int >= 0. Split, subset, noise, blur and missing values have streams of their own, so
            that changing one of them leaves the others as they were.

    Returns:
        A `Dataset`; its test set is never subset or given label noise.

    Raises:
        ValueError: a bad argument, or a file that does not hold what is described above.
        FileNotFoundError: no such file, or a download that failed.
        ImportError: `"mnist_corrupted"` without tensorflow_datasets.
    """
    _check_data(data, corruption)
    return sample(
        functools.partial(_read, data, target, task, kind),
        corruption=corruption,
        training_size=training_size,
        label_noise=label_noise,
        noise_kind=noise_kind,
        missing_share=missing_share,
        seed=seed,
    )


def sample(
    read: Callable[[np.random.Generator], Dataset],
    *,
    corruption: str | None = None,
    training_size: int | None = None,
    label_noise: float = 0.0,
    noise_kind: str = "uniform",
    missing_share: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """What `load` does with data that `read` gives at their full size, split by a generator.

    Args:
        read: of a NumPy `Generator`: a `Dataset`.
        corruption, training_size, label_noise, noise_kind, missing_share, seed: as for `load`.
    """
    _check_drawing(training_size, label_noise, seed)
    checks.choice("noise_kind", noise_kind, NOISES)
    missing.check(missing_share)
    streams = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(7))
    split, subset, noisy, blur_train, blur_test, missing_train, missing_test = streams

    raw = read(split)
    classification = raw.task == "classification"
    if classification and label_noise > 1:
        raise noise.error("a share between 0 and 1 for classification", label_noise)
    if not classification and noise_kind != "uniform":
        raise ValueError(
            "Expected `noise` to be left out where targets are numbers, to which Gaussian noise is "
            f"added. Received: noise={noise_kind!r} with the data '{raw.name}'."
        )
    if corruption is not None:
        _check_blurrable(raw)
    size = _training_size(raw, training_size)

    chosen = _draw(len(raw.x_train), size, raw.y_train if classification else None, subset)
    x_train, y_train, x_test, y_test = (
        raw.x_train[chosen],
        raw.y_train[chosen],
        raw.x_test,
        raw.y_test,
    )
    if corruption == "motion_blur":
        x_train, x_test = (
            motion_blur.randomly_blurred(x_train, blur_train),
            motion_blur.randomly_blurred(x_test, blur_test),
        )
    y_clean = y_train if classification else None
    if classification:
        y_train = noise.corrupt_labels(
            noise_kind, x_train, y_train, label_noise, raw.outputs, noisy
        )
    else:
        y_train = noise.add_target_noise(y_train, label_noise, noisy)
    return dataclasses.replace(
        raw,
        x_train=missing.remove(images.scale(x_train), missing_share, missing_train),
        y_train=y_train,
        x_test=missing.remove(images.scale(x_test), missing_share, missing_test),
        y_test=y_test,
        y_clean=y_clean,
    )


def _read(
    data: str | os.PathLike[str],
    target: str | None,
    task: str | None,
    kind: str | None,
    rng: np.random.Generator,
) -> Dataset:
    """The checked data at their full size, images still in their own dtype."""
    is_csv = data not in NAMES and Path(data).suffix.lower() == ".csv"
    if target is not None and not is_csv:
        raise ValueError(
            "Expected `target` to be left out but for the column of a .csv. "
            f"Received: target={target!r} with data={str(data)!r}."
        )
    raw = _named(data, rng) if data in NAMES else _file(data, target, task, kind, rng)
    for name, wanted, found in (("task", task, raw.task), ("kind", kind, raw.kind)):
        if wanted not in (None, found):
            raise ValueError(
                f"Expected `{name}` to be {found!r} or left out for the data '{raw.name}'. "
                f"Received: {name}={wanted!r}."
            )
    return raw


def _named(data: Any, rng: np.random.Generator) -> Dataset:
    """One of `NAMES`."""
    if data == "digits":
        return _digits(rng)
    if data == "mnist":
        return images.classification("mnist", _download_mnist())
    if data == "mnist_corrupted":
        return images.classification("mnist_corrupted", _download_mnist_corrupted())
    return tabular.read(data, rng)


def _file(data, target, task, kind, rng) -> Dataset:
    """That of somebody."""
    _check_exists(data)
    name = Path(data).stem
    if target is not None:
        return tables.read(name, files.read_table(data, target), task, rng)
    if Path(data).suffix.lower() == ".csv":
        return images.regression(name, files.read_csv(data), rng)
    arrays = files.read_npz(data, ((_IMAGES, ()), (_KEYPOINTS, ("split",))))
    if _kind(next(iter(arrays.values())), kind) != "images":
        return tables.read(name, arrays, task, rng)
    if set(_IMAGES) <= arrays.keys():
        return images.classification(name, arrays)
    return images.regression(name, arrays, rng)


def _kind(x: np.ndarray, kind: str | None) -> str:
    """What samples are: of three axes what they are said to be, or else by their values."""
    if x.ndim != 3:
        return "table" if x.ndim == 2 else "images"
    if kind or x.dtype.kind != "f":
        return kind or "images"
    values = x[np.isfinite(x)]
    pixels = (values >= 0) & ((values <= 1) | ((values <= 255) & (values == np.rint(values))))
    return "images" if pixels.all() else "series"


def _digits(rng: np.random.Generator) -> Dataset:
    digits = load_digits()
    x, y = digits.images / 16, digits.target
    train = _draw(len(x), DIGITS_TRAINING_SIZE, y, rng)
    test = np.setdiff1d(np.arange(len(x)), train)
    values = (x[train], y[train], x[test], y[test])
    return images.classification("digits", dict(zip(_IMAGES, values, strict=True)))


def _download_mnist() -> dict[str, np.ndarray]:
    from keras.datasets import mnist

    try:
        train, test = mnist.load_data()
    except Exception as error:  # Keras raises bare Exception where a download fails
        raise _download_error("mnist", error) from error
    return dict(zip(_IMAGES, (*train, *test), strict=True))


def _download_mnist_corrupted() -> dict[str, np.ndarray]:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            "The data 'mnist_corrupted' need the package tensorflow_datasets. "
            f'Received: {error}. Install it: `pip install "keras_mgs[datasets]"`.'
        ) from error
    try:
        splits = tfds.load("mnist_corrupted/motion_blur", split=["train", "test"], batch_size=-1)
        train, test = tfds.as_numpy(splits)
    except Exception as error:  # its downloader has no common exception either
        raise _download_error("mnist_corrupted", error) from error
    values = (train["image"], train["label"], test["image"], test["label"])
    return dict(zip(_IMAGES, values, strict=True))


def _download_error(name: str, error: Exception) -> FileNotFoundError:
    return FileNotFoundError(
        f"The data '{name}' must be downloaded, and that failed. "
        f"Received: {files.one_line(error)}. "
        "Check the network, or give the data as a file: `--data FILE.npz`."
    )


def _check_exists(path: str | os.PathLike[str]) -> None:
    """That there is such a file, no pipe or device: it may be a misspelt name."""
    if not os.path.isfile(path):
        if os.path.lexists(path):
            raise ValueError(
                "`data` must be a whole .npz file, or a .csv file. "
                f"Received: data={os.fspath(path)!r}, which is none. Give a regular file."
            )
        # A bare word is a misspelt name; anything else was meant as a path.
        bare = not Path(path).suffix and os.fspath(path) == Path(path).name
        raise (ValueError if bare else FileNotFoundError)(
            f"`data` must be one of {', '.join(map(repr, NAMES))}, or the path of an existing .npz "
            f"or .csv file. Received: data={os.fspath(path)!r}. Check the spelling."
        )


def _check_data(data: Any, corruption: Any) -> None:
    """What can be said before any data are read."""
    if not isinstance(data, (str, os.PathLike)):
        raise ValueError(
            "`data` must be a name or the path of an .npz file. "
            f"Received: data={data!r}. The names are {', '.join(NAMES)}."
        )
    if corruption is not None and corruption not in CORRUPTIONS:
        raise ValueError(
            f"`corruption` must be None or one of {', '.join(map(repr, CORRUPTIONS))}. "
            f"Received: corruption={corruption!r}. Check the spelling."
        )
    if corruption is not None and data == "mnist_corrupted":
        raise ValueError(
            "`corruption` must be None for data that are already blurred. "
            f"Received: corruption={corruption!r} with data={data!r}. "
            "Leave the corruption out, or take 'mnist'."
        )


def _check_drawing(training_size: Any, label_noise: Any, seed: Any) -> None:
    """What can be said before any are drawn."""
    if training_size is not None and (not _is_integer(training_size) or training_size < 1):
        raise ValueError(
            "`training_size` must be None or an integer greater than 0. "
            f"Received: training_size={training_size!r}. Leave it out for the default size."
        )
    if not _is_integer(seed) or not 0 <= seed < 2**32:
        raise ValueError(
            f"`seed` must be an integer below 2**32 and at least 0. Received: seed={seed!r:.60}. "
            "Give one, so that the run can be repeated."
        )
    noise.check(label_noise)


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _check_blurrable(raw: Dataset) -> None:
    if raw.x_train.dtype != np.uint8 or raw.x_test.dtype != np.uint8:
        raise ValueError(
            "`corruption` must be None unless the data are uint8 images. Received: the data "
            f"'{raw.name}' with images of dtype {raw.x_train.dtype} and {raw.x_test.dtype}. "
            "Leave the corruption out."
        )


def _training_size(raw: Dataset, size: int | None) -> int:
    """The size asked for, or the default, if there are enough samples for it."""
    available = len(raw.x_train)
    classification = raw.task == "classification"
    least = raw.outputs if classification else 1
    if size is None:
        size = min(TRAINING_SIZE, available) if classification else available
    if not least <= size <= available:
        what = "classes" if classification else "sample"
        raise ValueError(
            f"`training_size` must be at least {least} (the data's {what}) and at most {available} "
            f"(its training samples). Received: training_size={size}. Choose one within."
        )
    return int(size)


def _draw(
    available: int, size: int, stratify: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """Indices of a sample without replacement, in random order."""
    # Unlike train_test_split, resample also takes classes of one sample and nearly all samples.
    everyone = np.arange(available)
    return resample(
        everyone,
        replace=False,
        n_samples=size,
        stratify=stratify,
        random_state=int(rng.integers(2**32)),  # which takes no Generator
    )
