"""Finding wrong labels: one training with MGS beside cleanlab's cross-validation."""

import math
import time

import keras
import numpy as np
import pandas as pd
from keras import ops
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold

import keras_mgs
from keras_mgs import checks
from keras_mgs.experiments.catalogue.names import NOISES
from keras_mgs.experiments.catalogue.settings import WrongLabels
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.runs import scenarios
from keras_mgs.experiments.training import fitting
from keras_mgs.experiments.training.methods import METHODS

TITLE = (
    "wrong labels found: area under the curve of precision and recall, mean ± standard deviation "
    "(and how many of the first k are wrong, k being the number of wrong labels); and the time, "
    "one training with MGS taking 1"
)
SCORES = {  # and how people call them
    "label_scores": "label_scores",
    "self_confidence": "self-confidence",
    "normalized_margin": "margin",
}
_NAMED = 0.5  # the share from which on most labels of a class may be of one other
_SCENARIO = (
    "data",
    "corruption",
    "network",
    "training_size",
    "noise",
    "label_noise",
    "epochs",
    "batch_size",
    "learning_rate",
)
_WAY = ("method", "strength", "folds")
_NUMBERS = ("area", "precision", "test", "seconds")


def plan(data="digits", **given):
    """The settings of every run of `settings.WrongLabels(data=data, **given)`.

    A run is one training, or the trainings of all folds. Those of a seed share samples, wrong
    labels and first weights.

    Raises:
        TypeError, ValueError, FileNotFoundError: as `scenarios.plan`; ValueError: there are too few
            samples for the folds, or no run is left.
        ImportError: cleanlab is missing, or as `scenarios.plan`.
    """
    chosen = WrongLabels(data=data, **given)
    _cleanlab()
    runs = [
        {**run, "points": 1, "noise": noise, "folds": folds}
        for run in scenarios.plan("classification", chosen)
        for noise in chosen.noises
        if noise == "uniform" or run["label_noise"] <= _NAMED
        for folds in ((1, chosen.folds) if run["method"] == "unregularised" else (1,))
    ]
    if not runs:
        raise ValueError(
            f"Expected `label_noises` of at most {_NAMED:g}, unless they are uniform. Received: "
            f"label_noises={chosen.label_noises} with noises={chosen.noises}."
        )
    _check_folds(min(runs, key=lambda run: run["training_size"]), data, chosen.folds)
    return runs


def _check_folds(run, data, folds):
    """That each fold can have a sample of the most frequent class, whatever the labels."""
    samples = scenarios.load(run, data)
    most = math.ceil(len(samples.x_train) / samples.outputs)
    if folds > most:
        raise ValueError(
            f"Expected `folds` to be at most {most}, the samples of a class. "
            f"Received: folds={folds}. Give fewer, or more training samples."
        )


def _cleanlab():
    """cleanlab's function of labels and probabilities."""
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError as error:
        raise ImportError(
            f"`reproduce wrong-labels` needs the extra `cleanlab`. Received: {error}. "
            'Install it: pip install "keras_mgs[cleanlab]"'
        ) from error
    return get_label_quality_scores


def train(settings, data):
    """How well the wrong labels of one run of `plan` are found: a row per score of the labels.

    Returns:
        A `pandas.DataFrame` with the columns score, a key of `SCORES`; area and precision, as of
        `rate`; test, the accuracy on clean test samples in %, the mean of the folds; and seconds,
        of training and scoring.
    """
    keras.backend.clear_session()  # or a worker grows from run to run
    samples = scenarios.load(settings, data)
    clean = scenarios.load({**settings, "label_noise": 0.0}, data)  # otherwise the same
    begin = time.perf_counter()
    scores, test = score(samples, settings)
    same = {"test": test, "seconds": time.perf_counter() - begin}
    wrong = samples.y_train != clean.y_train
    return pd.DataFrame(
        [
            {"score": name, **dict(zip(("area", "precision"), rate(wrong, found), strict=True))}
            for name, found in scores.items()
        ]
    ).assign(**same)


def score(samples, settings):
    """How doubtful each training label is, by score, and the test accuracy in %.

    The probabilities are those of one training on all samples; of several folds, for each fold
    those of a training on all others, without `label_scores`, which are a model's.

    Args:
        samples: a `Dataset`.
        settings: of a run of `plan`.

    Returns:
        A dict of arrays (n,), the higher, the more doubtful, by some of `SCORES`; and a number.

    Reference: Northcutt et al., "Confident learning", JAIR 2021.
    """
    x, y = samples.x_train, samples.y_train
    p, tests = np.empty((len(x), samples.outputs)), []
    for part, rest in _folds(y, settings):
        model, curves = fitting.fit(
            samples.part(part),
            settings["network"],
            settings["method"],
            **scenarios.options(settings),
            kernel=False,
        )
        f = model.predict(x[rest], verbose=0).astype("float64")
        p[rest] = ops.convert_to_numpy(ops.softmax(f))
        tests.append(curves["test"].iloc[-1])
    names = [name for name in SCORES if name != "label_scores" or settings["folds"] == 1]
    if not np.isfinite(p).all():  # the training broke down
        return dict.fromkeys(names, np.full(len(y), np.nan)), np.mean(tests)
    quality = _cleanlab()
    return {
        name: keras_mgs.label_scores(model, x, y)
        if name == "label_scores"
        else 1 - quality(y, p, method=name)
        for name in names
    }, np.mean(tests)


