"""Figures of the experiments."""

from matplotlib.figure import Figure

from keras_mgs.experiments.methods import METHODS

_SCORES = {"accuracy": "test accuracy (%)", "mse": "test error (pixels²)"}


def curves(curves, score):
    """Test score, tr K and log det K by epoch: a line per method, its runs' range shaded.

    Args:
        curves: the rows of `train` of several runs, with the columns method and run.
        score: "accuracy" or "mse".

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = [("test", _SCORES[score]), ("mgs_trace", "tr K"), ("mgs_log_det", "log det K")]
    for axis, (column, title) in zip(figure.subplots(1, 3), panels, strict=True):
        for name, rows in curves.groupby("method", sort=False):
            method = METHODS[name]
            epochs = rows.groupby("epoch")[column]
            mean = epochs.mean()
            axis.plot(mean.index, mean, color=method.colour, label=method.label)
            axis.fill_between(
                mean.index, epochs.min(), epochs.max(), color=method.colour, alpha=0.2, lw=0
            )
        axis.set(title=title, xlabel="epoch")
        if column == "mgs_trace" or (column == "test" and score == "mse"):
            axis.set_yscale("log")
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure
