"""Noise on labels and on targets."""

from __future__ import annotations

import numbers
import sys
from typing import Any

import numpy as np


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
    check(share)
    if share > 1:
        raise error("a share between 0 and 1 for classification", share)
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
    check(scale)
    y = np.asarray(y)
    return (y + float(scale) * rng.standard_normal(y.shape)).astype(y.dtype)


def check(value: Any) -> None:
    """That it is a share, or a standard deviation."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not 0 <= value <= sys.float_info.max:
        raise error("a finite number of at least 0", value)


def error(expected: str, value: Any) -> ValueError:
    """What is wrong with one."""
    return ValueError(
        f"`label_noise` must be {expected}. Received: label_noise={value!r:.60}. "
        "Give 0 for clean labels."
    )
