"""MNIST-C's motion blur, bit for bit."""

from __future__ import annotations

import math

import numpy as np

# (radius, sigma) of MNIST-C's motion blur by severity.
SEVERITIES = {1: (10.0, 3.0), 2: (15.0, 5.0), 3: (15.0, 8.0), 4: (15.0, 12.0), 5: (20.0, 15.0)}


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
    if (
        angles.shape != images.shape[:1]
        or angles.dtype.kind not in "iuf"
        or not np.isfinite(angles).all()
    ):
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


def randomly_blurred(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Motion blur at severity 1 of images (n, h, w, c), one random angle per image."""
    angles = rng.uniform(-45, 45, len(x))
    radius, sigma = SEVERITIES[1]
    channels = [motion_blur(channel, angles, radius, sigma) for channel in np.moveaxis(x, -1, 0)]
    return np.stack(channels, axis=-1)
