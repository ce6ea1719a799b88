"""Grid search of the methods' strengths, kept in a file that other experiments read (--tuned)."""

import dataclasses
import json

import keras
import pandas as pd

from keras_mgs import checks, storage
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.runs import scenarios
from keras_mgs.experiments.training import fitting
from keras_mgs.experiments.training.methods import METHODS, PAPER

TITLE = "loss at the end, by strength: mean ± standard deviation; * the lowest of each method"
STRENGTHS = {  # what is tried; "auto" is no grid's, but has to hold its own against it
    "weight_decay": (1e-4, 5e-4, 2e-3, 1e-2),
    "dropout": (0.1, 0.3, 0.5, 0.7, 0.9),
    "loss_gradient": (0.03, 0.1, 0.3, 1.0, 3.0),
    "loss_gradient_inputs": (0.1, 1.0, 10.0, 100.0),
    "mgs": ("auto", 1e-6, 3e-6, 1e-5, 3e-5, 1e-4),
    "mgs_log_det": (1e-7, 1e-6, 1e-5, 1e-4, 1e-3),
    "adam": (1e-4, 3e-4, 1e-3, 3e-3),
    "cyclical": (3.0, 10.0, 30.0),
    "early_stopping": (5, 10, 20),
    "label_smoothing": (0.3, 0.5, 0.7, 0.9),
    "mixup": (0.2, 1.0, 8.0, 32.0),
    "sam": (0.01, 0.02, 0.05, 0.1),
    "generalised_cross_entropy": (0.3, 0.5, 0.7, 0.9),
}
PRESETS = {
    "quick": {  # minutes on two cores
        "networks": ("lenet5",),
        "methods": PAPER[1:],  # the first has nothing to tune
        "training_sizes": (1000,),
        "runs": 1,
        "epochs": 40,  # or the weakest would win, as nothing has been learnt by heart yet
    },
    "paper": {
        "networks": ("lenet5", "fcn"),
        "methods": tuple(STRENGTHS),
        "training_sizes": (6000,),
        "runs": 5,
        "epochs": 100,
    },
}
_SCENARIO = (
    "data",
    "corruption",
    "training_size",
    "label_noise",
    "epochs",
    "batch_size",
    "learning_rate",
    "by",
)
_VALIDATION = 0.2  # of the training samples


def plan(
    data="mnist_corrupted",
    *,
    by="validation",
    corruption=None,
    networks,
    methods,
    training_sizes,
    label_noises=(0.5,),
    runs,
    epochs,
    batch_size=32,
    learning_rate=fitting.LEARNING_RATE,
    seed=0,
    strengths=None,
):
    """The settings of every run: arguments and errors as for `scenarios.plan`, but

    Args:
        by: "validation", the loss on a fifth of the training samples, which are held out and have
            wrong labels as all of them; or "test", the loss on the test set, as the paper does,
            which nobody has in earnest.
        strengths: a dict of what is tried in place of `STRENGTHS`, tuples by method.
    """
    checks.choice("by", by, ("validation", "test"))
    for method in methods:
        checks.choice("methods", method, tuple(STRENGTHS))
    tried = {method: STRENGTHS[method] for method in methods}
    found = scenarios.plan(
        "classification",
        data,
        corruption=corruption,
        networks=networks,
        methods=methods,
        training_sizes=training_sizes,
        label_noises=label_noises,
        runs=runs,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        strengths=tried | (strengths or {}),
    )
    return [{**settings, "by": by} for settings in found]


def train(settings, data):
    """The curves of a run, whose score and loss are those on what the strength is chosen by."""
    keras.backend.clear_session()
    samples = scenarios.load(settings, data)
    if settings["by"] == "validation":  # they have been drawn in random order
        kept = round(len(samples.x_train) * (1 - _VALIDATION))
        samples = dataclasses.replace(
            samples,
            x_train=samples.x_train[:kept],
            y_train=samples.y_train[:kept],
            x_test=samples.x_train[kept:],
            y_test=samples.y_train[kept:],
        )
    return fitting.train(
        samples,
        settings["network"],
        settings["method"],
        **scenarios.options(settings),
        losses=True,
    )


def check(settings, curves):
    """As `tables.check`."""
    needs = ("network", "strength", *_SCENARIO)
    tables.check(settings, curves, needs=needs, numbers=("test", "test_loss"))
    checks.choice("by", settings["by"], ("validation", "test"))
    checks.choice("method", settings["method"], tuple(STRENGTHS))
    if settings["strength"] is None:
        raise ValueError("it has no strength")


def table(records):
    """One row per strength: its final loss, mean and standard deviation, and whether it is chosen.

    Of several scenarios, each has a chosen strength of its own.
    """
    rows = []
    for cell, runs in tables.cells(records):
        finals = pd.Series([tables.final(curves["test_loss"]) for curves in runs])
        numbers = {"runs": len(runs), "loss": finals.mean(skipna=False), "std": finals.std()}
        accuracy = pd.Series([tables.final(curves["test"]) for curves in runs]).mean()
        rows.append({**cell, **numbers, "accuracy": accuracy})
    if not rows:
        return pd.DataFrame(columns=["network", "method", "strength", "loss"])
    order = list(METHODS)
    rows.sort(
        key=lambda row: (row["network"], order.index(row["method"]), _number(row["strength"]))
    )
    found = pd.DataFrame(rows)
    losses = found["loss"].fillna(float("inf"))  # of trainings that broke down
    cell = [found[key] for key in (*_differing(found), "network", "method")]
    lowest = losses.groupby(cell, sort=False, dropna=False).idxmin()
    return found.assign(chosen=found.index.isin(lowest))


def _number(strength):
    """What strengths are sorted by: "auto" before all numbers."""
    return 0.0 if strength == "auto" else strength


def _differing(found):
    """What tells the scenarios of a folder apart; none if there is one."""
    return [key for key in _SCENARIO if found[key].nunique(dropna=False) > 1]


def words(found):
    """What people read of the rows of `table`."""
    if found.empty:
        return []
    differing = [key for key in _differing(found) if key != "by"]
    return [
        {
            "network": row["network"],
            **{key.replace("_", " "): str(row[key]) for key in differing},
            "method": METHODS[row["method"]].label,
            "strength": f"{row['strength']}{' *' * row['chosen']}",
            "runs": str(row["runs"]),
            "loss on": row["by"],
            "loss": f"{row['loss']:.3f}" + ("" if pd.isna(row["std"]) else f" ± {row['std']:.3f}"),
            "accuracy, %": f"{row['accuracy']:.1f}",
        }
        for row in found.to_dict("records")
    ]


def files(records):
    """The chosen strengths, by network and method, as `scenarios.plan` reads them.

    Of several scenarios each has a file, which is called by what tells them apart.
    """
    found = table(records)
    differing = _differing(found)
    chosen: dict = {}
    for row in found[found["chosen"]].to_dict("records"):
        name = "-".join(["tuned", *(storage.word(row[key]) for key in differing)])
        of_network = chosen.setdefault(f"{name}.json", {}).setdefault(row["network"], {})
        of_network[row["method"]] = row["strength"]
    return {name: json.dumps(strengths, indent=2).encode() for name, strengths in chosen.items()}
