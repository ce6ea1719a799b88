"""The paper's corrupted facial keypoints: noise on the training targets × methods × runs."""

import functools

from keras_mgs import checks
from keras_mgs.experiments.data import datasets
from keras_mgs.experiments.reports import figures as draw
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.runs import scenarios
from keras_mgs.experiments.training import fitting
from keras_mgs.experiments.training.methods import PAPER

TITLE = "test error, pixels²: mean ± standard deviation (minimum of the mean curve)"
_HEADINGS = ("network", "target noise", "method", "runs", "final (best)", "the paper's", "ours is")
PRESETS = {
    "quick": {  # minutes on two cores
        "networks": ("fcn",),
        "methods": PAPER,
        "target_noises": (0.0, 30.0),
        "runs": 1,
        "epochs": 300,
    },
    "paper": {
        "networks": ("lenet5", "fcn"),
        "methods": PAPER,
        "target_noises": (0.0, 10.0, 20.0, 30.0),
        "runs": 10,
        "epochs": {"lenet5": 50, "fcn": 400},
    },
}


def plan(
    data,
    *,
    corruption="motion_blur",
    networks,
    methods,
    training_share=0.3,
    target_noises,
    runs,
    epochs,
    batch_size=128,
    learning_rate=fitting.LEARNING_RATE,
    points=fitting.POINTS,
    seed=0,
    strengths=None,
    tuned=None,
):
    """The settings of every run: arguments and errors as for `scenarios.plan`, but

    Args:
        data: keypoints, as for `datasets.load`.
        training_share: of all samples, those held out for validation not counted.
        target_noises: standard deviations of what is added to the training targets, in pixels.
    """
    if checks.positive("training_share", training_share) >= 1:
        raise ValueError(
            f"Expected `training_share` to be below 1. Received: training_share={training_share!r}."
        )
    found = datasets.load(data)
    scenarios.check_data(data, found.task, "regression")
    total = len(found.x_train) + len(found.x_test)
    return scenarios.plan(
        "regression",
        data,
        corruption=corruption,
        networks=networks,
        methods=methods,
        training_sizes=(round(training_share * total),),
        label_noises=target_noises,
        runs=runs,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        points=points,
        seed=seed,
        strengths=strengths,
        tuned=tuned,
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
