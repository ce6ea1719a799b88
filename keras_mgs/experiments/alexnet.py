"""The paper's AlexNet on corrupted MNIST: test accuracy, tr K and log det K during training."""

import functools

from keras_mgs.experiments import figures as draw
from keras_mgs.experiments import report, trainings
from keras_mgs.experiments.methods import METHODS

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

plan = functools.partial(trainings.plan, "classification", networks=("alexnet",))
train = trainings.train
check = functools.partial(
    report.check, needs=("network", "training_size", "label_noise"), numbers=report.COLUMNS
)
table = report.table


def words(found):
    """What people read of the rows of `report.table`."""
    headings = ("samples", "label noise", "method", "runs", "final (best)", "tr K", "log det K")
    return report.words(found, headings)


def files(records):
    """The curves of each training size and label noise."""
    return {
        f"curves-{network}-{size}-{100 * noise:g}.png": draw.curves(curves, "accuracy")
        for (network, size, noise), curves in report.curves(records).groupby(
            ["network", "training_size", "label_noise"]
        )
    }
