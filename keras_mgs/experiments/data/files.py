"""Arrays of somebody's files: .npz, and Kaggle's .csv of facial keypoints."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from keras_mgs import storage


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


def read_csv(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
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


def one_line(error: Exception) -> str:
    """What an error says, for the middle of a sentence."""
    return " ".join(str(error).split()) or type(error).__name__


def _plain(array: Any) -> np.ndarray:
    """An array of something, no bytes without a shape, no records."""
    if not isinstance(array, np.ndarray) or array.dtype.kind == "V" or not array.dtype.itemsize:
        raise ValueError(f"no plain array: {getattr(array, 'dtype', 'bytes')}")
    return array
