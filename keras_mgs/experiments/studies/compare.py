"""The main job: one network trained by several methods, side by side."""

import math
import os
import warnings

import keras
import numpy as np
import pandas as pd
from scipy import stats

from keras_mgs import checks, storage
from keras_mgs.experiments.catalogue.names import (
    LEARNING_RATE,
    NETWORK_OF,
    NETWORKS,
    POINTS,
    TASKS,
)
from keras_mgs.experiments.catalogue.settings import Compare
from keras_mgs.experiments.data import datasets
from keras_mgs.experiments.reports import figures as draw
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.runs import scenarios
from keras_mgs.experiments.training import fitting, networks, own
from keras_mgs.experiments.training.methods import METHODS, check_task

TITLE = (
    "test accuracy, % (of keypoints the error, pixels²; of other regressions the squared error, in "
    "variances of the target): mean ± standard deviation"
)
_SCENARIO = (
    "data",
    "corruption",
    "network",
    "label_noise",
    "training_size",
    "batch_size",
    "epochs",
)
_ALL = (*_SCENARIO, "task", *scenarios.LATER)
_AHEAD = ("ahead", "ahead_low", "ahead_high")  # of MGS, and the interval of it
_FEWEST = 3  # runs that an interval is made of


def plan(data="digits", **given):
    """The settings of every run of `settings.Compare(data=data, **given)`.

    The methods of a run share its samples, label noise and first weights.

    Raises:
        TypeError, ValueError: a bad setting, or a network or method that is none for these data.
        FileNotFoundError, ImportError: as `datasets.load`; FileNotFoundError: no such network.
    """
    chosen = Compare(data=data, **given)
    samples = datasets.load(
        data,
        target=chosen.target,
        task=chosen.task,
        kind=chosen.kind,
        corruption=chosen.corruption,
        training_size=chosen.training_size,
        label_noise=chosen.label_noise,
        noise_kind=chosen.noise,
        missing_share=chosen.missing,
        seed=chosen.seed,
    )
    network = NETWORK_OF[samples.kind] if chosen.network is None else chosen.network
    _check_network(network, samples)
    methods = _methods(network, chosen.methods, asked="methods" in given)
    check_task(methods, samples.task)
    return [
        {
            "data": scenarios.identity(data),
            "task": samples.task,
            "corruption": chosen.corruption,
            **scenarios.later(kind=samples.kind, target=chosen.target),
            "network": storage.word(scenarios.identity(network))
            if own.is_file(network)
            else network,
            "method": method,
            "strength": METHODS[method].strength,
            "training_size": len(samples.x_train),
            "label_noise": chosen.label_noise,
            **scenarios.later(noise=chosen.noise, missing=chosen.missing),
            "epochs": chosen.epochs,
            "batch_size": chosen.batch_size,
            "learning_rate": LEARNING_RATE,
            "points": POINTS,
            "seed": chosen.seed + run,
        }
        for run in range(chosen.runs)
        for method in dict.fromkeys(methods)
    ]


def _check_network(network, samples):
    """That there is such a network, for such samples."""
    shape = samples.x_train.shape[1:]
    if own.is_file(network):
        own.read(network, shape, samples.outputs)
    elif network in NETWORKS:
        networks.check(network, shape)
    else:
        raise ValueError(
            f"Expected `network` to be one of {', '.join(map(repr, NETWORKS))}, or the path of a "
            f".keras file. Received: network={os.fspath(network)!r}. Check the spelling."
        )


def _methods(network, methods, asked):
    """Those that train a network; a file's is built in one way alone."""
    other = [method for method in methods if METHODS[method].changes_network]
    if not (own.is_file(network) and other):
        return methods
    words = f"{' and '.join(other)} would build other layers into the network of a file"
    if asked:
        raise ValueError(
            f"Expected methods that leave the network as it is: {words}. "
            f"Received: methods={', '.join(methods)} with network={os.fspath(network)!r}. "
            "Leave them out."
        )
    warnings.warn(f"The methods {words}. They are left out.", stacklevel=3)
    return [method for method in methods if method not in other]


def train(settings, data, network=None):
    """The curves of one run of `plan`; `data`, and `network` if it is a file, as there."""
    keras.backend.clear_session()  # or a worker grows from run to run
    samples = datasets.load(
        data,
        target=settings.get("target"),
        task=settings["task"],
        kind=settings.get("kind", "images"),
        corruption=settings["corruption"],
        missing_share=settings.get("missing", 0.0),
        **scenarios.drawing(settings),
    )
    return fitting.train(
        samples,
        settings["network"] if network is None else own.network(network),
        settings["method"],
        **scenarios.options(settings),
    )


def check(settings, curves):
    """As `tables.check`; and that it is of a task, and of a kind of data."""
    needs, numbers = ("task", *_SCENARIO), (*tables.COLUMNS, "seconds")
    tables.check(settings, curves, needs=needs, numbers=numbers)
    scenarios.check_noise(settings)
    checks.choice("task", settings["task"], TASKS)
    checks.choice("kind", settings.get("kind", "images"), tuple(NETWORK_OF))


