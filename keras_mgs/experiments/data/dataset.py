"""Training and test samples of one task, and how samples are divided into them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

_TEST = 0.3  # of the samples that are not divided yet
_KINDS = {2: "table", 3: "series", 4: "images"}  # by the axes of the inputs


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test samples of one task.

    Args:
        name: str, the data's name or the file's without its ending.
        task: `"classification"` or `"regression"`.
        x_train, x_test: float32 images (n, h, w, channels), in [0, 1] if they came as uint8; or
            standardised tables (n, features) or series (n, steps, features).
        y_train, y_test: int32 classes (n,), or float32 targets (n, t): of images in the data's own
            units, of tables and series standardised.
        centre, spread: of targets: a network learns (y - centre) / spread.
        y_clean: int32 (n,), y_train as it was before labels were made wrong; None: as it is.
    """

    name: str
    task: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    centre: float = 0.0
    spread: float = 1.0
    y_clean: np.ndarray | None = None

    @property
    def outputs(self) -> int:
        """Number of classes, or of regression targets."""
        if self.task == "regression":
            return self.y_train.shape[1]
        return 1 + int(max(self.y_train.max(), self.y_test.max()))

    def part(self, index: Any) -> Dataset:
        """The same with the training samples of this index alone."""
        clean = None if self.y_clean is None else self.y_clean[index]
        x, y = self.x_train[index], self.y_train[index]
        return dataclasses.replace(self, x_train=x, y_train=y, y_clean=clean)

    @property
    def noise_matrix(self) -> np.ndarray:
        """float64 (classes, classes), T: of the training samples of class i T[i, j] are called j.

        A class that no training sample is of is never mistaken.
        """
        clean = self.y_train if self.y_clean is None else self.y_clean
        counts = np.zeros((self.outputs, self.outputs))
        np.add.at(counts, (clean, self.y_train), 1)
        unseen = counts.sum(axis=1) == 0
        counts[unseen, unseen] = 1
        return counts / counts.sum(axis=1, keepdims=True)

    @property
    def noise_share(self) -> float:
        """The share of the training labels that are wrong."""
        return 0.0 if self.y_clean is None else float(np.mean(self.y_train != self.y_clean))

    @property
    def kind(self) -> str:
        """ "images", "table" or "series"."""
        return _KINDS[self.x_train.ndim]


def divide(
    n: int,
    rng: np.random.Generator,
    split: np.ndarray | None = None,
    classes: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training and test samples.

    Args:
        n: int, samples.
        rng: a NumPy `Generator`.
        split: int (n,), 0 for train, 1 for validation and 2 for test; None: a test set is drawn.
        classes: int (n,): training and test set are to have the same shares of them; or None.

    Raises:
        ValueError: split is something else, or there are too few samples.
    """
    if split is not None:
        good = split.shape == (n,) and split.dtype.kind in "iu" and np.isin(split, [0, 1, 2])
        if not np.all(good):
            raise ValueError(
                f"split must be {n} integers, 0 for train, 1 for validation, 2 for test. "
                f"Received: shape {split.shape}, dtype {split.dtype}, "
                f"values {np.unique(split)[:5].tolist()}. Remove it for a random split."
            )
        train, test = np.flatnonzero(split == 0), np.flatnonzero(split == 2)
    elif n > 1:
        try:
            train, test = train_test_split(
                np.arange(n),
                test_size=_TEST,
                stratify=classes,
                random_state=int(rng.integers(2**32)),
            )
        except ValueError as error:
            raise ValueError(
                "Expected samples enough to draw a test set that has each class, too. "
                f"Received: {n} samples ({error}). Add samples, remove rare classes, or, where the "
                "target is a number, give the task regression."
            ) from error
    else:
        train = test = np.arange(0)
    if not (train.size and test.size):
        raise ValueError(
            "x and y must hold at least one training and one test sample. "
            f"Received: {train.size} and {test.size} of {n}. Add samples or mend split."
        )
    return train, test
