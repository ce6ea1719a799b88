"""The main job: one network trained by several methods, side by side."""

import pandas as pd

from keras_mgs import checks
from keras_mgs.experiments.catalogue.names import LEARNING_RATE, POINTS
from keras_mgs.experiments.catalogue.settings import Compare
from keras_mgs.experiments.data import datasets
from keras_mgs.experiments.reports import figures as draw
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.runs import scenarios
from keras_mgs.experiments.training.methods import METHODS, check_task

TITLE = "test accuracy, % (of keypoints the error, pixels²): mean ± standard deviation"
_SCORES = {"classification": "accuracy", "regression": "mse"}
_SCENARIO = (
    "data",
    "corruption",
    "network",
    "label_noise",
    "training_size",
    "batch_size",
    "epochs",
)
_ALL = (*_SCENARIO, "noise")


def plan(data="digits", **given):
    """The settings of every run of `settings.Compare(data=data, **given)`.

    The methods of a run share its samples, label noise and first weights.

    Raises:
        TypeError, ValueError: a bad setting, or a method that is none for these data.
        FileNotFoundError, ImportError: as `datasets.load`.
    """
    chosen = Compare(data=data, **given)
    samples = datasets.load(
        data,
        corruption=chosen.corruption,
        training_size=chosen.training_size,
        label_noise=chosen.label_noise,
        noise_kind=chosen.noise,
        seed=chosen.seed,
    )
    check_task(chosen.methods, samples.task)
    return [
        {
            "data": scenarios.identity(data),
            "task": samples.task,
            "corruption": chosen.corruption,
            "network": chosen.network,
            "method": method,
            "strength": METHODS[method].strength,
            "training_size": len(samples.x_train),
            "label_noise": chosen.label_noise,
            **scenarios.noise(chosen.noise),
            "epochs": chosen.epochs,
            "batch_size": chosen.batch_size,
            "learning_rate": LEARNING_RATE,
            "points": POINTS,
            "seed": chosen.seed + run,
        }
        for run in range(chosen.runs)
        for method in dict.fromkeys(chosen.methods)
    ]


train = scenarios.train


def check(settings, curves):
    """As `tables.check`; and that it is of a task."""
    needs, numbers = ("task", *_SCENARIO), (*tables.COLUMNS, "seconds")
    tables.check(settings, curves, needs=needs, numbers=numbers)
    scenarios.check_noise(settings)
    checks.choice("task", settings["task"], tuple(_SCORES))


def table(records):
    """One row per method: its runs, and what came of them.

    Args:
        records: settings and curves of runs of `plan`, as `Store.records` yields them.

    Returns:
        A `pandas.DataFrame`: the settings; runs; final, the mean of each run's last five
        measurements, and best, its best measurement, both as means over the runs with their
        standard deviations, final_std and best_std; seconds of an epoch, the median; and
        relative_seconds, by those of the unregularised network.
    """
    rows = []
    for cell, runs in tables.cells(records):
        best = "min" if cell["task"] == "regression" else "max"
        by_run = pd.DataFrame(
            {
                "final": [tables.final(run["test"]) for run in runs],
                "best": [run["test"].agg(best) for run in runs],
                "seconds": [run["seconds"].median() for run in runs],
            }
        )
        mean, std = by_run.mean(), by_run.std()
        rows.append(
            {
                "noise": "uniform",
                **cell,
                "runs": len(runs),
                "final": mean["final"],
                "final_std": std["final"],
                "best": mean["best"],
                "best_std": std["best"],
                "seconds": by_run["seconds"].median(),
            }
        )
    if not rows:
        return pd.DataFrame(columns=[*_ALL, "method", "runs", "final", "best", "seconds"])
    made = pd.DataFrame(rows)
    plain = made[made["method"] == "unregularised"].drop_duplicates(list(_ALL))
    plain = plain.set_index(list(_ALL))["seconds"]
    scenario = pd.MultiIndex.from_frame(made[list(_ALL)])
    return made.assign(relative_seconds=made["seconds"] / plain.reindex(scenario).to_numpy())


def words(found):
    """What people read of the rows of `table`."""
    several = [name for name in _ALL if found[name].nunique(dropna=False) > 1]
    return [
        {
            **{name.replace("_", " "): str(row[name]) for name in several},
            "method": METHODS[row["method"]].label,
            "runs": str(row["runs"]),
            "final": _number(row["final"], row["final_std"]),
            "best epoch (needs test labels)": _number(row["best"], row["best_std"]),
            "time": "" if pd.isna(row["relative_seconds"]) else f"× {row['relative_seconds']:.2f}",
        }
        for row in (found.to_dict("records") if len(found) else ())
    ]


def _number(mean, std):
    return f"{mean:.1f}" + ("" if pd.isna(std) else f" ± {std:.1f}")


def files(records):
    """The curves of all runs, as a table and drawn."""
    curves = tables.curves(records)
    pictures = {}
    for task, some in curves.groupby("task"):
        name = "compare.png" if curves["task"].nunique() == 1 else f"compare-{task}.png"
        pictures[name] = draw.curves(some, _SCORES[task])
    return {"curves.csv": curves.to_csv(index=False).encode(errors="backslashreplace"), **pictures}
