"""Figures of the experiments, of several axes of `keras_mgs.plot`, and of single samples."""

import numpy as np
from matplotlib.figure import Figure

from keras_mgs import plot
from keras_mgs.plot.boundaries import draw_regions
from keras_mgs.plot.curves import draw_line
from keras_mgs.plot.style import MARKERS, POINT_COLOURS, line_numbers

_SCORES = {
    "accuracy": "test accuracy (%)",
    "mse": "test error (pixels²)",
    "relative": "test error (variances of the target)",
}
_COLUMNS = 8  # of images
_PANELS = 5  # boundaries side by side
_FINE = 300  # points along each side of them
_ROW = 0.2  # inches of a row of a legend


def curves(curves, score):
    """Test score, tr K and log det K by epoch: a line per label, its runs' range shaded.

    Args:
        curves: the rows of `train` of several runs, with the columns label and run.
        score: "accuracy", "mse" or "relative".

    Returns:
        A `matplotlib.figure.Figure`.
    """
    histories = _histories(curves)
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, key in zip(axes, ("test", "mgs_trace", "mgs_log_det"), strict=True):
        _lines(axis, histories, key, score)
    _legend(figure, axes[:1], histories)
    return figure


def panels(curves, score, rows, columns):
    """Test score by epoch, side by side for the values of two settings.

    Args:
        curves: as for `curves`.
        score: "accuracy", "mse" or "relative".
        rows, columns: of the settings that differ from row to row and from column to column: the
            name, and of a value its text.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    (row_key, row_text), (column_key, column_text) = rows, columns
    down, across = (sorted(curves[key].unique()) for key in (row_key, column_key))
    labels = list(dict.fromkeys(curves["label"]))
    size = (0.5 + 3.1 * len(across), 0.3 + 2.6 * len(down))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(down), len(across), sharex="row", sharey=True, squeeze=False)
    for i, row in enumerate(down):
        for axis, column in zip(grid[i], across, strict=True):
            some = curves[(curves[row_key] == row) & (curves[column_key] == column)]
            axis.set_title(f"{row_text(row)}, {column_text(column)}", fontsize=10)
            if len(some):
                _lines(axis, _histories(some), "test", score, labels)
            axis.label_outer()
    _legend(figure, grid.ravel(), labels)
    return figure


def _histories(curves):
    return {
        label: [run for _, run in runs.groupby("run")]
        for label, runs in curves.groupby("label", sort=False)
    }


def _lines(axis, histories, key, score, labels=None):
    """One panel of lines, whose legend is left to the figure; `labels`: those of all panels."""
    empty = {"epoch": [1], key: [float("nan")]}  # holds the place, so that styles stay the same
    labels = labels or list(histories)
    plot.compare({label: histories.get(label, empty) for label in labels}, key, ax=axis)
    axis.get_legend().remove()
    if key == "test":
        axis.set_ylabel(_SCORES[score])
        if score != "accuracy":
            axis.set_yscale("log")


def _legend(figure, axes, labels):
    """One legend below all axes, for which the figure grows."""
    drawn = next(axis.lines for axis in axes if axis.lines)[: len(labels)]
    options = {"loc": "outside lower center", "frameon": False, "handlelength": 3.2}

    def fits(columns):
        legend = figure.legend(drawn, labels, ncols=columns, **options)
        width = legend.get_window_extent().width
        legend.remove()
        return width <= figure.bbox.width

    count = len(labels)
    fitting = [columns for columns in range(2, count + 1) if fits(columns)] or [1]
    columns = max(fitting, key=lambda columns: (*_in_company(count, columns), columns))
    figure.legend(drawn, labels, ncols=columns, **options)
    figure.set_figheight(figure.get_figheight() + _ROW * -(-count // columns))


def _in_company(count, columns):
    """Whether the last row, and the last column, of a legend hold more than one entry."""
    if count == columns:  # one row
        return True, True
    return count % columns != 1 and columns > 1, count // columns > 1


def radars(charts, axes):
    """Test accuracies as lines around a centre, one chart beside the other.

    Args:
        charts: by title, for each label as many accuracies in % as there are axes.
        axes: their names.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    labels = list(next(iter(charts.values())))
    figure = Figure(figsize=(4.2 * len(charts), 4), layout="constrained")
    angles = 2 * np.pi * np.arange(len(axes)) / len(axes)
    grid = figure.subplots(1, len(charts), subplot_kw={"projection": "polar"}, squeeze=False)[0]
    for axis, (title, values) in zip(grid, charts.items(), strict=True):
        for i, (label, radii) in zip(line_numbers(values), values.items(), strict=True):
            closed = np.append(radii, next(iter(radii)))
            draw_line(axis, np.append(angles, angles[0]), closed, i, label)
        axis.set(theta_offset=np.pi / 2, ylim=(0, 100), xlabel="", ylabel="")
        axis.set_xticks(angles, [name.replace(" ", "\n") for name in axes], fontsize=9)
        axis.set_yticks([20, 40, 60, 80, 100])
        axis.tick_params("x", pad=12)
        axis.tick_params("y", labelsize=8)
        axis.set_rlabel_position(np.degrees(angles[1]) / 2)  # between two axes
        axis.set_axisbelow(False)  # the numbers above the lines
        for number in axis.get_yticklabels():
            number.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
        axis.set_title(title, fontsize=10, pad=14)
    _legend(figure, grid[:1], labels)
    return figure


