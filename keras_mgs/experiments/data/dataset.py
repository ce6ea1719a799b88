"""Training and test samples of one task."""

from __future__ import annotations

import dataclasses

import numpy as np


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
