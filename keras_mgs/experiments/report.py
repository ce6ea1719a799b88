"""What is on the disk of an experiment, as a table beside the paper's."""

import json
from pathlib import Path

import pandas as pd

from keras_mgs.experiments.compare import FINAL
from keras_mgs.experiments.methods import METHODS

_CELL = ["network", "training_size", "label_noise", "method"]
_PAPER = ["paper_final", "paper_std", "paper_max"]
_OTHERS = ("data", "corruption", "strength", "epochs", "batch_size", "learning_rate")
_ORDER = list(METHODS)


def published():
    """The paper's numbers, a row per cell."""
    return pd.read_csv(Path(__file__).with_name("paper.csv"), comment="#")


def table(records):
    """One row per cell: all runs whose settings differ in nothing but the seed.

    Args:
        records: settings and curves of each run, as `Store.records` yields them.

    Returns:
        A `pandas.DataFrame`: the settings; runs; final, the mean of each run's last five
        measurements, then over runs, and std, its standard deviation over runs; max, the maximum
        of the mean curve of the runs, all of the test accuracy in %; the same of the paper, where
        it has this cell; and against_paper: "better", "within" (its standard deviation) or "worse".
    """
    cells: dict = {}
    for settings, curves in records:
        cell = {key: value for key, value in settings.items() if key != "seed"}
        cells.setdefault(json.dumps(cell), (cell, []))[1].append(curves)
    paper = published().set_index(_CELL)[_PAPER].to_dict("index")
    rows = []
    for cell, runs in cells.values():
        finals = pd.Series([curves["test"].tail(FINAL).mean() for curves in runs])
        mean = pd.concat(runs).groupby("epoch")["test"].mean()
        numbers = {"runs": len(runs), "final": finals.mean(), "std": finals.std()}
        theirs = paper.get(tuple(cell[key] for key in _CELL), dict.fromkeys(_PAPER, float("nan")))
        against = _against(numbers["final"], theirs["paper_final"], theirs["paper_std"])
        rows.append({**cell, **numbers, "max": mean.max(), **theirs, "against_paper": against})
    rows.sort(key=lambda row: [*(row[key] for key in _CELL[:-1]), _ORDER.index(row["method"])])
    none = [*_CELL, "runs", "final", "std", "max", *_PAPER, "against_paper"]
    return pd.DataFrame(rows, columns=None if rows else none)


def _against(final, paper, std):
    """How a number compares with the paper's; empty where there is none."""
    if pd.isna(paper):
        return ""
    return "within" if abs(final - paper) <= std else "better" if final > paper else "worse"


def words(found):
    """What people read of the rows of `table`: texts by their headings, a dict per row."""
    if found.empty:
        return []
    by_method = found.groupby("method")  # as each has a strength of its own
    several = [key for key in _OTHERS if by_method[key].nunique(dropna=False).max() > 1]
    return [
        {
            "network": row["network"],
            "samples": str(row["training_size"]),
            "label noise": f"{row['label_noise']:.0%}",
            "method": METHODS[row["method"]].label,
            **{key.replace("_", " "): str(row[key]) for key in several},
            "runs": str(row["runs"]),
            "final (max)": _number(row["final"], row["std"], row["max"]),
            "the paper's": _number(row["paper_final"], row["paper_std"], row["paper_max"]),
            "ours is": row["against_paper"],
        }
        for row in found.to_dict("records")
    ]


def _number(final, std, maximum):
    if pd.isna(final):
        return ""
    spread = "" if pd.isna(std) else f" ± {std:.1f}"
    return f"{final:.1f}{spread} ({maximum:.1f})"
