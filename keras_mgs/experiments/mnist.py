"""The paper's corrupted MNIST: training sizes × label noises × methods × runs."""

import functools

from keras_mgs.experiments import report, trainings
from keras_mgs.experiments.methods import PAPER

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
PRESETS = {
    "quick": {  # minutes on two cores
        "networks": ("lenet5",),
        "methods": PAPER,
        "training_sizes": (3000,),
        "label_noises": (0.0, 0.6),
        "runs": 1,
        "epochs": 20,
    },
    "paper": {
        "networks": ("lenet5", "fcn"),
        "methods": PAPER,
        "training_sizes": (250, 500, 750, *range(1000, 2001, 500), *range(3000, 9001, 1000)),
        "label_noises": tuple(percent / 100 for percent in range(0, 101, 10)),
        "runs": 10,
        "epochs": 400,
    },
}
plan = functools.partial(trainings.plan, "classification")
train = trainings.train


def table(records):
    """The rows of `report.table`, beside the paper's tables 1 and A.1."""
    return report.table(records, report.published("mnist"))


def words(found):
    """What people read of them."""
    return report.words(found, _HEADINGS)


def figures(records):
    """Pictures by their names."""
    return {}
