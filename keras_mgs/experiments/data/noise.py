"""Noise on labels and on targets.

Labels are made wrong in one of the ways of `names.NOISES`: "uniform" is `resample_labels`, "pair"
`next_labels`, and "instance" `mistaken_labels`.
"""

from __future__ import annotations

import numbers
import sys
import warnings
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier

_WEAK = 0.1  # the share of the samples that a weak model has seen


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
    y, count = _copied(y, share)
    chosen = rng.choice(len(y), size=count, replace=False)
    y[chosen] = rng.integers(classes, size=count)
    return y


def next_labels(y: np.ndarray, share: float, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Moves round(share * n) labels on to the next class, the last to the first.

    Arguments, result and errors are those of `resample_labels`.

    Reference: pair flipping; Han et al., "Co-teaching", NeurIPS 2018.
    """
    y, count = _copied(y, share)
    chosen = rng.choice(len(y), size=count, replace=False)
    y[chosen] = (y[chosen] + 1) % classes
    return y


def mistaken_labels(
    x: np.ndarray, y: np.ndarray, share: float, classes: int, rng: np.random.Generator
) -> np.ndarray:
    """Mistakes round(share * n) labels as a weak model would, its doubtful samples first.

    The weak model is a network of 32 hidden units, trained on a tenth of the samples. A sample is
    drawn with the model's probability of the wrong class that it finds most likely, and gets it.

    Args:
        x: (n, ...), inputs.
        y, share, classes, rng: as for `resample_labels`.

    Returns, raises: as `resample_labels`.

    Reference: instance-dependent noise; Berthon et al., ICML 2021.
    """
    before = np.asarray(y)
    y, count = _copied(before, share)
    n = len(y)
    flat = np.asarray(x, dtype="float64").reshape(n, -1)
    flat = flat / (np.abs(flat).max() or 1.0)
    seen = rng.choice(n, size=min(n, max(2 * classes, round(_WEAK * n))), replace=False)
    if len(np.unique(before[seen])) < 2:  # of one class alone there is nothing to learn
        seen = np.arange(n)
    weak = MLPClassifier(
        32, solver="lbfgs", alpha=0.1, max_iter=100, random_state=int(rng.integers(2**32))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged: it is to be weak
        weak.fit(flat[seen], before[seen])
    p = np.full((n, classes), 1e-9)  # of classes that it has not seen
    p[:, weak.classes_] += weak.predict_proba(flat)
    p[np.arange(n), before] = 0
    doubt = np.maximum(p.max(axis=1), 1e-12)
    chosen = rng.choice(n, size=count, replace=False, p=doubt / doubt.sum())
    y[chosen] = p[chosen].argmax(axis=1)
    return y


def corrupt_labels(
    kind: str, x: np.ndarray, y: np.ndarray, share: float, classes: int, rng: np.random.Generator
) -> np.ndarray:
    """Labels made wrong in a way of `names.NOISES`; other arguments as of `mistaken_labels`."""
    if kind == "instance":
        return mistaken_labels(x, y, share, classes, rng)
    return (next_labels if kind == "pair" else resample_labels)(y, share, classes, rng)


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


def _copied(y, share):
    """A copy of the labels, and how many of them are to be made wrong."""
    check(share)
    if share > 1:
        raise error("a share between 0 and 1 for classification", share)
    return np.array(y), round(share * len(y))


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
