"""The paper's AlexNet on corrupted MNIST: test accuracy, tr K and log det K during training."""

import functools

from keras_mgs.experiments.reports import figures as draw
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.runs import scenarios
from keras_mgs.experiments.training.methods import METHODS

TITLE = "AlexNet: test accuracy, % (maximum of the mean curve), and K, at the end"
PRESETS = {
    "quick": {  # minutes on two cores
        "methods": ("unregularised", "dropout", "mgs"),
        "training_sizes": (3000,),
        "label_noises": (0.5,),
        "runs": 1,
        "epochs": 5,
    },
    "paper": {  # which does not say the training size, the label noise and the epochs of figure 3
        "methods": tuple(METHODS),
        "training_sizes": (3000,),
        "label_noises": (0.5,),
        "runs": 1,
        "epochs": 100,
    },
}

plan = functools.partial(scenarios.plan, "classification", networks=("alexnet",))
train = scenarios.train
check = functools.partial(
    tables.check, needs=("network", "training_size", "label_noise"), numbers=tables.COLUMNS
)
table = tables.table


def words(found):
    """What people read of the rows of `tables.table`."""
    headings = ("samples", "label noise", "method", "runs", "final (best)", "tr K", "log det K")
    return tables.words(found, headings)


def files(records):
    """The curves of each training size and label noise."""
    return {
        f"curves-{network}-{size}-{100 * noise:g}.png": draw.curves(curves, "accuracy")
        for (network, size, noise), curves in tables.curves(records).groupby(
            ["network", "training_size", "label_noise"]
        )
    }
