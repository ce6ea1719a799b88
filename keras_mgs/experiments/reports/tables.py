"""Runs on a data set, as a table beside the paper's."""

import json
from pathlib import Path

import pandas as pd

from keras_mgs import checks, storage
from keras_mgs.experiments.catalogue.presets import KEYS
from keras_mgs.experiments.training.methods import METHODS

FINAL = 5  # measurements that the final score is the mean of, as in the paper
_CELL = ["network", "training_size", "label_noise", "method"]
_NUMBERS = ["final", "std", "best"]
_KERNEL = ["mgs_trace", "mgs_log_det"]
_OTHERS = ("data", "corruption", "strength", "epochs", "batch_size", "learning_rate", "points")
_ORDER = list(METHODS)
COLUMNS = ("epoch", "test", *_KERNEL, "mgs_singular")  # that `table` and `curves` need
_MOST = 1e7  # of a number in settings, but for a seed: none that has a meaning is near it


def check(settings, curves, *, needs=("network",), numbers=("test",), words=()):
    """That a record is of a run: whoever has made it, no table and no file's name can fail of it.

    Args:
        settings: texts, numbers and None; those of `plan` have their own kinds.
        curves: a `pandas.DataFrame`.
        needs: settings that must be there.
        numbers, words: columns that must be there, of numbers or of texts.

    Raises:
        TypeError, ValueError: it is not.
    """
    missing = [name for name in needs if name not in settings]
    missing += [name for name in (*numbers, *words) if name not in curves]
    if missing:
        raise ValueError(f"it has no {missing[0]!r}")
    clash = {"self", "run", "label", *curves} & set(settings)
    if clash:
        raise ValueError(f"it has a setting that is called {min(clash)!r}")
    METHODS[checks.choice("method", settings.get("method"), tuple(METHODS))].at(
        settings.get("strength")
    )
    for name, value in settings.items():
        _check_setting(name, value)
    for name in numbers:
        if curves[name].dtype.kind not in "iuf":
            raise TypeError(f"its column {name!r} is not of numbers")
    for name in words:
        if not all(isinstance(value, str) for value in curves[name]):
            raise TypeError(f"its column {name!r} is not of texts")
    if "epoch" in numbers and not curves["epoch"].between(0, _MOST).all():
        raise ValueError(f"its epochs are not from 0 to {_MOST:g}")


def _check_setting(name, value):
    kind = KEYS.get(name)
    if kind is int and name != "seed":
        checks.count(name, value)
    elif kind is float and not isinstance(value, list):
        checks.number(name, value)
    elif name == "network" and not isinstance(value, str):
        raise TypeError(f"Expected `{name}` to be a text. Received: {value!r}.")
    several = value if name == "epsilons" and isinstance(value, list) else [value]
    for one in several:
        if isinstance(one, bool | str | None):
            continue
        most = 2**32 - 1 if name == "seed" else _MOST
        if not 0 <= checks.number(name, one) <= most:
            raise ValueError(f"Expected `{name}` to be from 0 to {most:g}. Received: {one!r}.")


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
        key=lambda pair: [
            *(pair[0][key] for key in _CELL[:-1] if key in pair[0]),
            _ORDER.index(pair[0]["method"]),
        ],
    )


def final(curve):
    """The mean of the last five measurements of a run."""
    return curve.tail(FINAL).mean()


