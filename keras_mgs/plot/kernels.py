"""K as a heat map, and its eigenvalues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_mgs import checks
from keras_mgs.kernel import EPSILON
from keras_mgs.plot import axes, style
from keras_mgs.plot.arrays import class_labels, real_numbers, square_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike


def kernel(k: ArrayLike, y: ArrayLike | None = None, ax: Axes | None = None) -> Axes:
    """Heat map of K, with the samples of one class side by side.

    A network that learns in groups has bright blocks on the diagonal; one that memorises, only a
    bright diagonal. The q rows of a sample stay together. The colours span the 1st to the 99th
    percentile: over the full range, the large values of the diagonal would hide the differences
    among all others.

    Args:
        k: the kernel (n*q, n*q), as `keras_mgs.kernel` gives it.
        y: class labels (n,), numbers or words, to sort the samples by. None: keep their order.
        ax: the axis to draw on. None: one of a new figure.

    Returns:
        The axis.

    Raises:
        ValueError: `k` is not a square matrix, or its size not a multiple of that of `y`.
        ImportError: matplotlib is not installed.

    Example:

    >>> k = np.array([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0], [1.0, 0.0, 2.0]])
    >>> axis = keras_mgs.plot.kernel(k, y=["cat", "dog", "cat"])
    >>> axis.images[0].get_array().tolist()  # cat, cat, dog
    [[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 3.0]]

    Reference: Szolnoky et al., NeurIPS 2022, section 3.2; figure 1 is a sketch of it.
    """
    axes.require_matplotlib()
    matrix = square_matrix("k", k)
    if y is not None:
        labels = class_labels("y", y)
        matrix, classes, edges = _sorted_by_class(matrix, labels)
    axis = axes.given_or_new(ax, (6.4, 5.2))
    known = np.ma.masked_invalid(matrix)
    low, high = np.percentile(known.compressed(), (1, 99)) if known.count() else (0, 1)
    image = axis.imshow(known, cmap="viridis", vmin=low, vmax=high)
    if y is None:
        axis.set(xlabel="column of K (number)", ylabel="row of K (number)")
    else:
        q = len(matrix) // len(labels)
        label = f"class of the sample ({q} row{'s' * (q > 1)} of K each)"
        centres = (edges[1:] + edges[:-1]) / 2
        axis.set(xlabel=label, ylabel=label)
        axis.set_xticks(centres, classes)
        axis.set_yticks(centres, classes)
        axis.tick_params(length=0)
        for edge in edges[1:-1]:
            axis.axhline(edge, color="white", lw=0.8)
            axis.axvline(edge, color="white", lw=0.8)
    beside = axis.inset_axes((1.04, 0, 0.05, 1))  # stays as high as the matrix
    axis.figure.colorbar(image, cax=beside, extend="both", label="K (products of gradients)")
    return axis


def spectrum(values_or_k: ArrayLike, ax: Axes | None = None) -> Axes:
    """Eigenvalues of K in descending order, on a logarithmic axis, with ε.

    The dashed line is `ε = 1e-6 * mean`, which `log_det` adds to each eigenvalue. Eigenvalues of
    at most ε are not drawn: a hatched area takes their place, and the legend counts them.

    Args:
        values_or_k: eigenvalues in any order, as `keras_mgs.eigenvalues` gives them, or K itself.
        ax: the axis to draw on. None: one of a new figure.

    Returns:
        The axis.

    Raises:
        ValueError: it is neither, K is not finite, or no eigenvalue is above zero.
        ImportError: matplotlib is not installed.

    Example:

    >>> axis = keras_mgs.plot.spectrum([0.0, 9.0, 1.0])
    >>> [text.get_text() for text in axis.get_legend().get_texts()]
    ['2 of 3 > ε', 'ε = 3.3e-06', '1 of 3 ≤ ε']

    Reference: Szolnoky et al., NeurIPS 2022, section 3.3; K was singular at the gaps of figure 3.
    """
    axes.require_matplotlib()
    values = real_numbers("values_or_k", values_or_k)
    if values.ndim != 1:
        matrix = square_matrix("values_or_k", values)
        checks.finite("values_or_k", matrix)
        values = np.linalg.eigvalsh(matrix)
    values = -np.sort(-values)  # NaN come last
    known = values[~np.isnan(values)]
    mean = known.mean() if len(known) else 0.0
    if not 0 < mean < np.inf:
        raise ValueError(
            "Expected `values_or_k` to be eigenvalues of K with a positive, finite mean, or K. "
            f"Received: an array of shape {np.shape(values_or_k)} with the mean {mean}."
        )
    epsilon = EPSILON * mean
    above = int((known > epsilon).sum())
    axis = axes.given_or_new(ax, (6.4, 3.6))
    axis.set_yscale("log")
    ranks = np.arange(1, len(values) + 1)
    label = f"{above} of {len(values)} > ε"
    drawn = np.where(values > epsilon, values, np.nan)
    axis.plot(ranks, drawn, ".-", color=style.LINE_COLOURS[5], lw=1, label=label)
    axis.axhline(epsilon, color=style.LINE_COLOURS[0], ls="--", label=f"ε = {epsilon:.2g}")
    if above < len(known):
        axis.axvspan(
            above + 0.5,
            len(known) + 0.5,
            facecolor="none",
            edgecolor="0.7",
            hatch="//",
            label=f"{len(known) - above} of {len(values)} ≤ ε",
        )
    axis.set(
        xlabel="rank of the eigenvalue (1: largest)", ylabel="eigenvalue of K (squared gradient)"
    )
    axis.set_xlim(0.5, len(values) + 0.5)
    style.whole_numbers(axis)
    style.open_frame(axis)
    style.legend(axis)
    return axis


def _sorted_by_class(k, y):
    """K with the samples sorted by class, the classes, and the edges between their rows."""
    if y.ndim != 1 or not len(y) or len(k) % len(y):
        raise ValueError(
            "Expected `y` to hold one class label for each of the n samples of `k`, "
            f"(n*q, n*q). Received: `y` of shape {y.shape} and `k` of shape {k.shape}."
        )
    q = len(k) // len(y)
    try:
        order = np.argsort(y, kind="stable")
    except TypeError as error:
        raise TypeError(
            "Expected `y` to be class labels of one kind, numbers or words. "
            f"Received: {y[:5].tolist()}."
        ) from error
    rows = (order[:, None] * q + np.arange(q)).ravel()
    classes, counts = np.unique(y, return_counts=True)
    edges = np.cumsum([0, *counts]) * q - 0.5  # pixels are centred on whole numbers
    return k[np.ix_(rows, rows)], classes, edges
