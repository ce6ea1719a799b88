"""The paper's corrupted MNIST: training sizes × label noises × methods × runs."""

import functools

import numpy as np
import pandas as pd

from keras_mgs.experiments.catalogue.settings import Mnist
from keras_mgs.experiments.reports import figures as draw
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.runs import scenarios

TITLE = "test accuracy, %: mean ± standard deviation (maximum of the mean curve)"
_HEADINGS = (
    "network",
    "samples",
    "label noise",
    "method",
    "runs",
    "final (best)",
    "the paper's",
    "ours is",
)
_CELL = ["training_size", "label_noise"]
_PANELS = 4  # columns of curves


def plan(data="mnist_corrupted", **given):
    """The settings of every run of `settings.Mnist(data=data, **given)`."""
    return scenarios.plan("classification", Mnist(data=data, **given))


train = scenarios.train
check = functools.partial(tables.check, needs=("network", *_CELL), numbers=tables.COLUMNS)


def table(records):
    """The rows of `tables.table`, beside the paper's tables 1 and A.1."""
    return tables.table(records, tables.published("mnist"))


def words(found):
    """What people read of them."""
    return tables.words(found, _HEADINGS)


def files(records):
    """For each network, heat maps of the methods, and curves of test accuracy of some cells.

    As in the paper's figures A.2 to A.13: curves of the smallest and the largest training set.
    """
    pictures = {}
    for network, curves in tables.curves(records).groupby("network"):
        finals = curves.groupby(["label", *_CELL, "run"], sort=False)["test"].apply(tables.final)
        finals = finals.groupby(["label", *_CELL], sort=False).mean()
        maps = {
            label: some.droplevel(0).unstack().sort_index().sort_index(axis=1)
            for label, some in finals.groupby("label", sort=False)
        }
        shape = pd.concat(maps.values())  # one for all, also of those that are not finished
        sizes, noises = sorted(shape.index.unique()), sorted(shape.columns)
        maps = {
            label: some.reindex(index=sizes, columns=noises).rename(columns="{:.0%}".format)
            for label, some in maps.items()
        }
        pictures[f"accuracy-{network}.png"] = draw.heat_maps(
            maps, "share of the training labels that are resampled", "training samples"
        )
        some = curves[curves["training_size"].isin([sizes[0], sizes[-1]])]
        chosen = {noises[i] for i in np.linspace(0, len(noises) - 1, _PANELS).round().astype(int)}
        pictures[f"curves-{network}.png"] = draw.panels(
            some[some["label_noise"].isin(chosen)],
            "accuracy",
            rows=("training_size", "{} samples".format),
            columns=("label_noise", "{:.0%} noise".format),
        )
    return pictures