def table(records, paper=None, *, lowest=False):
    """One row per cell: all runs whose settings differ in nothing but the seed.

    Args:
        records: settings and curves of runs of `scenarios.plan`, as `Store.records` yields them.
        paper: rows of `published`; None: there are none.
        lowest: whether the lowest score is the best: an error instead of an accuracy.

    Returns:
        A `pandas.DataFrame`: the settings; runs; final, the mean of each run's last five
        measurements, then over runs, and std, its standard deviation over runs; best, the maximum
        (of an error the minimum) of the mean curve of the runs, all of the test score; mgs_trace
        and mgs_log_det, as final; where there is a paper the score in the paper, if it has this
        cell, and against_paper: "better", "within" (its standard deviation) or "worse".
    """
    sign = -1 if lowest else 1
    theirs = [f"paper_{name}" for name in _NUMBERS]
    rows = []
    for cell, runs in cells(records):
        finals = pd.Series([final(curves["test"]) for curves in runs])
        mean = pd.concat(runs).groupby("epoch")["test"].mean()
        row = {**cell, "runs": len(runs), "final": finals.mean(), "std": finals.std()}
        row["best"] = mean.min() if lowest else mean.max()
        for name in _KERNEL:
            row[name] = pd.Series([final(_with_gaps(run)[name]) for run in runs]).mean()
        if paper is not None:
            key = [name for name in _CELL if name in paper]
            same = paper[(paper[key] == [cell[name] for name in key]).all(axis=1)]
            row |= same.iloc[0][theirs] if len(same) else dict.fromkeys(theirs, float("nan"))
            gain = sign * (row["final"] - row["paper_final"])
            row["against_paper"] = _against(gain, row["paper_std"])
        rows.append(row)
    none = [
        *_CELL,
        "runs",
        *_NUMBERS,
        *_KERNEL,
        *([*theirs, "against_paper"] if paper is not None else []),
    ]
    return pd.DataFrame(rows, columns=None if rows else none)


def _against(gain, std):
    """How a number that is better than the paper's by `gain` compares with it; NaN: no number."""
    if pd.isna(gain):
        return ""
    return "within" if abs(gain) <= std else "better" if gain > 0 else "worse"


def words(found, headings):
    """What people read of the rows of `table`: texts by their headings, a dict per row.

    Args:
        found: the rows.
        headings: some of `_WORDS`. Settings in which the runs of one method differ follow it.
    """
    if found.empty:
        return []
    several = _differing(found)
    lines = []
    for row in found.to_dict("records"):
        line = {}
        for heading in headings:
            line[heading] = _WORDS[heading](row)
            if heading == "method":
                line |= {key.replace("_", " "): _setting(row[key]) for key in several}
        lines.append(line)
    return lines


def _setting(value):
    return "" if pd.isna(value) else str(value)  # a method without a strength has none


def _score(prefix):
    def words(row):
        final, std, best = (row[f"{prefix}{name}"] for name in _NUMBERS)
        if pd.isna(final):
            return ""
        spread = "" if pd.isna(std) else f" ± {std:.1f}"
        return f"{final:.1f}{spread}" + ("" if pd.isna(best) else f" ({best:.1f})")

    return words


_WORDS = {
    "network": lambda row: row["network"],
    "samples": lambda row: str(row["training_size"]),
    "label noise": lambda row: f"{row['label_noise']:.0%}",
    "target noise": lambda row: f"{row['label_noise']:g} px",
    "method": lambda row: METHODS[row["method"]].label,
    "runs": lambda row: str(row["runs"]),
    "final (best)": _score(""),
    "the paper's": _score("paper_"),
    "ours is": lambda row: row["against_paper"],
    "tr K": lambda row: f"{row['mgs_trace']:.3g}",
    "log det K": lambda row: "" if pd.isna(row["mgs_log_det"]) else f"{row['mgs_log_det']:.0f}",
}


def curves(records):
    """The curves of all runs below each other, with their settings, a run's number and a label.

    The label is the method's, with the settings in which the runs of one method differ. log det K
    is NaN where K is singular to working precision.
    """
    rows = []
    for cell, runs in cells(records):
        rows += [run.assign(**cell, run=number) for number, run in enumerate(runs)]
    found = pd.concat(rows, ignore_index=True)
    labels = found["method"].map(lambda method: METHODS[method].label)
    for key in _differing(found):
        labels += f", {key.replace('_', ' ')} " + found[key].map(_drawn)
    return _with_gaps(found.assign(label=labels))


def _drawn(value):
    """A setting as matplotlib draws it: a dollar is no mathematics."""
    return storage.printable(value).replace("$", r"\$")


def _differing(found):
    """The settings in which runs of one method differ, of those that are not to be varied."""
    by_method = found.groupby("method")  # as each has a strength of its own
    return [key for key in _OTHERS if key in found and by_method[key].nunique(False).max() > 1]


def _with_gaps(curves):
    known = curves["mgs_singular"] == 0
    return curves.assign(mgs_log_det=curves["mgs_log_det"].where(known))
