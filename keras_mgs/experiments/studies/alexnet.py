"""The paper's AlexNet on corrupted MNIST: test accuracy, tr K and log det K during training."""

import functools

from keras_mgs.experiments.catalogue.settings import AlexNet
from keras_mgs.experiments.reports import figures as draw
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.runs import scenarios

TITLE = "AlexNet: test accuracy, % (maximum of the mean curve), and K, at the end"


def plan(data="mnist_corrupted", **given):
    """The settings of every run of `settings.AlexNet(data=data, **given)`."""
    return scenarios.plan("classification", AlexNet(data=data, **given))


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
