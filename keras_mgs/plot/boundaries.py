"""Decision boundaries of classifiers of two inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_mgs import checks, data, outputs
from keras_mgs.plot import axes, style
from keras_mgs.plot.arrays import as_array, class_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

_GRID = 300  # points along each side of the picture
_BATCH = 4096  # points of the grid that the model computes at a time


def decision_boundary(
    model: keras.Model, x: ArrayLike, y: ArrayLike, ax: Axes | None = None
) -> Axes:
    """The regions of a classifier of two inputs, with samples on top.

    The class of a point is that of the largest raw output. A single output decides by its sign.

    Args:
        model: a built `keras.Model` that takes (n, 2).
        x: samples (n, 2).
        y: class labels (n,): 0 to q - 1 for q outputs; for one output 0 and 1, or -1 and 1.
        ax: the axis to draw on. None: one of a new figure.

    Returns:
        The axis.

    Raises:
        TypeError, ValueError: `model`, `x` or `y` is none of these.
        ImportError: matplotlib is not installed.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> axis = keras_mgs.plot.decision_boundary(model, np.eye(2), [0, 2])
    >>> [text.get_text() for text in axis.get_legend().get_texts()]
    ['class 0', 'class 1', 'class 2']

    Reference: Szolnoky et al., NeurIPS 2022, figures 2 (top) and A.1.
    """
    axes.require_matplotlib()
    checks.model(model)
    samples = as_array("x", x)
    if samples.ndim != 2 or samples.shape[1] != 2:
        raise ValueError(
            f"Expected `x` to have two inputs per sample, (n, 2). Received: shape {samples.shape}."
        )
    data.inputs("x", model, samples)
    low, high = samples.min(axis=0), samples.max(axis=0)
    margin = np.where(high > low, 0.08 * (high - low), 1.0)
    first, second = np.linspace(low - margin, high + margin, _GRID).T
    points = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    f = outputs.predict(model, points.astype("float32"), _BATCH)
    labels, indices = _classes(y, len(samples), f.shape[1])
    f = np.concatenate([-f, f], axis=1) if f.shape[1] == 1 else f
    axis = axes.given_or_new(ax, (6.4, 4.4))
    names = [f"class {label}" for label in labels]
    draw_regions(axis, f.reshape(_GRID, _GRID, -1), first, second, samples, indices, names)
    axis.set(xlabel="first input (unit of x)", ylabel="second input (unit of x)")
    style.legend(axis, handlelength=1)
    return axis


def draw_regions(axis, f, first, second, x, indices, names, size=26):
    """Draw where each output is the largest, and samples by their classes.

    Args:
        axis: the axis to draw on.
        f: outputs (second, first, q) at the points of a grid.
        first, second: values of the first and the second input along the grid.
        x: samples (n, 2).
        indices: of the samples' classes, (n,).
        names: of the q classes, for the legend.
        size: of the samples' markers, in points².
    """
    from matplotlib.colors import ListedColormap

    region = f.argmax(axis=-1)
    colours = [style.POINT_COLOURS[i % len(style.POINT_COLOURS)] for i in range(len(names))]
    axis.imshow(
        region,
        extent=(first[0], first[-1], second[0], second[-1]),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap=ListedColormap(style.tints(colours)),
        vmin=-0.5,
        vmax=len(names) - 0.5,
    )
    for i in np.unique(region) if region.min() < region.max() else ():
        lead = f[..., i] - np.delete(f, i, axis=-1).max(axis=-1)  # over all other classes
        axis.contour(first, second, lead, levels=[0], colors="black", linewidths=0.8)
    for i, name in enumerate(names):
        of_class = x[indices == i]
        axis.scatter(
            of_class[:, 0],
            of_class[:, 1],
            s=size,
            color=colours[i],
            marker=style.MARKERS[i % len(style.MARKERS)],
            edgecolors="black",
            linewidths=0.5,
            zorder=3,
            label=name,
        )


def _classes(y, n, q):
    """The labels of all classes, and for each sample the index of its class among them."""
    y = class_labels("y", y)
    signs = q == 1 and y.dtype.kind in "if" and bool((y < 0).any())
    labels = np.array([-1, 1]) if signs else np.arange(max(q, 2))
    if y.shape != (n,) or not np.isin(y, labels).all():
        allowed = "0 and 1, or -1 and 1," if q == 1 else f"0 to {q - 1}"
        received = np.unique(y)[:5].tolist() if y.dtype.kind in "biuf" else y.dtype
        raise ValueError(
            f"Expected `y` to be {n} class labels, {allowed} for a model of {q} outputs. "
            f"Received: shape {y.shape}, labels {received}."
        )
    return labels.tolist(), np.searchsorted(labels, y)
