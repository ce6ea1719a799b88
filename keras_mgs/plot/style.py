"""Colours, line styles, markers, legends and frames that all pictures share."""

import itertools
import re

import numpy as np

# The palette of Okabe and Ito. Lines leave out its yellow, which is lost on white. The numbers of
# colours and of line styles have no common factor, so a pair of them repeats as late as possible;
# so do points and their markers.
LINE_COLOURS = ("#000000", "#56B4E9", "#E69F00", "#009E73", "#D55E00", "#0072B2", "#CC79A7")
LINE_STYLES = (
    "-", "--", "-.", ":", (0, (7, 1, 1, 1, 1, 1)), (0, (9, 3)), (0, (1, 3)), (0, (3, 1)),
)  # fmt: skip
POINT_COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000", "#F0E442",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")

_MGS = 4  # the number of its colour and of its line style, which are of no other line
_IS_MGS = re.compile(r"(?<!without )(?<!no )\bMGS\b")


def line_numbers(names):
    """For each name the number of its colour and line style; MGS has the same in all pictures.

    MGS is the first name with that word, unless it is "without MGS" or "no MGS".
    """
    names = [str(name) for name in names]
    mgs = next((name for name in names if _IS_MGS.search(name)), None)
    others = (
        i
        for i in itertools.count()
        if i % len(LINE_COLOURS) != _MGS and i % len(LINE_STYLES) != _MGS
    )
    return [_MGS if name == mgs else next(others) for name in names]


def tints(colours):
    """Pale colours of the same hues, each darker than the one before."""
    from matplotlib.colors import to_rgb

    rgb = np.array([to_rgb(colour) for colour in colours])
    lightness = rgb @ (0.299, 0.587, 0.114)
    wanted = np.linspace(0.92, max(0.7, 0.99 - 0.07 * len(colours)), len(colours))
    return np.clip(wanted[:, None] + 0.3 * (rgb - lightness[:, None]), 0, 1)


def legend(axis, handlelength=3.2):  # a whole period of every line style
    """Put the legend to the right of the axis, where it hides no data."""
    axis.legend(
        loc="upper left",
        bbox_to_anchor=(1.02, 1),
        borderaxespad=0,
        frameon=False,
        handlelength=handlelength,
    )


def open_frame(axis):
    """Leave the frame open at the top and at the right."""
    axis.spines[["top", "right"]].set_visible(False)


def whole_numbers(axis):
    """Put the ticks of the horizontal axis at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
