"""Figures of the experiments, of several axes of `keras_mgs.plot`, and of single samples."""

import numpy as np
from matplotlib.figure import Figure

from keras_mgs import plot
from keras_mgs.experiments.methods import METHODS

_SCORES = {"accuracy": "test accuracy (%)", "mse": "test error (pixels²)"}
_COLUMNS = 8  # of images
_LEGEND = 5  # columns of a legend


def curves(curves, score):
    """Test score, tr K and log det K by epoch: a line per method, its runs' range shaded.

    Args:
        curves: the rows of `train` of several runs, with the columns method and run.
        score: "accuracy" or "mse".

    Returns:
        A `matplotlib.figure.Figure`.
    """
    histories = {
        METHODS[method].label: [run for _, run in runs.groupby("run")]
        for method, runs in curves.groupby("method", sort=False)
    }
    figure = Figure(figsize=(11, 3.4 + 0.2 * -(-len(histories) // _LEGEND)), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, key in zip(axes, ("test", "mgs_trace", "mgs_log_det"), strict=True):
        plot.compare(histories, key, ax=axis)
        legend = axis.get_legend()
        legend.remove()  # one for all three
    axes[0].set_ylabel(_SCORES[score])
    if score == "mse":
        axes[0].set_yscale("log")
    figure.legend(
        legend.legend_handles,
        histories,
        loc="outside lower center",
        ncols=min(len(histories), _LEGEND),
        frameon=False,
        handlelength=3.2,
    )
    return figure


def boundaries(panels, extent, radius):
    """Regions of classifiers of two inputs, with their training samples, side by side.

    Args:
        panels: by name, a `Dataset` with inputs (n, 2) and classes 0 and 1, and by how much the
            output of class 1 leads at points of a square grid, row by row.
        extent: of the grid, from 0 in all directions.
        radius: of the circle that is the true boundary, which is drawn dashed.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    columns = min(_LEGEND, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(max(2.3 * columns, 4), 0.6 + 2.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    angle = np.linspace(0, 2 * np.pi, 200)
    marks = []
    for axis, (name, (samples, lead)) in zip(axes.ravel(), panels.items(), strict=False):
        line = np.linspace(-extent, extent, len(lead))
        lead = np.asarray(lead)
        axis.contourf(line, line, lead, levels=[-1e30, 0, 1e30], colors=["#FFFFFF", "#BFD9EA"])
        if lead.min() < 0 < lead.max():
            axis.contour(line, line, lead, levels=[0], colors="black", linewidths=1)
        (true,) = axis.plot(radius * np.cos(angle), radius * np.sin(angle), "k--", lw=0.8)
        marks = [true]
        for value, marker, colour in ((0, "o", "#E69F00"), (1, "^", "#0072B2")):
            some = samples.x_train[samples.y_train == value]
            style = {"s": 12, "marker": marker, "color": colour, "edgecolors": "k", "lw": 0.4}
            marks.append(axis.scatter(some[:, 0], some[:, 1], **style, zorder=3))
        axis.set_title(name, fontsize=10)
        axis.set(aspect="equal", xlim=(-extent, extent), ylim=(-extent, extent))
    for axis in axes.ravel()[len(panels) :]:
        axis.set_axis_off()
    figure.supxlabel("first input", fontsize=10)
    figure.supylabel("second input", fontsize=10)
    words = ("true boundary", "outer circle", "inner circle")
    figure.legend(marks, words, loc="outside lower center", ncols=3, frameon=False)
    return figure


def suspects(x, scores):
    """Samples with what is said of them: images as images, other data as bars of their traces.

    Args:
        x: all samples; images are (n, h, w) or (n, h, w, channels).
        scores: rows of `score.score`, those to be drawn, in order.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    words = [_words(row) for row in scores.to_dict("records")]
    if not _are_images(x):
        figure = Figure(figsize=(7, 1 + 0.28 * len(scores)), layout="constrained")
        axis = figure.subplots()
        axis.barh(words, scores["trace"], color="#0072B2")
        axis.invert_yaxis()
        axis.margins(y=0.02)
        axis.set(xlabel="trace of the sample (output²/weight²)", ylabel="sample (number)")
        axis.spines[["top", "right"]].set_visible(False)
        return figure
    columns = min(_COLUMNS, len(scores))
    rows = -(-len(scores) // columns)
    figure = Figure(figsize=(max(1.5 * columns, 4.5), 0.2 + 2.0 * rows), layout="constrained")
    low, high = float(x.min()), float(x.max())
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (_, row), text in zip(axes, scores.iterrows(), words, strict=False):
        image = (np.asarray(x[int(row["index"])], "float64") - low) / (high - low or 1)
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)  # a single channel is let through too
        axis.set_title(f"{text}\n{row['share']:.2%} of tr K".replace(": ", "\n"), fontsize=9)
    return figure


def _words(row):
    """One sample in words."""
    words = [f"label {row['label']}"] if "label" in row else []
    words += [f"predicted {row['predicted']}"] if "predicted" in row else []
    return ": ".join([f"#{row['index']}", ", ".join(words)] if words else [f"#{row['index']}"])


def _are_images(x):
    """Whether arrays are large enough in two directions, and in colours if there is a third."""
    return x.ndim in (3, 4) and min(x.shape[1:3]) >= 4 and x.shape[3:] in ((), (1,), (3,), (4,))
