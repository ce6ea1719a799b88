"""Arrays of somebody's files: .npz, .csv of a table, and Kaggle's .csv of facial keypoints."""

from __future__ import annotations

import math
import os
import warnings
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
            f"({one_line(error)}). Give Kaggle's training.csv as it is; of a table, name the "
            "column to learn (`compare --target NAME`)."
        ) from error
    return {"x": x.reshape(-1, side, side).astype(np.uint8), "y": y}


def read_table(path: str | os.PathLike[str], target: str) -> dict[str, np.ndarray]:
    """The features x, the target y and, if there is such a column, the split of a table.

    Args:
        path: an existing .csv: a line of names, then a row of values per sample.
        target: the name of the column to learn, of numbers or of texts.

    Raises:
        ValueError: it is something else, has missing values, or texts in other columns.
    """
    words = f"data={os.fspath(path)!r}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of values without a name
            frame = pd.read_csv(path, low_memory=False, index_col=False)
        if not len(frame):
            raise ValueError("it has no row below its names")
    except (OSError, ValueError, OverflowError, MemoryError, pd.errors.ParserWarning) as error:
        raise ValueError(
            "`data` must be a .csv file of a line of names and a row of values per sample, with "
            f"commas between them. Received: {words} ({one_line(error)}). "
            "Write it with `pandas.DataFrame.to_csv(index=False)`."
        ) from error
    if target not in frame:
        raise ValueError(
            "Expected `target` to be a column of the data. "
            f"Received: target={target!r}, with the columns {_names(frame)}. Check the spelling."
        )
    missing = frame.columns[(frame.isna() | frame.isin([math.inf, -math.inf])).any()]
    if len(missing):
        raise ValueError(
            "Expected a table without missing values. "
            f"Received: {words} with empty, NaN or infinite cells in {_names(missing)}. "
            "Fill them in, or remove these rows or columns."
        )
    y = frame.pop(target)
    split = {"split": frame.pop("split").to_numpy()} if "split" in frame else {}
    texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    if texts:
        raise ValueError(
            "Expected all columns but the target to be numbers. "
            f"Received: {words} with texts in {_names(texts)}. "
            "Number them, as `pandas.get_dummies` does, or remove them."
        )
    numbers = pd.api.types.is_numeric_dtype(y)  # True and False are, too
    x = frame.to_numpy("float64")
    return {"x": x, "y": y.to_numpy() if numbers else y.to_numpy("U"), **split}


def one_line(error: Exception) -> str:
    """What an error says, for the middle of a sentence."""
    return " ".join(str(error).split()) or type(error).__name__


def _names(columns: Any) -> str:
    """Some columns' names, in words."""
    names = [repr(str(name)) for name in columns]
    return ", ".join(names[:10]) + f" and {len(names) - 10} more" * (len(names) > 10)


def _plain(array: Any) -> np.ndarray:
    """An array of something, no bytes without a shape, no records."""
    if not isinstance(array, np.ndarray) or array.dtype.kind == "V" or not array.dtype.itemsize:
        raise ValueError(f"no plain array: {getattr(array, 'dtype', 'bytes')}")
    return array
