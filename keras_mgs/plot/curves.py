"""What trainings measured, as curves over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mgs.plot import axes, quantities, style
from keras_mgs.plot.histories import columns, values_of_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from keras_mgs.plot.histories import Training


def history(history: Training, ax: Axes | None = None) -> Axes:
    """Scores and loss above tr K and log det K, by epoch.

    Panels stand one above the other in the place of `ax`, with the epochs in common. First come
    the scores (accuracy, …) and the loss, training and validation, then tr K on a logarithmic
    axis, and log det K. Each probe batch of `MGSMetrics` is a line.

    Args:
        history: a `keras.callbacks.History`, its dict, or a `pandas.DataFrame` with the same
            columns (and, if it has one, "epoch").
        ax: the axis to draw on; it becomes the uppermost panel. None: one of a new figure.

    Returns:
        The axis; `axis.figure.axes` are all panels.

    Raises:
        TypeError, ValueError: `history` is none of these, or has nothing to draw.
        ImportError: matplotlib is not installed.

    Example:

    >>> run = {"accuracy": [0.5, 0.9], "mgs_trace": [40.0, 300.0], "mgs_log_det": [-9.0, 5.0]}
    >>> axis = keras_mgs.plot.history(run)
    >>> [panel.lines[0].get_ydata().tolist() for panel in axis.figure.axes]
    [[0.5, 0.9], [40.0, 300.0], [-9.0, 5.0]]

    Reference: Szolnoky et al., NeurIPS 2022, figures 2 (bottom) and 3.
    """
    axes.require_matplotlib()
    epochs, recorded = columns("history", history)
    drawn: dict[str, dict] = {}
    for key, values in recorded.items():
        quantity, line = quantities.split(key)
        if quantities.has_panel(quantity):
            drawn.setdefault(quantity, {})[line] = values
    if not drawn:
        raise ValueError(
            "Expected `history` to have a score, a loss or a metric of MGSMetrics. "
            f"Received: {list(recorded) or 'nothing'}."
        )
    axis = axes.given_or_new(ax, (6.4, 1.4 + 1.5 * len(drawn)))
    panels = axes.stacked(axis, len(drawn))
    for panel, quantity in zip(panels, sorted(drawn, key=quantities.rank), strict=True):
        lines = drawn[quantity]
        for i, (line, values) in zip(style.line_numbers(lines), lines.items(), strict=True):
            draw_line(panel, epochs, values, i, label=line)
        label = quantities.label(quantity).replace(" (", "\n(")  # panels are low
        panel.set_ylabel(label, fontsize="small")
        _finish(panel, quantity, np.concatenate(list(lines.values())))
        if len(lines) > 1:
            style.legend(panel)
    for panel in panels[:-1]:
        panel.tick_params(labelbottom=False)
        panel.xaxis.label.set_visible(False)
    axis.figure.align_ylabels(panels)
    return axis


def compare(
    histories: Mapping[Any, Training | Sequence[Training]],
    key: str = "mgs_trace",
    ax: Axes | None = None,
) -> Axes:
    """One quantity of several trainings by epoch: a line each, or the mean of several runs.

    A band around a mean spans all runs, from the lowest to the highest. An epoch for which one
    run has no value is a gap: the mean of the other runs could not be compared with its
    neighbours.

    The first name with the word MGS, such as "MGS" or "with MGS", but not "without MGS", has the
    same colour and line style in every picture. The vertical axis spans at least one unit, or a
    tenth of the largest value if that is less; of tr K, a power of ten.

    Args:
        histories: names, each with a training (as for `history`) or with a list of several runs.
        key: what to draw: a key of all of them, such as "val_accuracy" or "mgs_trace"; tr K is
            drawn on a logarithmic axis.
        ax: the axis to draw on. None: one of a new figure.

    Returns:
        The axis.

    Raises:
        TypeError, ValueError: `histories` is none of these, or does not have `key`.
        ImportError: matplotlib is not installed.

    Example:

    >>> runs = {"plain": {"loss": [3.0, 1.0]}, "MGS": [{"loss": [3.0, 2.0]}, {"loss": [5.0, 2.0]}]}
    >>> axis = keras_mgs.plot.compare(runs, "loss")
    >>> [line.get_ydata().tolist() for line in axis.lines]
    [[3.0, 1.0], [4.0, 2.0]]

    Reference: Szolnoky et al., NeurIPS 2022, figures 2 (bottom), 3, A.2 and A.3.
    """
    axes.require_matplotlib()
    if not hasattr(histories, "items") or hasattr(histories, "columns"):
        raise TypeError(
            "Expected `histories` to be a dict of trainings by their names. "
            f"Received: {type(histories).__name__}."
        )
    if not isinstance(key, str):
        raise TypeError(f"Expected `key` to be a string. Received: key={key!r}.")
    if not len(histories):
        raise ValueError("Expected `histories` to hold at least one training. Received: none.")
    curves = {
        name: values_of_runs(f"histories[{name!r}]", runs, key) for name, runs in histories.items()
    }
    axis = axes.given_or_new(ax, (6.4, 3.6))
    for i, (name, (epochs, runs)) in zip(style.line_numbers(curves), curves.items(), strict=True):
        line = draw_line(axis, epochs, runs.mean(axis=0), i, label=str(name))
        if len(runs) > 1:
            low, high = runs.min(axis=0), runs.max(axis=0)
            axis.fill_between(epochs, low, high, color=line.get_color(), alpha=0.2, lw=0)
    axis.set_ylabel(quantities.label_of_key(key))
    numbers = np.concatenate([runs.ravel() for _, runs in curves.values()])
    _finish(axis, quantities.split(key)[0], numbers)
    style.legend(axis)
    return axis


def draw_line(axis, x, y, i, label):
    """Draw a line of the i-th colour and style, with a dot at each value alone between gaps."""
    known = np.isfinite(y)
    has_neighbour = np.append(known[1:], False) | np.append(False, known[:-1])
    alone = np.flatnonzero(known & ~has_neighbour).tolist()
    (line,) = axis.plot(
        x,
        y,
        color=style.LINE_COLOURS[i % len(style.LINE_COLOURS)],
        linestyle=style.LINE_STYLES[i % len(style.LINE_STYLES)],
        marker="o" if alone else None,
        markersize=4,
        markevery=alone or None,
        # Legends leave out labels that begin with an underscore.
        label=f" {label}" if label.startswith("_") else label,
    )
    return line


def _finish(axis, quantity, values):
    """Label the epochs, and choose the scale of the values and how much of it is shown."""
    axis.set_xlabel("epoch")
    style.whole_numbers(axis)
    style.open_frame(axis)
    if quantities.is_logarithmic(quantity):
        axis.set_yscale("log", nonpositive="mask")
    axes.show_one_unit(axis, values)
