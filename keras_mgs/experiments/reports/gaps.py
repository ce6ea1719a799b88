"""What a default covers of the gain that is possible, problem by problem."""

import math

import pandas as pd

from keras_mgs.experiments.catalogue.problems import PROBLEMS
from keras_mgs.experiments.reports import figures as draw
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.training.methods import METHODS

SCENARIO = (
    "problem",
    "half",
    "task",
    "data",
    "network",
    "label_noise",
    "optimizer",
    "learning_rate",
    "batch_size",
    "training_size",
    "epochs",
)
_LATER = {"noise": "uniform", "missing": 0.0}  # not in records of their default
_ALL = (*SCENARIO, *_LATER)
HALVES = ("development", "held-out")  # what rules are chosen on, and what they are judged on
_GRID = len(PROBLEMS["fcn"].alphas)
HELPS = {"classification": 1.0, "regression": 2.0}  # points; % of the error: what is no chance
_OTHERS = ("dropout", "generalised_cross_entropy", "early_stopping")
_NUMBERS = ("unregularised", "mgs", "mgs_alpha", "best_fixed", "best_alpha", "alphas", *_OTHERS)
_BY_SEED = ("unregularised_by_seed", "mgs_by_seed")


def table(records):
    """One row per problem: all runs that differ in nothing but method and seed.

    Args:
        records: settings and curves of runs of `plan`, as `Store.records` yields them.

    Returns:
        A `pandas.DataFrame`: the problem; runs, of its most trained method; the final score, the
        mean of each run's last five measurements, then over runs, of the unregularised network,
        MGS at its defaults with the alpha that it ended with, the best of the fixed alphas, which
        it is and of how many, and the other methods; difference, by how much MGS at its defaults is
        better than unregularised, in points of accuracy or % of the unregularised error; and gap,
        that difference over the one of the best fixed alpha, where labels are noisy and it is
        better than by chance (by 1 point or 2 %). What has not been trained is NaN, and so is the
        gap as long as some of the alphas have not. Two columns, unregularised_by_seed and
        mgs_by_seed, have the scores of single runs by ascending seed, as texts with spaces.
    """
    rows = [
        {
            **_LATER,
            **settings,
            "final": _score(settings["task"], tables.final(curves["test"])),
            "alpha": curves["mgs_alpha"].iloc[-1] if "mgs_alpha" in curves else math.nan,
        }
        for settings, curves in records
    ]
    if not rows:
        return pd.DataFrame(columns=[*_ALL, "runs", *_NUMBERS, "difference", "gap", *_BY_SEED])
    order = {name: i for i, name in enumerate(PROBLEMS)}
    groups = pd.DataFrame(rows).groupby(list(_ALL), sort=False)
    found = [_row(dict(zip(_ALL, key, strict=True)), runs) for key, runs in groups]
    found.sort(key=lambda row: order.get(row["problem"], len(order)))
    return pd.DataFrame(found)


def _score(task, final):
    """A training that broke down has an infinite error, so that it cannot be overlooked."""
    return math.inf if task == "regression" and math.isnan(final) else final


def _row(scenario, runs):
    auto = runs[(runs["method"] == "mgs") & (runs["strength"] == "auto")]
    fixed = runs[(runs["method"] == "mgs") & (runs["strength"] != "auto")]
    fixed = fixed.groupby(fixed["strength"].astype(float))["final"].mean()
    finals = runs.groupby("method")["final"].mean()
    row = {**scenario, "runs": int(runs.groupby(["method", "strength"], dropna=False).size().max())}
    row["unregularised"] = finals.get("unregularised", math.nan)
    row |= {"mgs": auto["final"].mean(), "mgs_alpha": auto["alpha"].mean()}
    row |= {"best_fixed": math.nan, "best_alpha": math.nan, "alphas": len(fixed)}
    if len(fixed):
        best = fixed.idxmin() if scenario["task"] == "regression" else fixed.idxmax()
        row |= {"best_fixed": fixed[best], "best_alpha": best}
    row |= {name: finals.get(name, math.nan) for name in _OTHERS}
    row["difference"] = gain(row, "mgs")
    possible = gain(row, "best_fixed")
    helps = row["label_noise"] > 0 and possible > HELPS[row["task"]] and len(fixed) >= _GRID
    row["gap"] = row["difference"] / possible if helps else math.nan
    plain = runs[runs["method"] == "unregularised"]
    return row | dict(zip(_BY_SEED, map(_by_seed, (plain, auto)), strict=True))


