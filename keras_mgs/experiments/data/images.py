"""Images with labels or targets as a `Dataset`, checked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keras_mgs.experiments.data.dataset import Dataset, divide


def classification(name: str, arrays: Mapping[str, np.ndarray]) -> Dataset:
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


def regression(name: str, arrays: Mapping[str, np.ndarray], rng: np.random.Generator) -> Dataset:
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
    train, test = divide(len(x), rng, arrays.get("split"))
    half = x.shape[1] / 2  # coordinates in pixels: from -1 to 1 over the image
    return Dataset(name, "regression", x[train], y[train], x[test], y[test], half, half)


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


def check_lengths(x_name: str, x: np.ndarray, y_name: str, y: np.ndarray) -> None:
    """As many of one as of the other."""
    if len(x) != len(y):
        raise ValueError(
            f"{x_name} and {y_name} must have one length. "
            f"Received: {len(x)} and {len(y)}. Store one row of {y_name} per sample."
        )


def scale(x: np.ndarray) -> np.ndarray:
    """Pixels 0 to 255 of uint8 images as float32 in [0, 1]; all else as it is."""
    return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x


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