def table(records):
    """One row per method: its runs, and what came of them.

    Args:
        records: settings and curves of runs of `plan`, as `Store.records` yields them.

    Returns:
        A `pandas.DataFrame`: the settings; runs; final, the mean of each run's last five
        measurements, and best, its best measurement, both as means over the runs with their
        standard deviations, final_std and best_std; seconds of an epoch, the median;
        relative_seconds, by those of the unregularised network; and `ahead` of MGS, where both have
        at least three runs with the same seeds.
    """
    rows, finals = [], []
    for cell, runs in tables.cells((s, curves.assign(seed=s["seed"])) for s, curves in records):
        best = "min" if cell["task"] == "regression" else "max"
        by_run = pd.DataFrame(
            {
                "seed": [run["seed"].iloc[0] for run in runs],
                "final": [tables.final(run["test"]) for run in runs],
                "best": [run["test"].agg(best) for run in runs],
                "seconds": [run["seconds"].median() for run in runs],
            }
        )
        finals.append(by_run.set_index("seed")["final"])
        mean, std = by_run.mean(), by_run.std()
        rows.append(
            {
                **scenarios.LATER,
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
        return pd.DataFrame(columns=[*_ALL, "method", "runs", "final", "best", "seconds", *_AHEAD])
    made = pd.DataFrame(rows)
    plain = made[made["method"] == "unregularised"].drop_duplicates(list(_ALL))
    plain = plain.set_index(list(_ALL))["seconds"]
    scenario = pd.MultiIndex.from_frame(made[list(_ALL)])
    leads = pd.DataFrame(_leads(rows, finals), index=made.index)
    relative = made["seconds"] / plain.reindex(scenario).to_numpy()
    return made.assign(relative_seconds=relative).join(leads)


def _leads(rows, finals):
    """Of each row what `ahead` says of its runs, whose final scores these are, and those of MGS."""
    keys = [tuple(row[name] for name in _ALL) for row in rows]
    of_mgs = {
        key: final
        for key, row, final in zip(keys, rows, finals, strict=True)
        if row["method"] == "mgs"
    }
    for key, row, final in zip(keys, rows, finals, strict=True):
        if key not in of_mgs or row["method"] == "mgs":
            yield dict.fromkeys(_AHEAD, math.nan)
        else:
            yield ahead(final, of_mgs[key], lowest=row["task"] == "regression")


def ahead(scores, others, *, lowest=False):
    """By how much scores are better than others of the same seeds, and how sure that is.

    The interval has a level of 95 % and is of percentiles. BCa, SciPy's default, would correct it
    for a skewness that so few differences do not tell, and has no value where all are the same.

    Args:
        scores, others: a `pandas.Series` each, of runs by their seeds.
        lowest: whether the lowest score is the best.

    Returns:
        A dict: ahead, the mean of the differences, positive where `scores` are better; and
        ahead_low and ahead_high, its bootstrap interval. NaN where less than three seeds are
        common to both, or a training broke down.

    Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    gains = (others - scores if lowest else scores - others).loc[
        scores.index.intersection(others.index)
    ]
    if len(gains) < _FEWEST or gains.isna().any():
        return dict.fromkeys(_AHEAD, math.nan)
    interval = stats.bootstrap(
        (gains.to_numpy(),), np.mean, confidence_level=0.95, method="percentile", rng=0
    ).confidence_interval
    return dict(zip(_AHEAD, (gains.mean(), interval.low, interval.high), strict=True))


def words(found):
    """What people read of the rows of `table`."""
    several = [name for name in _ALL if found[name].nunique(dropna=False) > 1]
    compared = found["ahead"].notna().any()
    return [
        {
            **{name.replace("_", " "): str(row[name]) for name in several},
            "method": METHODS[row["method"]].label,
            "runs": str(row["runs"]),
            "final": _number(row, "final"),
            **({"ahead of MGS (95 %)": _lead(row)} if compared else {}),
            "best epoch (needs test labels)": _number(row, "best"),
            "time": "" if pd.isna(row["relative_seconds"]) else f"× {row['relative_seconds']:.2f}",
        }
        for row in (found.to_dict("records") if len(found) else ())
    ]


def _number(row, name):
    digits, mean, std = _digits(row), row[name], row[f"{name}_std"]
    return f"{mean:.{digits}f}" + ("" if pd.isna(std) else f" ± {std:.{digits}f}")


def _lead(row):
    if pd.isna(row["ahead"]):
        return ""
    mean, low, high = (f"{row[name]:+.{_digits(row)}f}" for name in _AHEAD)
    return f"{mean} ({low} to {high})"


def _digits(row):
    return 3 if _score(row) == "relative" else 1


def _score(settings):
    """What the test score of a record is."""
    if settings["task"] == "classification":
        return "accuracy"
    return "relative" if settings.get("kind") in ("table", "series") else "mse"


def files(records):
    """The curves of all runs, as a table and drawn."""
    curves = tables.curves(records)
    pictures = {}
    scores = [_score(row) for row in curves.to_dict("records")]
    for score, some in curves.groupby(scores):
        name = "compare.png" if len(set(scores)) == 1 else f"compare-{score}.png"
        pictures[name] = draw.curves(some, score)
    return {"curves.csv": curves.to_csv(index=False).encode(errors="backslashreplace"), **pictures}