def _by_seed(runs):
    runs = runs.assign(seed=pd.to_numeric(runs["seed"], errors="coerce"))  # others' may be texts
    return " ".join(str(float(final)) for final in runs.sort_values("seed")["final"])


def gain(row, method):
    """By how much a row's method is better than unregularised, in points or % of the error."""
    ours, none = row[method], row["unregularised"]
    return 100 * (none - ours) / none if row["task"] == "regression" else ours - none


def summary(found):
    """Of the rows of `table`: what its gaps and differences come to, for each half and in all.

    Returns:
        A `pandas.DataFrame` with a row per half and one for all: helped, the number of problems
        with a gap; mean_gap and minimum_gap; not_helped, the number of those that have been
        trained at all alphas and have none; and the worst difference of these, worst_points of
        accuracies and worst_percent of errors.
    """
    rows = []
    for half in (*HALVES, "all"):
        some = found if half == "all" else found[found["half"] == half]
        helped = some["gap"].notna()
        other = some[~helped & some["difference"].notna() & (some["alphas"] >= _GRID)]
        worst = other.groupby("task")["difference"].min()
        rows.append(
            {
                "half": half,
                "helped": int(helped.sum()),
                "mean_gap": some["gap"].mean(),
                "minimum_gap": some["gap"].min(),
                "not_helped": len(other),
                "worst_points": worst.get("classification", math.nan),
                "worst_percent": worst.get("regression", math.nan),
            }
        )
    return pd.DataFrame(rows)


def words(found):
    """What people read of the rows of `table`, and below them of `summary`."""
    if found.empty:
        return []
    lines = [
        {
            "problem": _name(row),
            "half": _half(row),
            "plain": _number(row, "unregularised"),
            "MGS": _number(row, "mgs", "mgs_alpha"),
            "best fixed": _number(row, "best_fixed", "best_alpha"),
            "dropout": _number(row, "dropout"),
            "GCE": _number(row, "generalised_cross_entropy"),
            "early stopping": _number(row, "early_stopping"),
            "gap": _gap(row),
        }
        for row in found.to_dict("records")
    ]
    for row in summary(found).to_dict("records"):
        texts = {
            f"gaps: mean of {row['helped']}": f"{row['mean_gap']:.2f}",
            "gaps: lowest": f"{row['minimum_gap']:.2f}",
            f"others: worst of {row['not_helped']}": f"{row['worst_points']:+.1f} pt",
            "others: worst error": f"{row['worst_percent']:+.1f} %",
        }
        for problem, text in texts.items():
            if "nan" not in text:
                line = dict.fromkeys(lines[0], "")
                lines.append({**line, "problem": problem, "half": _half(row), "gap": text})
    return lines


def _name(row):
    """The problem's, and how its labels are wrong and what is missing if it is not as usual."""
    unusual = [row["noise"]] if row["noise"] != "uniform" else []
    unusual += [f"{row['missing']:.0%} missing"] if row["missing"] else []
    return f"{row['problem']}" + (f" ({', '.join(unusual)})" if unusual else "")


def _half(row):
    return row["half"].replace("development", "develop.")


def _number(row, name, alpha=None):
    """A score, and the alpha that it was reached with."""
    if pd.isna(row[name]):
        return ""
    digits = ".1f" if row["task"] == "classification" or row[name] >= 10 else ".3g"
    known = alpha and not pd.isna(row[alpha])
    return f"{row[name]:{digits}}" + (f" ({row[alpha]:.1e})" if known else "").replace("e-0", "e-")


def _gap(row):
    if not pd.isna(row["gap"]):
        return f"{row['gap']:.2f}"
    if pd.isna(row["difference"]):
        return ""
    return f"{row['difference']:+.1f}" + (" %" if row["task"] == "regression" else " pt")


def files(records):
    """What each method gains over the unregularised network, and the summary."""
    found = table(records)
    columns = {"mgs": "mgs", "best_fixed": None} | {name: name for name in _OTHERS}
    gains = {
        METHODS[method].label if method else "best fixed alpha": [
            gain(row, column) for row in found.to_dict("records")
        ]
        for column, method in columns.items()
    }
    return {
        "gains.png": draw.dots(
            pd.DataFrame(gains, index=[_name(row) for row in found.to_dict("records")]),
            "gain over unregularised (points of accuracy; of an error: %)",
        ),
        "summary.csv": summary(found).to_csv(index=False).encode(),
    }
