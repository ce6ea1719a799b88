"""Networks of every kind on data of every kind: does the default strength of MGS suit them all?"""

import hashlib
import math
import warnings
from pathlib import Path

import keras
import pandas as pd

from keras_mgs import checks
from keras_mgs.experiments.catalogue.problems import PROBLEMS
from keras_mgs.experiments.catalogue.settings import Zoo
from keras_mgs.experiments.data import datasets, tabular
from keras_mgs.experiments.reports import figures as draw
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.runs import scenarios
from keras_mgs.experiments.training import fitting
from keras_mgs.experiments.training.methods import METHODS as ALL

TITLE = (
    "final test accuracy, % (of a regression the squared error), and the gain of MGS at its "
    "defaults over that of the best fixed alpha"
)
FILES = {"mnist": "motion_blur", "keypoints": None}  # data that must be given, and their corruption
_POINTS = 50  # measurements of a run
HALVES = ("development", "held-out")  # what rules are chosen on, and what they are judged on
_GRID = len(PROBLEMS["fcn"].alphas)
_HELPS = {"classification": 1.0, "regression": 2.0}  # points; % of the error: what is no chance


def plan(data=None, **given):
    """The settings of every run of `settings.Zoo(data=data, **given)`, after a look at the data.

    The methods meet the same samples, label noise and first weights, which the seed alone decides.

    Args:
        data: a dict of the paths of files, as for `datasets.load`, by the names in `FILES`; None:
            there are none.
        **given: settings; without `problems` all whose data are there, and warnings name the
            others. Methods without classes leave out what needs them.

    Returns:
        A list of dicts; run by run, so that all problems have been trained once before any is
        again.

    Raises:
        TypeError, ValueError: a bad setting.
        FileNotFoundError: no such file.
        ImportError: a package that brings data along is missing.
    """
    data = data or {}
    for name in data:
        checks.choice("data", name, tuple(FILES))
    chosen = Zoo(data=data, **given)
    problems = _chosen(chosen.problems, data)
    tasks = {
        name: _task(problem, data.get(problem.data), chosen.seed)
        for name, problem in problems.items()
    }
    return [
        {
            "problem": name,
            "half": problem.half,
            "task": tasks[name],
            "data": problem.data,
            "file": _digest(data[problem.data]) if problem.data in FILES else None,
            "network": problem.network,
            "method": method,
            "strength": strength,
            "training_size": problem.training_size,
            "label_noise": problem.label_noise,
            "optimizer": problem.optimizer,
            "learning_rate": problem.learning_rate,
            "batch_size": problem.batch_size,
            "epochs": chosen.epochs or problem.epochs,
            "points": _POINTS,
            "seed": chosen.seed + run,
        }
        for run in range(chosen.runs)
        for name, problem in problems.items()
        for method, strength in _pairs(chosen.methods, problem, tasks[name])
    ]


def _chosen(names, data):
    """The problems of these names, whose data must be there; None: all those that can be."""
    wanted = {name: PROBLEMS[name] for name in PROBLEMS if names is None or name in names}
    files = {name: p.data for name, p in wanted.items() if p.data in FILES and p.data not in data}
    if files:
        options = " ".join(f"{name}=FILE.npz" for name in dict.fromkeys(files.values()))
        words = f"{', '.join(files)} need files. Give them: `--data {options}`."
        if names is not None:
            raise ValueError(f"The problems {words} Received: data={sorted(data)}.")
        warnings.warn(f"The problems {words} They are left out.", stacklevel=3)
    packages = [name for name, p in wanted.items() if not tabular.available(p.data)]
    if names is not None:
        packages = []  # reading them says what is missing
    elif packages:
        words = 'need the extra `zoo`: pip install "keras_mgs[zoo]".'
        warnings.warn(
            f"The problems {', '.join(packages)} {words} They are left out.", stacklevel=3
        )
    return {name: p for name, p in wanted.items() if name not in files and name not in packages}


def _pairs(methods, problem, task):
    """Methods and strengths of a problem."""
    for method in methods:
        if method == "fixed":
            yield from (("mgs", alpha) for alpha in problem.alphas)
        elif task == "classification" or not ALL[method].loss:
            yield method, ALL[method].strength


def _digest(path):
    """What tells a file apart on every machine: its content."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:8]


def _load(data, file, **drawing):
    if data in tabular.TABLES:
        return tabular.load(data, **drawing)
    return datasets.load(file or data, corruption=FILES.get(data), **drawing)


def _task(problem, file, seed):
    """Of the data, which are drawn once."""
    noise = problem.label_noise
    drawing = {"training_size": problem.training_size, "label_noise": noise, "seed": seed}
    return _load(problem.data, file, **drawing).task


def train(settings, data=None):
    """The curves of one run of `plan`; `data` as there, of the same content."""
    keras.backend.clear_session()  # or a worker grows from run to run
    drawing = {key: settings[key] for key in ("training_size", "label_noise", "seed")}
    samples = _load(settings["data"], (data or {}).get(settings["data"]), **drawing)
    return fitting.train(
        samples,
        settings["network"],
        settings["method"],
        **scenarios.options(settings),
        optimizer=settings["optimizer"],
        kernel=False,
    )


_SCENARIO = (
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


def check(settings, curves):
    """As `tables.check`; and that it is of a problem."""
    alpha = ("mgs_alpha",) if "mgs_alpha" in curves else ()
    tables.check(settings, curves, needs=(*_SCENARIO, "strength"), numbers=("test", *alpha))
    checks.choice("task", settings["task"], tuple(_HELPS))
    checks.choice("half", settings["half"], HALVES)


_OTHERS = ("dropout", "generalised_cross_entropy", "early_stopping")
_NUMBERS = ("unregularised", "mgs", "mgs_alpha", "best_fixed", "best_alpha", "alphas", *_OTHERS)


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
        gap as long as some of the alphas have not.
    """
    rows = [
        {
            **settings,
            "final": _score(settings["task"], tables.final(curves["test"])),
            "alpha": curves["mgs_alpha"].iloc[-1] if "mgs_alpha" in curves else math.nan,
        }
        for settings, curves in records
    ]
    if not rows:
        return pd.DataFrame(columns=[*_SCENARIO, "runs", *_NUMBERS, "difference", "gap"])
    order = {name: i for i, name in enumerate(PROBLEMS)}
    groups = pd.DataFrame(rows).groupby(list(_SCENARIO), sort=False)
    found = [_row(dict(zip(_SCENARIO, key, strict=True)), runs) for key, runs in groups]
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
    helps = row["label_noise"] > 0 and possible > _HELPS[row["task"]] and len(fixed) >= _GRID
    row["gap"] = row["difference"] / possible if helps else math.nan
    return row


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
            "problem": row["problem"],
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
        ALL[method].label if method else "best fixed alpha": [
            gain(row, column) for row in found.to_dict("records")
        ]
        for column, method in columns.items()
    }
    return {
        "gains.png": draw.dots(
            pd.DataFrame(gains, index=found["problem"]),
            "gain over unregularised (points of accuracy; of an error: %)",
        ),
        "summary.csv": summary(found).to_csv(index=False).encode(),
    }
