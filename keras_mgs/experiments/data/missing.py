"""Pixels and features that are missing."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np


def remove(x: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Sets each value to 0 with the probability `share`, independently of all others.

    Of standardised tables and series that is a feature's mean, of images black; a pixel is missing
    in all of its channels.

    Args:
        x: float (n, ...), samples; left as they are.
        share: float in [0, 1].
        rng: a NumPy `Generator`.

    Returns:
        A new array like x, or x itself where nothing is to be missing.

    Raises:
        ValueError: a share outside [0, 1].

    Reference: missing completely at random; Rubin, Biometrika 1976.
    """
    check(share)
    if share == 0:
        return x
    shape = (*x.shape[:-1], 1) if x.ndim == 4 else x.shape
    return np.where(rng.random(shape) < share, 0, x).astype(x.dtype)


def check(share: Any) -> None:
    """That it is a share."""
    real = isinstance(share, numbers.Real) and not isinstance(share, bool)
    if not real or not 0 <= share <= 1:
        raise ValueError(
            f"`missing` must be a share between 0 and 1. Received: missing={share!r:.60}. "
            "Give 0 for whole samples."
        )
