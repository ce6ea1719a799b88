"""Runs on a data set, as a table beside the paper's."""

import json
from pathlib import Path

import pandas as pd

from keras_mgs.experiments.compare import FINAL
from keras_mgs.experiments.methods import METHODS

_CELL = ["network", "training_size", "label_noise", "method"]
_NUMBERS = ["final", "std", "best"]
_OTHERS = ("data", "corruption", "strength", "epochs", "batch_size", "learning_rate")
_ORDER = list(METHODS)


def published(experiment):
    """The paper's numbers for an experiment, a row per cell."""
    path = Path(__file__).with_name("paper") / f"{experiment}.csv"
    return pd.read_csv(path, comment="#", dtype={"table": str})


def cells(records):
    """The settings, but for the seed, and the curves of all runs that share them, in order."""
    found: dict = {}
    for settings, curves in records:
        cell = {key: value for key, value in settings.items() if key != "seed"}
        found.setdefault(json.dumps(cell), (cell, []))[1].append(curves)
    return sorted(
        found.values(),
        key=lambda pair: [*(pair[0][key] for key in _CELL[:-1]), _ORDER.index(pair[0]["method"])],
    )


def table(records, paper=None, *, lowest=False):
    """One row per cell: all runs whose settings differ in nothing but the seed.

    Args:
        records: settings and curves of runs of `trainings.plan`, as `Store.records` yields them.
        paper: rows of `published`; None: there are none.
        lowest: whether the lowest score is the best: an error instead of an accuracy.

    Returns:
        A `pandas.DataFrame`: the settings; runs; final, the mean of each run's last five
        measurements, then over runs, and std, its standard deviation over runs; best, the maximum
        (of an error the minimum) of the mean curve of the runs, all of the test score; where there
        is a paper the same of the paper, if it has this cell; and against_paper: "better",
        "within" (its standard deviation) or "worse".
    """
    sign = -1 if lowest else 1
    theirs = [f"paper_{name}" for name in _NUMBERS]
    rows = []
    for cell, runs in cells(records):
        finals = pd.Series([curves["test"].tail(FINAL).mean() for curves in runs])
        mean = pd.concat(runs).groupby("epoch")["test"].mean()
        row = {**cell, "runs": len(runs), "final": finals.mean(), "std": finals.std()}
        row["best"] = mean.min() if lowest else mean.max()
        if paper is not None:
            key = [name for name in _CELL if name in paper]
            same = paper[(paper[key] == [cell[name] for name in key]).all(axis=1)]
            row |= same.iloc[0][theirs] if len(same) else dict.fromkeys(theirs, float("nan"))
            gain = sign * (row["final"] - row["paper_final"])
            row["against_paper"] = _against(gain, row["paper_std"])
        rows.append(row)
    none = [*_CELL, "runs", *_NUMBERS, *([*theirs, "against_paper"] if paper is not None else [])]
    return pd.DataFrame(rows, columns=None if rows else none)


def _against(gain, std):
    """How a number that is better than the paper's by `gain` compares with it; NaN: no number."""
    if pd.isna(gain):
        return ""
    return "within" if abs(gain) <= std else "better" if gain > 0 else "worse"


def words(found, noise):
    """What people read of the rows of `table`: texts by their headings, a dict per row.

    Args:
        found: the rows.
        noise: of a label noise: its text.
    """
    if found.empty:
        return []
    by_method = found.groupby("method")  # as each has a strength of its own
    several = [key for key in _OTHERS if by_method[key].nunique(dropna=False).max() > 1]
    return [
        {
            "network": row["network"],
            "samples": str(row["training_size"]),
            "noise": noise(row["label_noise"]),
            "method": METHODS[row["method"]].label,
            **{key.replace("_", " "): str(row[key]) for key in several},
            "runs": str(row["runs"]),
            "final (best)": _number(*(row[name] for name in _NUMBERS)),
            **(_beside(row) if "paper_final" in row else {}),
        }
        for row in found.to_dict("records")
    ]


def _beside(row):
    theirs = _number(*(row[f"paper_{name}"] for name in _NUMBERS))
    return {"the paper's": theirs, "ours is": row["against_paper"]}


def _number(final, std, best):
    if pd.isna(final):
        return ""
    spread = "" if pd.isna(std) else f" ± {std:.1f}"
    return f"{final:.1f}{spread}" + ("" if pd.isna(best) else f" ({best:.1f})")
