"""Data of the experiments: loading, subsets, label noise and MNIST-C's motion blur."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import os
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.utils import resample

from keras_mgs import storage

NAMES = ("digits", "mnist", "mnist_corrupted")
CORRUPTIONS = ("motion_blur",)
# (radius, sigma) of MNIST-C's motion blur by severity.
SEVERITIES = {1: (10.0, 3.0), 2: (15.0, 5.0), 3: (15.0, 8.0), 4: (15.0, 12.0), 5: (20.0, 15.0)}

TRAINING_SIZE = 3000  # the paper's training set
DIGITS_TRAINING_SIZE = 1000
_IMAGES = ("x_train", "y_train", "x_test", "y_test")
_KEYPOINTS = ("x", "y")


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test samples of one task.

    Args:
        name: str, the data's name or the file's without its ending.
        task: `"classification"` or `"regression"`.
        x_train, x_test: float32 images (n, h, w, channels), in [0, 1] if they came as uint8.
        y_train, y_test: int32 classes (n,), or float32 targets (n, t) in the data's own units.
        centre, spread: of targets: a network learns (y - centre) / spread.
    """

    name: str
    task: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    centre: float = 0.0
    spread: float = 1.0

    @property
    def outputs(self) -> int:
        """Number of classes, or of regression targets."""
        if self.task == "regression":
            return self.y_train.shape[1]
        return 1 + int(max(self.y_train.max(), self.y_test.max()))