def heat_maps(tables, xlabel, ylabel):
    """Final test accuracy over two settings, a map per name, with the number in each cell.

    Args:
        tables: by name, a `pandas.DataFrame` of accuracies in %, with texts as labels.
        xlabel, ylabel: of its columns and its rows.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    rows, columns = next(iter(tables.values())).shape
    across = min(len(tables), 3)
    down = -(-len(tables) // across)
    size = (1.6 + across * (0.9 + 0.42 * columns), 0.5 + down * (0.8 + 0.28 * rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis, (name, table) in zip(axes, tables.items(), strict=False):
        image = axis.imshow(table, cmap="cividis", vmin=0, vmax=100, aspect="auto", origin="lower")
        axis.set_xticks(range(columns), table.columns, fontsize=8)
        axis.set_yticks(range(rows), table.index, fontsize=8)
        axis.set_title(name, fontsize=10)
        for i, j in np.argwhere(np.isfinite(table.to_numpy())):
            value = table.iat[i, j]
            colour = "black" if value > 50 else "white"
            axis.text(j, i, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=8)
    for axis in axes[len(tables) :]:
        axis.set_axis_off()
    figure.colorbar(image, ax=axes, label="final test accuracy (%)")
    figure.supxlabel(xlabel, fontsize=10)
    figure.supylabel(ylabel, fontsize=10)
    return figure


def dots(values, xlabel):
    """Numbers as points on one axis, a line of it per row and a marker per column.

    Args:
        values: a `pandas.DataFrame` with texts as labels.
        xlabel: of the numbers.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    labels = list(values.columns)
    figure = Figure(figsize=(8, 0.9 + 0.26 * len(values)), layout="constrained")
    axis = figure.subplots()
    rows = range(len(values))
    for i, label in enumerate(labels):
        colour = POINT_COLOURS[i % len(POINT_COLOURS)]
        marker = MARKERS[i % len(MARKERS)]
        axis.plot(values[label], rows, marker, color=colour, markersize=5, label=label)
    axis.axvline(0, color="black", lw=0.8)
    axis.set_yticks(rows, values.index, fontsize=8)
    axis.set(xlabel=xlabel, ylim=(len(values) - 0.5, -0.5))  # the first row on top
    axis.grid(axis="y", lw=0.4)
    axis.spines[["top", "right"]].set_visible(False)
    _legend(figure, [axis], labels)
    return figure


