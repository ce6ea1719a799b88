"""The matplotlib axes that pictures are drawn on."""

import numpy as np


def require_matplotlib():
    """Raise an error that names the extra, where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"keras_mgs.plot needs the extra `plot`. Received: {error}. "
            'Install it: pip install "keras_mgs[plot]"'
        ) from error


def given_or_new(ax, size):
    """The axis `ax`; if that is None, one of a new figure of this size in inches."""
    from matplotlib.axes import Axes

    if ax is None:
        from matplotlib import pyplot

        return pyplot.subplots(figsize=size, layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise TypeError(
            "Expected `ax` to be one matplotlib axis, or None. "
            f"Received: {type(ax).__name__}. Of an array of axes, give one: axes[0]."
        )
    return ax


def stacked(axis, count):
    """Panels one above the other in the place of `axis`, which becomes the first."""
    figure, place = axis.figure, axis.get_subplotspec()
    if count == 1:
        return [axis]
    if place is None:  # made by `add_axes`, outside of any grid
        box = axis.get_position()
        grid = figure.add_gridspec(
            count, left=box.x0, right=box.x1, bottom=box.y0, top=box.y1, hspace=0.1
        )
    else:
        grid = place.subgridspec(count, 1, hspace=0.1)
    axis.set_subplotspec(grid[0])
    panels = [axis, *(figure.add_subplot(grid[i], sharex=axis) for i in range(1, count))]
    figure.sca(axis)
    return panels


def show_one_unit(axis, values):
    """Let the vertical axis span at least one unit, so that no noise looks like a change.

    Or a tenth of the largest of the values if that is less; one power of ten on a logarithmic axis.
    """
    is_logarithmic = axis.get_yscale() == "log"
    values = values[np.isfinite(values) & (values > 0 if is_logarithmic else True)]
    if not len(values):
        return
    scaled = np.log10(values) if is_logarithmic else values
    middle = scaled.min() / 2 + scaled.max() / 2
    span = 1 if is_logarithmic else min(1, np.abs(values).max() / 10)
    ends = middle + np.array([-0.5, 0.5]) * span
    ends = 10**ends if is_logarithmic else ends
    # Into the limits of the data: the axis still grows with what is drawn later, or shared.
    axis.update_datalim([(0, end) for end in ends], updatex=False)
    axis.autoscale_view(scalex=False)