def _folds(y, settings):
    """Pairs of indices: what to train on, and what to score."""
    if settings["folds"] == 1:
        return [(np.arange(len(y)),) * 2]
    folds = StratifiedKFold(settings["folds"], shuffle=True, random_state=settings["seed"])
    return folds.split(y, y)


def rate(wrong, scores):
    """How well scores find wrong labels.

    Args:
        wrong: bool (n,), of which k are True.
        scores: (n,), the higher, the more doubtful.

    Returns:
        The area under the curve of precision and recall, as average precision, and the share of
        wrong labels among the k most doubtful; NaN where k is 0 or scores are NaN.
    """
    k = np.count_nonzero(wrong)
    if not k or np.isnan(scores).any():
        return math.nan, math.nan
    first = np.argsort(-scores, kind="stable")[:k]
    return average_precision_score(wrong, scores), np.mean(wrong[first])


def check(settings, curves):
    """As `tables.check`; and that it is of scores that there are."""
    needs = (*_SCENARIO, "strength", "folds", "seed")
    tables.check(settings, curves, needs=needs, numbers=_NUMBERS, words=("score",))
    scenarios.check_noise(settings)
    for name in curves["score"]:
        checks.choice("score", name, tuple(SCORES))


def table(records):
    """One row per scenario, way of training and score: means over the runs.

    Args:
        records: settings and frames of runs of `plan`, as `Store.records` yields them.

    Returns:
        A `pandas.DataFrame`: the settings; score; runs; area, with its standard deviation area_std,
        precision and test, as `train` has them; seconds; and relative_seconds, by those of the one
        training with MGS of the same seed.
    """
    keys = (*_SCENARIO, *_WAY, "seed")
    found = [run.assign(**{key: settings[key] for key in keys}) for settings, run in records]
    columns = [*_SCENARIO, *_WAY, "score"]
    if not found:
        return pd.DataFrame(columns=[*columns, "runs", *_NUMBERS])
    rows = pd.concat(found, ignore_index=True)
    scenario = [*_SCENARIO, "seed"]
    ours = rows[(rows["method"] == "mgs") & (rows["folds"] == 1)].drop_duplicates(scenario)
    ours = ours.set_index(scenario)["seconds"]
    ours = ours.reindex(pd.MultiIndex.from_frame(rows[scenario])).to_numpy()
    rows = rows.assign(relative_seconds=rows["seconds"] / ours)
    made = rows.groupby(columns, dropna=False, sort=False).agg(
        runs=("area", "size"),
        area=("area", "mean"),
        area_std=("area", "std"),
        precision=("precision", "mean"),
        test=("test", "mean"),
        seconds=("seconds", "mean"),
        relative_seconds=("relative_seconds", "mean"),
    )
    lines = made.reset_index().to_dict("records")
    return pd.DataFrame(sorted(lines, key=_place))


def _place(row):
    """What rows are sorted by: MGS before all other methods."""
    way = row["method"] != "mgs", list(METHODS).index(row["method"]), row["folds"]
    noise = NOISES.index(row["noise"]), row["label_noise"]
    return row["network"], row["training_size"], *noise, *way, list(SCORES).index(row["score"])


def words(found):
    """What people read of the rows of `table`: a line per scenario and way of training."""
    differing = [
        name
        for name in _SCENARIO
        if name not in ("noise", "label_noise") and found[name].nunique(dropna=False) > 1
    ]
    lines: dict = {}
    for row in found.to_dict("records"):
        known = not pd.isna(row["relative_seconds"])
        line = {
            **{name.replace("_", " "): str(row[name]) for name in differing},
            "labels made wrong": f"{row['noise']}, {row['label_noise']:.0%}",
            "trained": _way(row),
            "runs": str(row["runs"]),
            **dict.fromkeys(SCORES.values(), ""),
            "time": f"× {row['relative_seconds']:.1f}" if known else "",
        }
        key = str([row[name] for name in (*_SCENARIO, *_WAY)])
        lines.setdefault(key, line)[SCORES[row["score"]]] = cell(row)
    return list(lines.values())


def _way(row):
    """The method, its strength if it is not its own, and the folds if there are any."""
    method = METHODS[row["method"]]
    own = pd.isna(row["strength"]) or str(row["strength"]) == str(method.strength)
    folds = f", {row['folds']} folds" if row["folds"] > 1 else ""
    return method.label + ("" if own else f" {row['strength']}") + folds


def cell(row):
    """The area of a row of `table`, and the precision in brackets."""
    if pd.isna(row["area"]):
        return ""
    spread = "" if pd.isna(row["area_std"]) else f" ± {row['area_std']:.3f}"
    return f"{row['area']:.3f}{spread} ({100 * row['precision']:.0f} %)"


def files(records):
    """Nothing but the table."""
    return {}
