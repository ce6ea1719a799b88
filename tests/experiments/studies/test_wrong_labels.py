import functools
import math
import sys

import numpy as np
import pandas as pd
import pytest

from keras_mgs.experiments import reproduce
from keras_mgs.experiments.catalogue.presets import EXPERIMENTS
from keras_mgs.experiments.data import datasets
from keras_mgs.experiments.runs.grid import missing
from keras_mgs.experiments.runs.store import Store
from keras_mgs.experiments.studies import wrong_labels
from keras_mgs.experiments.training import fitting, networks

SMALL = {"methods": ["unregularised", "mgs"], "training_sizes": [60], "runs": 1, "epochs": 2}
SMALL |= {"networks": ["fcn"], "label_noises": [0.4], "noises": ["uniform"], "folds": 3}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Tracing takes nearly all of the time."""
    monkeypatch.setitem(networks.NETWORKS, "fcn", functools.partial(networks.fcn, widths=(8,)))


def slow_rate(wrong, scores):
    """Threshold by threshold; ties share one. Then the k first, one by one."""
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        found = [w for w, s in zip(wrong, scores, strict=True) if s >= threshold]
        area += (sum(found) / sum(wrong) - recall) * sum(found) / len(found)
        recall = sum(found) / sum(wrong)
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    return area, sum(wrong[i] for i in order[: sum(wrong)]) / sum(wrong)


@pytest.mark.parametrize("seed", range(5))
def test_area_and_precision_are_those_of_every_threshold(seed):
    rng = np.random.default_rng(seed)
    wrong = rng.random(50) < 0.3
    scores = np.round(rng.random(50) + 0.5 * wrong, 1)  # with ties
    expected = slow_rate(wrong.tolist(), scores.tolist())
    np.testing.assert_allclose(wrong_labels.rate(wrong, scores), expected, rtol=1e-9)
    assert wrong_labels.rate(wrong, wrong.astype(float)) == (1, 1)


def test_without_wrong_labels_or_scores_there_is_nothing_to_rate():
    for wrong, scores in (([False] * 3, [1.0, 2.0, 3.0]), ([True, False], [math.nan, 1.0])):
        assert np.isnan(wrong_labels.rate(np.array(wrong), np.array(scores))).all()


def test_a_scenario_is_trained_by_each_method_and_the_unregularised_network_in_folds():
    runs = wrong_labels.plan(**{**SMALL, "runs": 2, "seed": 3})
    ways = [("unregularised", 1), ("unregularised", 3), ("mgs", 1)]
    assert [(run["seed"], run["method"], run["folds"]) for run in runs] == [
        (seed, *way) for seed in (3, 4) for way in ways
    ]
    assert {(run["noise"], run["label_noise"]) for run in runs} == {("uniform", 0.4)}


def test_most_labels_of_a_class_are_never_of_one_other():
    """Or no method could tell which labels are the wrong ones."""
    for preset in EXPERIMENTS["wrong-labels"].presets.values():
        runs = wrong_labels.plan(**preset)
        of = {(run["noise"], run["label_noise"]) for run in runs}
        assert {("uniform", 0.2), ("uniform", 0.4), ("uniform", 0.6), ("pair", 0.2)} < of
        assert max(share for noise, share in of if noise != "uniform") == 0.4
        assert len({str(run) for run in runs}) == len(runs)


@pytest.mark.parametrize("noise", ["uniform", "pair"])
def test_wrong_are_the_labels_that_the_noise_has_changed(noise, monkeypatch):
    """Whoever knows them finds them all."""
    run = wrong_labels.plan(**{**SMALL, "noises": [noise]})[0]
    same = {"training_size": 60, "seed": 0}
    clean = datasets.load("digits", **same)
    noisy = datasets.load("digits", **same, label_noise=0.4, noise_kind=noise)
    wrong = noisy.y_train != clean.y_train
    if noise == "pair":
        assert ((noisy.y_train - clean.y_train) % 10 == wrong).all() and wrong.sum() == 24

    def knowing(samples, settings):
        np.testing.assert_array_equal(samples.y_train, noisy.y_train)
        return {"label_scores": 1.0 * wrong, "normalized_margin": 1.0 * ~wrong}, 50.0

    monkeypatch.setattr(wrong_labels, "score", knowing)
    found = wrong_labels.train(run, "digits").set_index("score")
    assert found.loc["label_scores", ["area", "precision", "test"]].tolist() == [1, 1, 50]
    assert found.loc["normalized_margin", "area"] < wrong.mean() + 0.1
    assert found.loc["normalized_margin", "precision"] == max(0, 2 * wrong.sum() - 60) / wrong.sum()


class Known:
    """A model whose logits are a table, by the first number of a sample."""

    def __init__(self, logits):
        self.logits = logits

    def predict(self, x, verbose):
        return self.logits[x[:, 0].astype(int)]


@pytest.fixture
def known(monkeypatch):
    """Nine samples of three classes, of which each training has logits of its own."""
    rng = np.random.default_rng(0)
    x, y = np.arange(9.0)[:, None].astype("float32"), np.arange(9) % 3
    samples = datasets.Dataset("known", "classification", x, y, x[:3], y[:3])
    trainings = []

    def fit(some, network, method, **options):
        trainings.append((some.x_train[:, 0].astype(int), rng.normal(size=(9, 3))))
        return Known(trainings[-1][1]), pd.DataFrame({"test": [0.0, 10.0 * len(trainings)]})

    monkeypatch.setattr(fitting, "fit", fit)
    return samples, trainings


def slow_scores(logits, label):
    """1 - p[label], and that less the largest p of another class, as cleanlab scales it."""
    p = [math.exp(f) / sum(map(math.exp, logits)) for f in logits]
    margin = p[label] - max(p[a] for a in range(len(p)) if a != label)
    return 1 - p[label], 1 - (margin + 1) / 2


def test_each_fold_is_scored_by_a_training_on_the_others(known):
    samples, trainings = known
    run = {**wrong_labels.plan(**SMALL)[1], "folds": 3}
    found, test = wrong_labels.score(samples, run)
    assert len(trainings) == 3 and test == 20  # of 10, 20 and 30
    assert list(found) == ["self_confidence", "normalized_margin"]
    held = [set(range(9)) - set(seen) for seen, _ in trainings]
    assert sorted(i for some in held for i in some) == list(range(9))
    for i in range(9):
        ((_, logits),) = (t for t, some in zip(trainings, held, strict=True) if i in some)
        expected = slow_scores(logits[i].tolist(), i % 3)
        np.testing.assert_allclose([found[name][i] for name in found], expected, rtol=1e-9)
    assert all(sorted(i % 3 for i in some) == [0, 1, 2] for some in held)  # by class


def test_one_training_is_on_all_samples_and_its_label_scores_are_its_self_confidence(monkeypatch):
    seen, fit = [], fitting.fit
    monkeypatch.setattr(fitting, "fit", lambda *a, **k: seen.append(a[0]) or fit(*a, **k))
    run = wrong_labels.plan(**SMALL)[0]
    samples = datasets.load("digits", training_size=60, label_noise=0.4)
    found, test = wrong_labels.score(samples, run)
    assert len(seen) == 1 and len(seen[0].x_train) == 60 and 0 < test < 60
    np.testing.assert_allclose(found["label_scores"], found["self_confidence"], rtol=1e-5)


def test_a_training_that_broke_down_finds_nothing(known, monkeypatch):
    samples, _ = known
    fit = lambda *a, **k: (Known(np.full((9, 3), np.nan)), pd.DataFrame({"test": [10.0]}))  # noqa: E731
    monkeypatch.setattr(fitting, "fit", fit)
    run = wrong_labels.plan(**SMALL)[0]
    found, _ = wrong_labels.score(samples, run)
    assert list(found) == list(wrong_labels.SCORES) and np.isnan([*found.values()]).all()


def record(method, area, seed=0, folds=1, seconds=2.0, **changed):
    """A run of three scores: this area, one tenth less and two."""
    settings = {**wrong_labels.plan(**SMALL)[0], "method": method, "folds": folds, "seed": seed}
    settings |= {"strength": "auto" if method == "mgs" else None} | changed
    names = [*wrong_labels.SCORES][folds > 1 :]
    areas = [area - 0.1 * i for i in range(len(names))]
    numbers = {"score": names, "area": areas, "precision": areas, "test": 50.0, "seconds": seconds}
    return settings, pd.DataFrame(numbers)


def test_the_table_is_of_means_over_the_seeds_and_people_read_a_line_per_way():
    records = [
        record("unregularised", 0.7, folds=5, seconds=6.0),
        record("unregularised", 0.5, seed=1, folds=5, seconds=15.0),
        record("mgs", 0.9),
        record("mgs", 0.7, seed=1, seconds=3.0),
        record("mgs", 0.8, noise="pair", strength=1e-4),
    ]
    found = wrong_labels.table(records)
    assert len(found) == 3 + 2 + 3
    row = found[(found["folds"] == 5) & (found["score"] == "self_confidence")].iloc[0]
    assert row["runs"] == 2 and row["relative_seconds"] == (6 / 2 + 15 / 3) / 2
    np.testing.assert_allclose(row[["area", "area_std"]].astype(float), [0.6, 0.02**0.5])
    mgs, folds, pair = wrong_labels.words(found)
    assert (mgs["labels made wrong"], mgs["trained"], mgs["time"]) == (
        "uniform, 40%",
        "MGS (tr K)",
        "× 1.0",
    )
    assert mgs["label_scores"] == "0.800 ± 0.141 (80 %)" and mgs["margin"].startswith("0.600")
    assert (folds["trained"], folds["time"]) == ("unregularised, 5 folds", "× 4.0")
    assert folds["label_scores"] == "" and folds["self-confidence"] == "0.600 ± 0.141 (60 %)"
    assert (pair["labels made wrong"], pair["trained"]) == ("pair, 40%", "MGS (tr K) 0.0001")
    assert pair["label_scores"] == "0.800 (80 %)"


def test_without_mgs_no_time_is_told_and_nan_is_no_cell():
    (line,) = wrong_labels.words(wrong_labels.table([record("unregularised", math.nan)]))
    assert line["time"] == line["label_scores"] == ""


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"noises": ["pair"], "label_noises": [0.6]}, "at most 0.5.*Received: label_noises=.0.6"),
        ({"noises": ["web"]}, "'uniform', 'pair', 'instance'. Received: noises='web'"),
        ({"label_noises": [0]}, "`label_noises` to be positive. Received: label_noises=0"),
        ({"label_noises": [1.5]}, "between 0 and 1.*Received: label_noise=1.5"),
        ({"folds": 1}, "`folds` to be at least 2. Received: folds=1"),
        ({"folds": 7}, "at most 6, the samples of a class. Received: folds=7"),
        ({"data": "diabetes"}, "with classes.*Received: data='diabetes'"),
    ],
)
def test_a_wrong_argument_is_one_sentence(changed, words):
    with pytest.raises(ValueError, match=words):
        wrong_labels.plan(**{**SMALL, **changed})


def test_without_cleanlab_the_extra_is_named_before_anything_runs(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab.rank", None)
    with pytest.raises(ImportError, match=r'Received.*pip install "keras_mgs\[cleanlab\]"'):
        wrong_labels.plan(**SMALL)


def test_what_was_done_is_not_done_again_and_gives_the_same(tmp_path):
    runs = wrong_labels.plan(**{**SMALL, "methods": ["unregularised"], "folds": 2})
    store, done = Store(tmp_path / "out", "wrong-labels"), []
    report = lambda run, found: done.append(run["folds"])  # noqa: E731
    reproduce.reproduce(store, runs[:1], data="digits", report=report)
    waiting = missing(store, runs)
    reproduce.reproduce(store, waiting, data="digits", report=report)
    assert done == [1, 2] and waiting == runs[1:] and missing(store, runs) == []
    again = wrong_labels.train(runs[1], "digits").drop(columns="seconds")
    kept = store.read(runs[1]).drop(columns="seconds")
    pd.testing.assert_frame_equal(again, kept, check_exact=True)
    _, lines, files = reproduce.report(store.folder)
    assert len(lines) == 2 and files == ["table.csv"]
