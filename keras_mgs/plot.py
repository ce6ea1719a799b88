"""Pictures of what this package measures; needs matplotlib: `pip install "keras_mgs[plot]"`.

Every function draws on the matplotlib axis that it is given, or on a new one, and returns it.
Colours are those of Okabe and Ito, or a map of rising lightness, and never alone: line styles,
markers and labels tell things apart in greyscale too. Legends stand to the right of the axis, for
which `plt.subplots(layout="constrained")` makes room. What is missing (NaN) is a gap.

Example:

>>> keras_mgs.plot.spectrum([4, 2, 1]).get_ylabel()
'eigenvalue of K (output²/weight²)'
"""

import keras
import numpy as np

from keras_mgs import checks, outputs
from keras_mgs.kernel import EPSILON

# Okabe and Ito's palette. Lines are never yellow, which is lost on white; their styles, and the
# markers of points, are of coprime number, so that pairs repeat late.
_LINES = ("#000000", "#56B4E9", "#E69F00", "#009E73", "#D55E00", "#0072B2", "#CC79A7")
_DASHES = ("-", "--", "-.", ":", (0, (7, 1, 1, 1, 1, 1)), (0, (9, 3)), (0, (1, 3)), (0, (3, 1)))
_POINTS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000", "#F0E442")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")

_SQUARES = "(output²/weight²)"
_MEASURED = {  # what MGSMetrics and MGSModel record
    "mgs_trace": f"tr K {_SQUARES}",
    "mgs_log_det": "log det K (natural log)",
    "mgs_singular": "eigenvalues of K ≤ ε (count)",
    "mgs_penalty": "penalty (unit of the loss)",
    "mgs_alpha": "α (penalty/metric)",
}
_SHARES = ("acc", "auc", "precision", "recall", "f1", "iou")
_SETTINGS = ("epoch", "run", "seconds", "learning_rate", "lr")
# Neither a score nor a loss nor a metric of K.
_ASIDE = (*_SETTINGS, "mgs_singular", "mgs_penalty", "mgs_alpha")
_GRID = 300  # points along each side of a decision boundary
_BATCH = 4096  # of them at a time


def history(history, ax=None):
    """Scores and loss above tr K and log det K, by epoch.

    A panel per quantity, all in the place of `ax`, one above the other with the epochs in common:
    first the scores (accuracy, …), training and validation, then the loss, tr K on a logarithmic
    axis, and log det K. Several probe batches of `MGSMetrics` are several lines.

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
    _require_matplotlib()
    epochs, columns = _columns("history", history)
    quantities: dict[str, dict] = {}
    for key, values in columns.items():
        quantity, line = _parts(key)
        if quantity not in _ASIDE:
            quantities.setdefault(quantity, {})[line] = values
    if not quantities:
        raise ValueError(
            "Expected `history` to have a score, a loss or a metric of MGSMetrics. "
            f"Received: {list(columns) or 'nothing'}."
        )
    names = sorted(quantities, key=_rank)
    axis = _axis(ax, (6.4, 1.4 + 1.5 * len(names)))
    panels = _stack(axis, len(names))
    for panel, name in zip(panels, names, strict=True):
        lines = quantities[name]
        for i, (line, values) in enumerate(lines.items()):
            _draw_line(panel, epochs, values, i, label=line)
        panel.set_ylabel(_label(name).replace(" (", "\n("), fontsize="small")  # panels are low
        _epochs(panel)
        if name == "mgs_trace":
            panel.set_yscale("log", nonpositive="mask")
        if len(lines) > 1:
            _legend(panel)
    for panel in panels[:-1]:
        panel.tick_params(labelbottom=False)
        panel.xaxis.label.set_visible(False)
    axis.figure.align_ylabels(panels)
    return axis


def kernel(k, y=None, ax=None):
    """Heat map of K, samples of one class side by side.

    A network that learns in groups has bright blocks on the diagonal; one that memorises, only a
    bright diagonal. The q rows of a sample stay together. Colours reach from the 1st to the 99th
    percentile, or the diagonal would leave nothing to be seen of the rest.

    Args:
        k: the kernel (n*q, n*q), as `keras_mgs.kernel` gives it.
        y: class labels (n,), numbers or words, to sort the samples by. None: as they come.
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
    _require_matplotlib()
    k = _square("k", k)
    size = len(k)
    edges, label = None, "row of K (number)"
    if y is not None:
        y = _array("y", y)
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if y.ndim != 1 or not len(y) or size % len(y):
            raise ValueError(
                "Expected `y` to hold one class label for each of the n samples of `k`, "
                f"(n*q, n*q). Received: `y` of shape {y.shape} and `k` of shape {k.shape}."
            )
        q = size // len(y)
        try:
            order = np.argsort(y, kind="stable")
        except TypeError as error:
            raise TypeError(
                "Expected `y` to be class labels of one kind, numbers or words. "
                f"Received: {y[:5].tolist()}."
            ) from error
        rows = (order[:, None] * q + np.arange(q)).ravel()
        k = k[np.ix_(rows, rows)]
        classes, counts = np.unique(y, return_counts=True)
        edges = np.cumsum([0, *counts]) * q - 0.5  # pixels are centred on whole numbers
        label = f"class of the sample ({q} row{'s' * (q > 1)} of K each)"
    axis = _axis(ax, (6.4, 5.2))
    known = np.ma.masked_invalid(k)
    low, high = np.percentile(known.compressed(), (1, 99)) if known.count() else (0, 1)
    image = axis.imshow(known, cmap="viridis", vmin=low, vmax=high)
    axis.set(xlabel=label.replace("row", "column") if y is None else label, ylabel=label)
    if edges is not None:
        centres = (edges[1:] + edges[:-1]) / 2
        axis.set_xticks(centres, classes)
        axis.set_yticks(centres, classes)
        axis.tick_params(length=0)
        for edge in edges[1:-1]:
            axis.axhline(edge, color="white", lw=0.8)
            axis.axvline(edge, color="white", lw=0.8)
    beside = axis.inset_axes((1.04, 0, 0.05, 1))  # as high as the matrix, whatever its place
    axis.figure.colorbar(image, cax=beside, extend="both", label=f"K {_SQUARES}")
    return axis


