"""Grid search of the methods' strengths, kept in a file that other experiments read (--tuned)."""

import dataclasses
import json

import keras
import pandas as pd

from keras_mgs import checks, storage
from keras_mgs.experiments.catalogue.settings import STRENGTHS, Tune
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.runs import scenarios
from keras_mgs.experiments.training import fitting
from keras_mgs.experiments.training.methods import METHODS

TITLE = "loss at the end, by strength: mean ± standard deviation; * the lowest of each method"
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


def plan(data="mnist_corrupted", **given):
    """The settings of every run of `settings.Tune(data=data, **given)`."""
    chosen = Tune(data=data, **given)
    tried = {method: STRENGTHS[method] for method in chosen.methods} | (chosen.strengths or {})
    runs = scenarios.plan("classification", dataclasses.replace(chosen, strengths=tried))
    return [{**run, "by": chosen.by} for run in runs]


def train(settings, data):
    """The curves of a run, whose score and loss are those on what the strength is chosen by."""
    keras.backend.clear_session()
    samples = scenarios.load(settings, data)
    if settings["by"] == "validation":  # they have been drawn in random order
        kept = round(len(samples.x_train) * (1 - _VALIDATION))
        held_out = samples.part(slice(kept, None))
        samples = dataclasses.replace(
            samples.part(slice(kept)), x_test=held_out.x_train, y_test=held_out.y_train
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
