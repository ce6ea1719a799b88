"""The paper's corrupted facial keypoints: noise on the training targets × methods × runs."""

import functools

from keras_mgs.experiments.catalogue.settings import Keypoints
from keras_mgs.experiments.data import datasets
from keras_mgs.experiments.reports import figures as draw
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.runs import scenarios

TITLE = "test error, pixels²: mean ± standard deviation (minimum of the mean curve)"
_HEADINGS = ("network", "target noise", "method", "runs", "final (best)", "the paper's", "ours is")


def plan(data, **given):
    """The settings of every run of `settings.Keypoints(data=data, **given)`."""
    chosen = Keypoints(data=data, **given)
    if chosen.training_share >= 1:
        raise ValueError(
            "Expected `training_share` to be below 1. "
            f"Received: training_share={chosen.training_share!r}."
        )
    samples = datasets.load(data)
    scenarios.check_data(data, samples.task, "regression")
    size = round(chosen.training_share * (len(samples.x_train) + len(samples.x_test)))
    return scenarios.plan(
        "regression", chosen, training_sizes=(size,), label_noises=chosen.target_noises
    )


train = scenarios.train
check = functools.partial(tables.check, needs=("network", "label_noise"), numbers=tables.COLUMNS)


def table(records):
    """The rows of `tables.table`, beside the paper's tables 2 and A.2.

    The paper's data are Kaggle's: with others, compare the order of the methods.
    """
    return tables.table(records, tables.published("keypoints"), lowest=True)


def words(found):
    """What people read of them."""
    return tables.words(found, _HEADINGS)


def files(records):
    """Curves of the test error."""
    return {
        "curves.png": draw.panels(
            tables.curves(records),
            "mse",
            rows=("network", str),
            columns=("label_noise", "{:g} px of noise".format),
        )
    }