def spectrum(values_or_k, ax=None):
    """Eigenvalues of K in descending order, on a logarithmic axis, with ε.

    A dashed line is `ε = 1e-6 * mean`, which `log_det` adds to each of them. Those at most ε are
    left out: a hatched gap shows how many they are, and the legend counts them.

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

    Reference: Szolnoky et al., NeurIPS 2022, section 3.3; the gaps of figure 3 are such cases.
    """
    _require_matplotlib()
    values = _reals("values_or_k", values_or_k)
    if values.ndim != 1:
        values = np.linalg.eigvalsh(_square("values_or_k", values, finite=True))
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
    axis = _axis(ax, (6.4, 3.6))
    axis.set_yscale("log")
    ranks = np.arange(1, len(values) + 1)
    label = f"{above} of {len(values)} > ε"
    drawn = np.where(values > epsilon, values, np.nan)
    axis.plot(ranks, drawn, ".-", color=_LINES[5], lw=1, label=label)
    axis.axhline(epsilon, color=_LINES[4], ls="--", label=f"ε = {epsilon:.2g}")
    if above < len(known):
        axis.axvspan(
            above + 0.5,
            len(known) + 0.5,
            facecolor="none",
            edgecolor="0.7",
            hatch="//",
            label=f"{len(known) - above} of {len(values)} ≤ ε",
        )
    axis.set(xlabel="rank of the eigenvalue (1: largest)", ylabel=f"eigenvalue of K {_SQUARES}")
    axis.set_xlim(0.5, len(values) + 0.5)
    _whole_numbers(axis)
    _plain(axis)
    _legend(axis)
    return axis


def decision_boundary(model, x, y, ax=None):
    """The regions of a classifier of two inputs, and samples on top.

    The class of a region is the largest raw output, or the sign of the one that there is. Tints
    of the regions differ in lightness, points in colour and in marker.

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
    _require_matplotlib()
    checks.model(model)
    x = _array("x", x)
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(
            f"Expected `x` to have two inputs per sample, (n, 2). Received: shape {x.shape}."
        )
    checks.inputs("x", model, x)
    low, high = x.min(axis=0), x.max(axis=0)
    margin = np.where(high > low, 0.08 * (high - low), 1.0)
    low, high = low - margin, high + margin
    first, second = np.linspace(low, high, _GRID).T
    points = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    f = outputs.predict(model, points.astype("float32"), _BATCH)
    labels, index = _classes(y, len(x), f.shape[1])
    f = np.concatenate([-f, f], axis=1) if f.shape[1] == 1 else f
    axis = _axis(ax, (6.4, 4.4))
    names = [f"class {label}" for label in labels]
    _draw_boundary(axis, f.reshape(_GRID, _GRID, -1), first, second, x, index, names)
    axis.set(xlabel="first input (unit of x)", ylabel="second input (unit of x)")
    _legend(axis, handlelength=1)
    return axis


def compare(histories, key="mgs_trace", ax=None):
    """One quantity of several trainings by epoch: a line each, or the mean of several runs.

    A band around a mean reaches from the lowest run to the highest. Where a run has no value,
    there is a gap, for the mean of the others would be that of something else.

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
    _require_matplotlib()
    if not hasattr(histories, "items") or hasattr(histories, "columns"):
        raise TypeError(
            "Expected `histories` to be a dict of trainings by their names. "
            f"Received: {type(histories).__name__}."
        )
    if not isinstance(key, str):
        raise TypeError(f"Expected `key` to be a string. Received: key={key!r}.")
    if not len(histories):
        raise ValueError("Expected `histories` to hold at least one training. Received: none.")
    curves = {}
    for name, runs in histories.items():
        runs = runs if isinstance(runs, list | tuple) else [runs]
        curves[name] = _aligned([_curve(f"histories[{name!r}]", run, key) for run in runs], name)
    axis = _axis(ax, (6.4, 3.6))
    for i, (name, (epochs, runs)) in enumerate(curves.items()):
        line = _draw_line(axis, epochs, runs.mean(axis=0), i, label=str(name))
        if len(runs) > 1:
            low, high = runs.min(axis=0), runs.max(axis=0)
            axis.fill_between(epochs, low, high, color=line.get_color(), alpha=0.2, lw=0)
    quantity, which = _parts(key)
    which = f"{which} " if quantity not in (*_MEASURED, *_SETTINGS) else ""
    axis.set_ylabel(which + _label(quantity))
    _epochs(axis)
    if quantity == "mgs_trace":
        axis.set_yscale("log", nonpositive="mask")
    _legend(axis)
    return axis