def boundaries(panels, extent, radius):
    """Regions of classifiers of two inputs, with their training samples, side by side.

    Titles have the test accuracy, and of how much of the square the class is not that of the true
    boundary.

    Args:
        panels: by name, a `Dataset` with inputs (n, 2) and classes 0 and 1; by how much the output
            of class 1, the inner one, leads at points of a square grid, row by row; and the test
            accuracy in %.
        extent: of the grid, from 0 in all directions.
        radius: of the circle that is the true boundary, which is drawn dashed.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    columns = min(_PANELS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(max(2.3 * columns, 5), 0.9 + 2.7 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = radius * np.cos(angle), radius * np.sin(angle)
    names = ("outer circle", "inner circle")  # classes 0 and 1
    fine = np.linspace(-extent, extent, _FINE)
    inside = np.hypot(*np.meshgrid(fine, fine)) < radius
    for axis, (name, panel) in zip(axes.ravel(), panels.items(), strict=False):
        samples, lead, accuracy = panel
        line = np.linspace(-extent, extent, len(lead))
        for _ in range(2):  # between the points of the grid, along one side and then the other
            lead = np.array([np.interp(fine, line, row) for row in lead]).T
        f = np.stack([-lead, lead], axis=-1)
        draw_regions(axis, f, fine, fine, samples.x_train, samples.y_train, names, size=12)
        axis.plot(*circle, "k--", lw=0.8, label="true boundary")
        wrong = ((lead > 0) != inside).mean()
        words = f"test accuracy {accuracy:.1f} %\nwrong in {100 * wrong:.1f} % of the square"
        axis.set_title(f"{name}\n{words}", fontsize=9)
        axis.set(aspect="equal", xlim=(-extent, extent), ylim=(-extent, extent))
    for axis in axes.ravel()[len(panels) :]:
        axis.set_axis_off()
    for axis in axes.ravel()[: len(panels)][-columns:]:  # the lowest of each column
        axis.set_xlabel("first input (unit of x)")
        axis.tick_params(labelbottom=True)
    for axis in axes[:, 0]:
        axis.set_ylabel("second input (unit of x)")
    marks, words = axes[0, 0].get_legend_handles_labels()
    figure.legend(marks, words, loc="outside lower center", ncols=3, frameon=False)
    return figure


def suspects(x, scores):
    """Samples with what is said of them: images as images, other data as bars.

    What is shown is the label score where there is one, the share of tr K otherwise.

    Args:
        x: all samples; images are (n, h, w) or (n, h, w, channels).
        scores: rows of `score.score`, those to be drawn, in order.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    words = [_words(row) for row in scores.to_dict("records")]
    judged = "label_score" in scores
    if not _are_images(x):
        figure = Figure(figsize=(7, 1 + 0.28 * len(scores)), layout="constrained")
        axis = figure.subplots()
        axis.barh(words, scores["label_score" if judged else "trace"], color="#0072B2")
        axis.invert_yaxis()
        axis.margins(y=0.02)
        quantity = "label score" if judged else "trace of the sample (sum of squared gradients)"
        axis.set(xlabel=quantity, ylabel="sample (number)")
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
        value = f"score {row['label_score']:.3f}" if judged else f"{row['share']:.2%} of tr K"
        axis.set_title(f"{text}\n{value}".replace(": ", "\n"), fontsize=9)
    return figure


def _words(row):
    """One sample in words."""
    values = [(name, row[name]) for name in ("given", "predicted") if name in row]
    words = [f"{n} {v:.4g}" if isinstance(v, float) else f"{n} {v}" for n, v in values]
    return ": ".join([f"#{row['index']}", ", ".join(words)] if words else [f"#{row['index']}"])


def _are_images(x):
    """Whether arrays are large enough in two directions, and in colours if there is a third."""
    return x.ndim in (3, 4) and min(x.shape[1:3]) >= 4 and x.shape[3:] in ((), (1,), (3,), (4,))