def load(
    data: str | os.PathLike[str],
    *,
    corruption: str | None = None,
    training_size: int | None = None,
    label_noise: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """Loads a dataset, takes a training subset of it, and adds blur and label noise by the seed.

    Args:
        data: `"digits"`, `"mnist"`, `"mnist_corrupted"`, or the path of an .npz with either
            x_train, y_train, x_test, y_test (uint8 or already scaled float images (n, h, w) or
            (n, h, w, c), integer labels (n,) or (n, 1)), or x (n, h, w), y (n, t) and optionally
            split (n,) with 0 for train, 1 for validation and 2 for test; or that of Kaggle's .csv
            of facial keypoints: t columns of targets and Image, pixels with spaces between them,
            of which rows with missing values are dropped.
        corruption: None, or `"motion_blur"` for MNIST-C's at severity 1 (uint8 images only).
        training_size: int, training samples to draw, stratified by class. By default 3000 for
            classification, or all where there are fewer, and all for regression.
        label_noise: float, the share of training labels resampled uniformly over all classes, or
            the standard deviation of Gaussian noise on the training targets.
        seed: int >= 0. Split, subset, noise and blur have streams of their own, so that changing
            one of them leaves the others as they were.

    Returns:
        A `Dataset`; its test set is never subset or given label noise.

    Raises:
        ValueError: a bad argument, or a file that does not hold what is described above.
        FileNotFoundError: no such file, or a download that failed.
        ImportError: `"mnist_corrupted"` without tensorflow_datasets.
    """
    _check_data(data, corruption)
    return sample(
        functools.partial(_read, data),
        corruption=corruption,
        training_size=training_size,
        label_noise=label_noise,
        seed=seed,
    )


def sample(
    read: Callable[[np.random.Generator], Dataset],
    *,
    corruption: str | None = None,
    training_size: int | None = None,
    label_noise: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """What `load` does with data that `read` gives at their full size, split by a generator.

    Args:
        read: of a NumPy `Generator`: a `Dataset`.
        corruption, training_size, label_noise, seed: as for `load`.
    """
    _check_drawing(training_size, label_noise, seed)
    streams = np.random.SeedSequence(seed).spawn(5)
    split, subset, noise, blur_train, blur_test = map(np.random.default_rng, streams)

    raw = read(split)
    classification = raw.task == "classification"
    if classification and label_noise > 1:
        raise _noise_error("a share between 0 and 1 for classification", label_noise)
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
        x_train, x_test = _blur(x_train, blur_train), _blur(x_test, blur_test)
    if classification:
        y_train = resample_labels(y_train, label_noise, raw.outputs, noise)
    else:
        y_train = add_target_noise(y_train, label_noise, noise)
    return dataclasses.replace(
        raw, x_train=scale(x_train), y_train=y_train, x_test=scale(x_test), y_test=y_test
    )


def motion_blur(
    images: np.ndarray, angles: np.ndarray, radius: float = 10.0, sigma: float = 3.0
) -> np.ndarray:
    """Blurs each image along its angle as MNIST-C does, bit for bit (ImageMagick's blur).

    Args:
        images: uint8 (n, h, w).
        angles: float (n,), degrees.
        radius: float > 0; the blur has 2 * ceil(radius) + 1 taps.
        sigma: float > 0, standard deviation of the one-sided Gaussian weights, in pixels.

    Returns:
        uint8 (n, h, w).

    Raises:
        ValueError: another shape or dtype, angles that are not finite, or a radius or sigma <= 0.
    """
    images, angles = np.asarray(images), np.asarray(angles)
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ValueError(
            "`images` must be a uint8 array of shape (n, h, w). "
            f"Received: shape {images.shape}, dtype {images.dtype}. Blur before scaling."
        )
    if angles.shape != images.shape[:1] or angles.dtype.kind not in "iuf" or not _finite(angles):
        raise ValueError(
            f"`angles` must be {len(images)} finite numbers, one per image. "
            f"Received: shape {angles.shape}, dtype {angles.dtype}. Give one angle in degrees each."
        )
    if not (0 < radius < math.inf and 0 < sigma < math.inf):
        raise ValueError(
            "`radius` and `sigma` must be finite and greater than 0. "
            f"Received: radius={radius}, sigma={sigma}. `SEVERITIES` holds MNIST-C's."
        )
    taps = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    weights /= weights.sum()
    theta = np.deg2rad(angles.astype(np.float64))[:, None]
    offsets = np.ceil(np.stack([taps * np.sin(theta), taps * np.cos(theta)], axis=1) - 0.5)

    # The offsets are whole pixels, so many images share them: blur each such group with slices.
    patterns, group = np.unique(offsets.astype(np.int64), axis=0, return_inverse=True)
    height, width = images.shape[1:]
    margin = len(taps) - 1
    chunk = 1 + 2**18 // max(1, height * width)  # bounds the float64 temporaries
    blurred = np.empty_like(images)
    for index, (rows, columns) in enumerate(patterns):
        members = np.flatnonzero(group.ravel() == index)  # some NumPy 2.0 give group two axes
        for begin in range(0, len(members), chunk):
            some = members[begin : begin + chunk]
            edges = [(0, 0), (margin, margin), (margin, margin)]
            padded = np.pad(images[some], edges, mode="edge")
            total = np.zeros((len(some), height, width))
            for weight, row, column in zip(weights, rows + margin, columns + margin, strict=True):
                total += weight * padded[:, row : row + height, column : column + width]
            # The sum is rounded to 16 bits (257 steps per level), then cut down to 8 bits:
            # floor(floor(257 t + 1/2) / 257) = floor(t + 1/514).
            blurred[some] = np.floor(total + 1 / 514)
    return blurred


def resample_labels(
    y: np.ndarray, share: float, classes: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws round(share * n) labels anew, uniformly over all classes, the true one included.

    Args:
        y: int (n,), labels in 0 .. classes - 1; left as it is.
        share: float in [0, 1].
        classes: int > 0.
        rng: a NumPy `Generator`.

    Returns:
        A new array like y.

    Raises:
        ValueError: a share outside [0, 1].
    """
    _check_noise(share)
    if share > 1:
        raise _noise_error("a share between 0 and 1 for classification", share)
    y = np.array(y)
    chosen = rng.choice(len(y), size=round(share * len(y)), replace=False)
    y[chosen] = rng.integers(classes, size=len(chosen))
    return y


def add_target_noise(y: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Adds Gaussian noise of standard deviation scale to the targets.

    Args:
        y: float (n, t), in the data's own units; left as it is.
        scale: float >= 0, in the same units.
        rng: a NumPy `Generator`.

    Returns:
        A new array of y's shape and dtype.

    Raises:
        ValueError: a scale that is negative or not finite.
    """
    _check_noise(scale)
    y = np.asarray(y)
    return (y + float(scale) * rng.standard_normal(y.shape)).astype(y.dtype)


# Reading


def _read(data: str | os.PathLike[str], rng: np.random.Generator) -> Dataset:
    """The checked data at their full size, images still in their own dtype."""
    if data == "digits":
        return _digits(rng)
    if data == "mnist":
        return _classification("mnist", _download_mnist())
    if data == "mnist_corrupted":
        return _classification("mnist_corrupted", _download_mnist_corrupted())
    _check_exists(data)
    name = Path(data).stem
    if Path(data).suffix.lower() == ".csv":
        return _regression(name, _read_csv(data), rng)
    arrays = read_npz(data, ((_IMAGES, ()), (_KEYPOINTS, ("split",))))
    if set(_IMAGES) <= arrays.keys():
        return _classification(name, arrays)
    return _regression(name, arrays, rng)


def _digits(rng: np.random.Generator) -> Dataset:
    digits = load_digits()
    x, y = digits.images / 16, digits.target
    train = _draw(len(x), DIGITS_TRAINING_SIZE, y, rng)
    test = np.setdiff1d(np.arange(len(x)), train)
    values = (x[train], y[train], x[test], y[test])
    return _classification("digits", dict(zip(_IMAGES, values, strict=True)))


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
        f"The data '{name}' must be downloaded, and that failed. Received: {one_line(error)}. "
        "Check the network, or give the data as a file: `--data FILE.npz`."
    )


def one_line(error: Exception) -> str:
    """What an error says, for the middle of a sentence."""
    return " ".join(str(error).split()) or type(error).__name__


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


def _read_csv(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The images x and the targets y of the complete rows of Kaggle's layout."""
    try:
        frame = pd.read_csv(path).dropna()
        pixels = frame.pop("Image").str.split().tolist()
        x, y = np.array(pixels, "float64"), frame.to_numpy("float32")
        if not len(x):
            raise ValueError("no row without missing values")
        side = math.isqrt(x.shape[1])
        if side**2 != x.shape[1] or not np.isin(x, np.arange(256)).all():
            raise ValueError("Image with other than the bytes of a square")
    # KeyError: no Image; AttributeError: one of numbers; TypeError, OverflowError: others than
    # numbers, or too large; UnicodeError is a ValueError.
    except (
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise ValueError(
            "`data` must be a .csv of numbers, with a column Image of as many whole numbers from 0 "
            f"to 255, with spaces between them, in every row. Received: data={os.fspath(path)!r} "
            f"({one_line(error)}). Give Kaggle's training.csv as it is."
        ) from error
    return {"x": x.reshape(-1, side, side).astype(np.uint8), "y": y}


def read_npz(
    path: str | os.PathLike[str], layouts: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]
) -> dict[str, np.ndarray]:
    """The arrays of the first layout that a file has.

    Args:
        path: an existing .npz.
        layouts: names that a file must have, and names that it may have besides.

    Returns:
        Those arrays, by name.

    Raises:
        ValueError: not a whole .npz of plain arrays, of no such layout, or larger than memory.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("not an .npz archive, or a truncated one")
        with np.load(path, allow_pickle=False) as file:
            found = sorted(file.files)
            for required, optional in layouts:
                if set(required) <= set(found):
                    names = [*required, *(key for key in optional if key in found)]
                    check_size(file.zip, [f"{name}{end}" for name in names for end in ("", ".npy")])
                    return {key: _plain(file[key]) for key in names}
    except Exception as error:  # what `zipfile`, `zlib` and NumPy raise of others' bytes has no end
        raise ValueError(
            "`data` must be a whole .npz file of plain arrays, without pickled objects. "
            f"Received: data={os.fspath(path)!r} ({one_line(error)}). "
            "Write it with `numpy.savez_compressed`."
        ) from error
    words = [
        ", ".join(required) + f" and optionally {', '.join(optional)}" * bool(optional)
        for required, optional in layouts
    ]
    raise ValueError(
        f"`data` must hold the arrays {', or '.join(words)}. "
        f"Received: data={os.fspath(path)!r} with {found[:10]}. "
        "Rename or add the missing ones."
    )


def _plain(array: Any) -> np.ndarray:
    """An array of something, no bytes without a shape, no records."""
    if not isinstance(array, np.ndarray) or array.dtype.kind == "V" or not array.dtype.itemsize:
        raise ValueError(f"no plain array: {getattr(array, 'dtype', 'bytes')}")
    return array


def check_size(archive: zipfile.ZipFile, names: Sequence[str] | None = None) -> None:
    """That members, or all, fit into memory three times, as work takes, before one is unpacked.

    No more is ever unpacked of a member than the archive says; a shape that claims more fails.
    """
    members = [info for info in archive.infolist() if names is None or info.filename in names]
    size, free = sum(info.file_size for info in members), storage.free_memory()
    if 3 * size > free:
        raise ValueError(
            f"it unpacks to {size / 2**30:.3g} GiB, and {free / 2**30:.3g} GiB of memory are free"
        )


# Checking


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
    _check_noise(label_noise)


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _check_noise(value: Any) -> None:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not 0 <= value <= sys.float_info.max:
        raise _noise_error("a finite number of at least 0", value)


def _noise_error(expected: str, value: Any) -> ValueError:
    return ValueError(
        f"`label_noise` must be {expected}. Received: label_noise={value!r:.60}. "
        "Give 0 for clean labels."
    )


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


def _classification(name: str, arrays: Mapping[str, np.ndarray]) -> Dataset:
    """Checked images and labels."""
    x_train, x_test = _images("x_train", arrays), _images("x_test", arrays)
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            "x_train and x_test must hold images of one shape. "
            f"Received: {x_train.shape[1:]} and {x_test.shape[1:]}. Crop or resize one of them."
        )
    y_train, y_test = labels("y_train", arrays), labels("y_test", arrays)
    check_lengths("x_train", x_train, "y_train", y_train)
    check_lengths("x_test", x_test, "y_test", y_test)
    unseen = np.setdiff1d(y_test, y_train)
    if unseen.size:
        raise ValueError(
            "y_test must hold only classes of y_train. "
            f"Received: {unseen[:5].tolist()} in y_test alone. Remove these samples."
        )
    if len(np.unique(y_train)) < 2:
        raise ValueError(
            "y_train must hold at least 2 classes. "
            f"Received: class {y_train[0]} alone. Add samples of another class."
        )
    return Dataset(name, "classification", x_train, y_train, x_test, y_test)


def _regression(name: str, arrays: Mapping[str, np.ndarray], rng: np.random.Generator) -> Dataset:
    """Checked images and targets, divided by the file's split or by the seed."""
    x, y = _images("x", arrays, channels=False), arrays["y"]
    if y.ndim != 2 or y.size == 0 or y.dtype.kind != "f":
        raise ValueError(
            "y must be a non-empty float array of shape (n, t). "
            f"Received: shape {y.shape}, dtype {y.dtype}. Store one row of targets per image, and "
            "class labels as y_train and y_test."
        )
    y = _as_float32("y", y)
    check_lengths("x", x, "y", y)
    if "split" in arrays:
        split = arrays["split"]
        good = split.shape == (len(x),) and split.dtype.kind in "iu" and np.isin(split, [0, 1, 2])
        if not np.all(good):
            raise ValueError(
                f"split must be {len(x)} integers, 0 for train, 1 for validation, 2 for test. "
                f"Received: shape {split.shape}, dtype {split.dtype}, "
                f"values {np.unique(split)[:5].tolist()}. Remove it for a random split."
            )
        train, test = np.flatnonzero(split == 0), np.flatnonzero(split == 2)
    elif len(x) > 1:
        train, test = train_test_split(np.arange(len(x)), test_size=0.3, random_state=_state(rng))
    else:
        train = test = np.arange(0)
    if not (train.size and test.size):
        raise ValueError(
            "x and y must hold at least one training and one test sample. "
            f"Received: {train.size} and {test.size} of {len(x)}. Add samples or mend split."
        )
    half = x.shape[1] / 2  # coordinates in pixels: from -1 to 1 over the image
    return Dataset(name, "regression", x[train], y[train], x[test], y[test], half, half)


def _images(key: str, arrays: Mapping[str, np.ndarray], channels: bool = True) -> np.ndarray:
    """Images (n, h, w, c), as uint8 or as finite float32."""
    x = arrays[key]
    if x.ndim not in ((3, 4) if channels else (3,)):
        raise ValueError(
            f"{key} must be images of shape (n, h, w){' or (n, h, w, c)' if channels else ''}. "
            f"Received: shape {x.shape}. Reshape it."
        )
    if x.size == 0:
        raise ValueError(
            f"{key} must hold at least one image. Received: shape {x.shape}. Add samples."
        )
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise ValueError(
            f"{key} must be uint8, or float and already scaled. "
            f"Received: dtype {x.dtype}. Convert it."
        )
    x = x if x.dtype == np.uint8 else _as_float32(key, x)
    return x[..., None] if x.ndim == 3 else x


def labels(key: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Class labels int32 (n,)."""
    y = arrays[key]
    if y.ndim not in (1, 2) or y.shape[1:] not in ((), (1,)):
        raise ValueError(
            f"{key} must be labels of shape (n,) or (n, 1). "
            f"Received: shape {y.shape}. Turn one-hot labels into integers with argmax."
        )
    if y.dtype.kind not in "iu":
        raise ValueError(
            f"{key} must be integer class labels. Received: dtype {y.dtype}. Convert it, e.g. "
            "with `astype('int32')`."
        )
    if y.size and not (y.min() >= 0 and y.max() < np.iinfo(np.int32).max):
        raise ValueError(
            f"{key} must be class labels counted from 0. "
            f"Received: labels from {y.min()} to {y.max()}. Number the classes anew."
        )
    return y.ravel().astype(np.int32)


def _as_float32(key: str, array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
        array = array.astype(np.float32)
    if not _finite(array):
        bad = int(array.size - np.isfinite(array).sum())
        raise ValueError(
            f"{key} must be finite. Received: {bad} of its {array.size} values NaN, infinite or "
            "beyond float32. Remove or fill in these samples."
        )
    return array


def _finite(array: np.ndarray) -> bool:
    return bool(np.isfinite(array).all())


def check_lengths(x_name: str, x: np.ndarray, y_name: str, y: np.ndarray) -> None:
    """As many of one as of the other."""
    if len(x) != len(y):
        raise ValueError(
            f"{x_name} and {y_name} must have one length. "
            f"Received: {len(x)} and {len(y)}. Store one row of {y_name} per image."
        )


# Drawing


def _draw(
    available: int, size: int, stratify: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """Indices of a sample without replacement, in random order."""
    # Unlike train_test_split, resample also takes classes of one sample and nearly all samples.
    everyone = np.arange(available)
    return resample(
        everyone, replace=False, n_samples=size, stratify=stratify, random_state=_state(rng)
    )


def _state(rng: np.random.Generator) -> int:
    """A seed for scikit-learn, which takes no Generator."""
    return int(rng.integers(2**32))


def _blur(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Motion blur at severity 1 of images (n, h, w, c), one random angle per image."""
    angles = rng.uniform(-45, 45, len(x))
    radius, sigma = SEVERITIES[1]
    channels = [motion_blur(channel, angles, radius, sigma) for channel in np.moveaxis(x, -1, 0)]
    return np.stack(channels, axis=-1)


def scale(x: np.ndarray) -> np.ndarray:
    """Pixels 0 to 255 of uint8 images as float32 in [0, 1]; all else as it is."""
    return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x