def _require_matplotlib():
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"keras_mgs.plot needs the extra `plot`. Received: {error}. "
            'Install it: pip install "keras_mgs[plot]"'
        ) from error


def _axis(ax, size):
    """The axis given, or one of a new figure with room beside it."""
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


def _stack(axis, count):
    """Panels one above the other in the place of `axis`, which becomes the first."""
    figure, place = axis.figure, axis.get_subplotspec()
    if count == 1:
        return [axis]
    if place is None:  # an axis that was put somewhere by its corners
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


def _table(name, history):
    """What was measured, by name, of whatever holds a training."""
    if isinstance(history, keras.callbacks.History) and not hasattr(history, "epoch"):
        raise ValueError(
            f"Expected `{name}` to be of a training. Received: a History that no `fit` has filled. "
            "Give what `fit` returns."
        )
    table = history.history if isinstance(history, keras.callbacks.History) else history
    if not hasattr(table, "items"):
        raise TypeError(
            f"Expected `{name}` to be a keras History, its dict, or a pandas DataFrame with the "
            f"same columns. Received: {history!r} of type {type(history).__name__}."
        )
    return {str(key): values for key, values in table.items()}


def _columns(name, history, keys=None):
    """Epochs, and what was measured in them: all of it, or `keys` alone."""
    columns = {
        key: numbers
        for key, values in _table(name, history).items()
        if (keys is None or key in (*keys, "epoch"))
        and (numbers := _numbers(f"{name}[{key!r}]", values)) is not None
    }
    lengths = {key: len(values) for key, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"Expected `{name}` to have one value of each kind per epoch. Received: {lengths}."
        )
    count = next(iter(lengths.values()), 0)
    epochs = columns.get("epoch", np.arange(1.0, count + 1))
    if isinstance(history, keras.callbacks.History) and len(history.epoch) == count:
        epochs = np.asarray(history.epoch, "float64") + 1  # Keras counts from 0
    return epochs, columns


def _numbers(name, values):
    """A column as floats; None if it is one of words, or has several numbers per epoch."""
    array = _array(name, values)
    words = array.dtype.kind in "SUMm" or any(isinstance(v, str) for v in array.ravel()[:1])
    return None if words or array.ndim != 1 else _reals(name, array)


def _array(name, values):
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"Expected `{name}` to be an array, or lists of one length. Received: lists of several."
        ) from error


def _reals(name, values):
    """Real numbers, as float64; None is NaN."""
    array = _array(name, values)
    if array.dtype.kind in "SUMmc":
        raise TypeError(f"Expected `{name}` to be real numbers. Received: dtype {array.dtype}.")
    try:
        return array.astype("float64")
    except OverflowError as error:
        raise ValueError(
            f"Expected `{name}` to be numbers that float64 holds. Received: larger ones."
        ) from error
    except (TypeError, ValueError) as error:
        raise TypeError(f"Expected `{name}` to be real numbers. Received: others.") from error


def _curve(name, history, key):
    epochs, columns = _columns(name, history, (key,))
    if key not in columns:
        raise ValueError(
            f"Expected `{name}` to have `key`, a number per epoch. "
            f"Received: key={key!r}, and {list(_table(name, history))} there."
        )
    return epochs, columns[key]


def _aligned(curves, name):
    """The epochs of any run; (runs, epochs), NaN where a run has no value."""
    if not curves:
        raise ValueError(f"Expected `histories[{name!r}]` to hold at least one run. Received: [].")
    every = np.unique(np.concatenate([epochs for epochs, _ in curves]))
    runs = np.full((len(curves), len(every)), np.nan)
    for run, (epochs, values) in zip(runs, curves, strict=True):
        run[np.searchsorted(every, epochs)] = values
    return every, runs


def _parts(key):
    """What a key of History measures, and which line of it: "val_loss" is loss, validation."""
    for quantity in _MEASURED:
        if key == quantity:
            return quantity, "probe batch"
        if key.startswith(f"{quantity}_"):
            return quantity, key[len(quantity) + 1 :]
    if key.startswith("val_"):
        return key[4:], "validation"
    return key, "training"


def _rank(quantity):
    """Where a panel stands: scores, loss, tr K, log det K."""
    if quantity in _MEASURED:
        return 2 + list(_MEASURED).index(quantity)
    return int("loss" in quantity)


def _label(quantity):
    """A quantity with its unit."""
    if quantity in _MEASURED:
        return _MEASURED[quantity]
    name = quantity.replace("_", " ")
    if quantity in _SETTINGS:
        return name if quantity == "seconds" else f"{name} (number)"
    share = any(word in quantity.lower() for word in _SHARES)
    return f"{name} ({'share' if share else 'per sample'})"


def _classes(y, n, q):
    """All class labels, and the index among them of each of `y`."""
    y = _array("y", y)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    signs = q == 1 and y.dtype.kind in "if" and bool((y < 0).any())
    labels = np.array([-1, 1]) if signs else np.arange(max(q, 2))
    if y.shape != (n,) or not np.isin(y, labels).all():
        words = "0 and 1, or -1 and 1," if q == 1 else f"0 to {q - 1}"
        found = np.unique(y)[:5].tolist() if y.dtype.kind in "biuf" else y.dtype
        raise ValueError(
            f"Expected `y` to be {n} class labels, {words} for a model of {q} outputs. "
            f"Received: shape {y.shape}, labels {found}."
        )
    return labels.tolist(), np.searchsorted(labels, y)


def _tints(colours):
    """Pale colours of these hues, each lighter than the next."""
    from matplotlib.colors import to_rgb

    rgb = np.array([to_rgb(colour) for colour in colours])
    lightness = rgb @ (0.299, 0.587, 0.114)
    wanted = np.linspace(0.92, max(0.7, 0.99 - 0.07 * len(colours)), len(colours))
    return np.clip(wanted[:, None] + 0.3 * (rgb - lightness[:, None]), 0, 1)


def _draw_line(axis, x, y, i, label):
    """The i-th line, with a dot where a value stands alone between gaps."""
    known = np.isfinite(y)
    beside = np.append(known[1:], False) | np.append(False, known[:-1])
    alone = np.flatnonzero(known & ~beside).tolist()
    (line,) = axis.plot(
        x,
        y,
        color=_LINES[i % len(_LINES)],
        linestyle=_DASHES[i % len(_DASHES)],
        marker="o" if alone else None,
        markersize=4,
        markevery=alone or None,
        label=f" {label}" if label.startswith("_") else label,  # or no legend would have it
    )
    return line


def _draw_boundary(axis, f, first, second, x, index, names, size=26):
    """Where each output of `f`, (second, first, q), is the largest; samples, and their classes."""
    from matplotlib.colors import ListedColormap

    region = f.argmax(axis=-1)
    colours = [_POINTS[i % len(_POINTS)] for i in range(len(names))]
    axis.imshow(
        region,
        extent=(first[0], first[-1], second[0], second[-1]),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap=ListedColormap(_tints(colours)),
        vmin=-0.5,
        vmax=len(names) - 0.5,
    )
    for i in np.unique(region) if region.min() < region.max() else ():
        lead = f[..., i] - np.delete(f, i, axis=-1).max(axis=-1)  # over all other classes
        axis.contour(first, second, lead, levels=[0], colors="black", linewidths=0.8)
    for i, name in enumerate(names):
        some = x[index == i]
        axis.scatter(
            some[:, 0],
            some[:, 1],
            s=size,
            color=colours[i],
            marker=_MARKERS[i % len(_MARKERS)],
            edgecolors="black",
            linewidths=0.5,
            zorder=3,
            label=name,
        )


def _square(name, matrix, finite=False):
    matrix = _reals(name, matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(
            f"Expected `{name}` to be a square matrix, (n*q, n*q). Received: shape {matrix.shape}."
        )
    if finite:
        checks.finite(name, matrix)
    return matrix


def _epochs(axis):
    axis.set_xlabel("epoch")
    _whole_numbers(axis)
    _plain(axis)


def _whole_numbers(axis):
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def _plain(axis):
    axis.spines[["top", "right"]].set_visible(False)


def _legend(axis, handlelength=3.2):  # a whole period of every line style
    """To the right of the axis, where no data are."""
    axis.legend(
        loc="upper left",
        bbox_to_anchor=(1.02, 1),
        borderaxespad=0,
        frameon=False,
        handlelength=handlelength,
    )
