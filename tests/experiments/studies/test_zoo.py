import math

import numpy as np
import pandas as pd
import pytest

from keras_mgs.experiments.catalogue.presets import EXPERIMENTS
from keras_mgs.experiments.data import datasets, tabular
from keras_mgs.experiments.studies import zoo
from keras_mgs.experiments.training.fitting import train
from keras_mgs.experiments.training.networks import NETWORKS

SMALL = {"problems": ["fcn", "diabetes"], "methods": ["unregularised", "mgs"], "runs": 1}
NOTHING = {"epoch": [1], "test": [50.0]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """As many images as the problems ask for, in the layouts of the files."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    x, y = rng.integers(0, 256, (3010, 8, 8), dtype=np.uint8), np.arange(3010) % 10
    arrays = {"x_train": x[:3000], "y_train": y[:3000], "x_test": x[3000:], "y_test": y[3000:]}
    np.savez(folder / "images.npz", **arrays)
    np.savez(folder / "points.npz", x=x[:1400], y=np.full((1400, 2), 4.0, "float32"))
    return {"mnist": folder / "images.npz", "keypoints": folder / "points.npz"}


def record(method, final, strength=None, seed=0, alpha=None, **changed):
    """A run of a problem whose last five of six measurements have this mean."""
    settings = {
        "problem": "p",
        "half": "development",
        "task": "classification",
        "data": "digits",
        "network": "fcn",
        "label_noise": 0.5,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "batch_size": 32,
        "training_size": 100,
        "epochs": 6,
    }
    settings |= {"method": method, "strength": strength, "seed": seed} | changed
    curves = pd.DataFrame({"epoch": range(1, 7), "test": [0, *(final + d for d in range(-2, 3))]})
    return settings, curves if alpha is None else curves.assign(mgs_alpha=[0.0] * 5 + [alpha])


def grid(*scores, **changed):
    """Runs at seven alphas from 1e-5 on, these and then bad scores."""
    worst = 99.0 if changed.get("task") == "regression" else 1.0
    scores = (*scores, *[worst] * 7)[:7]
    return [record("mgs", s, 1e-5 * 10**i, **changed) for i, s in enumerate(scores)]


def test_there_are_problems_of_every_kind_on_both_sides():
    assert len(zoo.PROBLEMS) >= 30
    for half in zoo.HALVES:
        some = [p for p in zoo.PROBLEMS.values() if p.half == half]
        assert len(some) >= 12
        assert {p.optimizer for p in some} == {"sgd", "adam", "adamw"}
        assert {p.batch_size for p in some} >= {16, 32, 128}
        assert any(p.label_noise == 0 for p in some) and any(p.label_noise > 0 for p in some)
        assert any("norm" in p.network for p in some) and any(p.network == "lenet5" for p in some)
    quick = {zoo.PROBLEMS[name].half for name in EXPERIMENTS["zoo"].presets["quick"]["problems"]}
    assert quick == set(zoo.HALVES)
    for name, problem in zoo.PROBLEMS.items():
        assert problem.network in NETWORKS and problem.half in zoo.HALVES, name
        assert problem.data in ("digits", *tabular.TABLES, *zoo.FILES), name


@pytest.mark.parametrize("name", zoo.PROBLEMS)
def test_seven_alphas_half_a_decade_apart_are_tried(name):
    alphas = np.array(zoo.PROBLEMS[name].alphas)
    np.testing.assert_allclose(alphas[1:] / alphas[:-1], math.sqrt(10), rtol=0.06)  # two digits
    assert len(alphas) == 7 and alphas[3] == zoo.PROBLEMS[name].alpha


def test_a_problem_is_trained_by_every_method_that_its_task_allows():
    runs = zoo.plan(**EXPERIMENTS["zoo"].presets["quick"])
    assert len({str(run) for run in runs}) == len(runs)
    for name, problem in zoo.PROBLEMS.items():
        own = [run for run in runs if run["problem"] == name]
        if problem.preset == "quick":
            strengths = [run["strength"] for run in own if run["method"] == "mgs"]
            assert strengths == ["auto", *problem.alphas]
            others = {run["method"] for run in own} - {"mgs"}
            classes = {"generalised_cross_entropy"} if own[0]["task"] == "classification" else set()
            assert others == {"unregularised", "dropout", "early_stopping"} | classes
        else:
            assert not own
    assert {run["task"] for run in runs if run["data"] == "diabetes"} == {"regression"}


def test_settings_are_the_problems_but_for_the_epochs_that_are_given():
    runs = zoo.plan(seed=4, **{**SMALL, "runs": 2})
    assert [run["seed"] for run in runs] == [4] * 4 + [5] * 4
    first = runs[0]
    problem = zoo.PROBLEMS["fcn"]
    for key in ("network", "optimizer", "learning_rate", "batch_size", "label_noise", "epochs"):
        assert first[key] == getattr(problem, key)
    assert first["strength"] is None and runs[1]["strength"] == "auto"
    assert {run["epochs"] for run in zoo.plan(epochs=3, **SMALL)} == {3}


def test_labels_are_wrong_in_the_way_that_is_asked_for():
    settings = zoo.plan(**SMALL, noise="pair")
    assert {s["problem"]: s.get("noise") for s in settings} == {"fcn": "pair", "diabetes": None}
    runs = [record("mgs", 60.0, "auto"), record("mgs", 70.0, "auto", noise="pair")]
    found = zoo.table(runs)
    assert found["noise"].tolist() == ["uniform", "pair"] and found["mgs"].tolist() == [60, 70]
    assert [line["problem"] for line in zoo.words(found)][:2] == ["p", "p (pair)"]


def test_values_are_missing_where_that_is_asked_for(monkeypatch):
    settings = zoo.plan(**SMALL, missing=0.4)
    assert [s["missing"] for s in settings] == [0.4] * 4 and "missing" not in zoo.plan(**SMALL)[0]
    seen = []
    monkeypatch.setattr(zoo.fitting, "train", lambda samples, *_, **__: seen.append(samples))
    zoo.train(settings[-1])
    assert 0.3 < (seen[0].x_train == 0).mean() < 0.5
    runs = [record("mgs", 60.0, "auto"), record("mgs", 70.0, "auto", missing=0.4, noise="pair")]
    found = zoo.table(runs)
    assert found["missing"].tolist() == [0, 0.4] and found["mgs"].tolist() == [60, 70]
    assert [line["problem"] for line in zoo.words(found)][:2] == ["p", "p (pair, 40% missing)"]
    with pytest.raises(ValueError, match="Received: missing=2"):
        zoo.plan(**SMALL, missing=2)


def test_problems_whose_data_are_not_there_are_left_out_and_that_is_said(data, monkeypatch):
    cancer = datasets.load("breast_cancer")  # in the place of what only the extra has
    monkeypatch.setattr(tabular, "available", lambda name: name != "diamonds")
    monkeypatch.setitem(tabular.TABLES, "japanese_vowels", lambda name, rng: cancer)
    bundled = {name for name, p in zoo.PROBLEMS.items() if p.data not in (*zoo.FILES, "diamonds")}
    files = {name for name, p in zoo.PROBLEMS.items() if p.data in zoo.FILES}
    with pytest.warns(UserWarning) as said:
        runs = zoo.plan(methods=["mgs"], runs=1)
    texts = [str(warning.message) for warning in said]
    assert len(texts) == 2
    assert all(name in texts[0] for name in files) and "--data mnist=FILE.npz" in texts[0]
    assert "diamonds, diamonds-clean need" in texts[1] and '"keras_mgs[zoo]"' in texts[1]
    assert {run["problem"] for run in runs} == bundled
    with pytest.warns(UserWarning, match="extra `zoo`"):
        runs = zoo.plan(data, methods=["mgs"], runs=1)
    assert {run["problem"] for run in runs} == bundled | files


def test_files_are_told_apart_by_their_content(data, tmp_path):
    given = {"problems": ["keypoints-fcn"], "methods": ["mgs"], "runs": 1}
    (run,) = zoo.plan(data, **given)
    (tmp_path / "other.npz").write_bytes(data["keypoints"].read_bytes())
    assert zoo.plan({"keypoints": tmp_path / "other.npz"}, **given) == [run]
    with np.load(data["keypoints"]) as arrays:
        np.savez(tmp_path / "other.npz", x=arrays["x"], y=arrays["y"] + 1)
    assert zoo.plan({"keypoints": tmp_path / "other.npz"}, **given) != [run]


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"problems": ["vgg"]}, "'lenet5', .*Received: problems='vgg'"),
        ({"problems": ["mnist-fcn"]}, r"mnist-fcn need files.*mnist=FILE.npz.*Received: data=\[\]"),
        ({"methods": ["adam"]}, "'fixed', .*Received: methods='adam'"),
        ({"data": {"faces": "f.npz"}}, "'mnist', 'keypoints'. Received: data='faces'"),
        ({"runs": 0}, "`runs` to be at least 1. Received: runs=0"),
        ({"epochs": 0}, "`epochs` to be at least 1. Received: epochs=0"),
        ({"seed": -1}, "at least 0. Received: seed=-1"),
    ],
)
def test_a_wrong_argument_is_one_sentence(changed, words):
    with pytest.raises(ValueError, match=words):
        zoo.plan(**{**SMALL, **changed})


def test_a_missing_file_is_one_sentence():
    with pytest.raises(FileNotFoundError, match="Received.*missing.npz"):
        zoo.plan({"mnist": "missing.npz"}, problems=["mnist-fcn"], runs=1)


@pytest.mark.parametrize("network", dict.fromkeys(p.network for p in zoo.PROBLEMS.values()))
def test_a_network_takes_a_step_of_its_problem(network):
    """With MGS, whose derivatives of second order not every layer has."""
    problem = next(p for p in zoo.PROBLEMS.values() if p.network == network)
    name = problem.data if problem.data in ("digits", "breast_cancer", "diabetes") else "digits"
    samples = zoo._load(name, None, training_size=12, label_noise=0.0, seed=0)
    options = {"epochs": 1, "batch_size": 12, "seed": 0, "strength": 1e-6, "kernel": False}
    options |= {"optimizer": problem.optimizer, "learning_rate": problem.learning_rate}
    curves = train(samples, network, "mgs", **options)
    assert list(curves) == ["epoch", "loss", "train", "test", "seconds", "mgs_alpha"]
    assert np.isfinite(curves.to_numpy()).all() and curves["mgs_alpha"][0] == 1e-6


def test_a_run_is_that_of_its_settings_alone():
    run = zoo.plan(epochs=2, **{**SMALL, "problems": ["cancer"]})[0]
    first, second, other = (
        zoo.train(settings).drop(columns="seconds")
        for settings in (run, run, {**run, "optimizer": "sgd"})
    )
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert not np.array_equal(first["loss"], other["loss"])


def test_an_error_is_in_the_units_of_the_targets(data):
    """Of the keypoints in pixels², of which the network learns a share."""
    run = zoo.plan(data, problems=["keypoints-fcn-clean"], methods=["unregularised"], runs=1)[0]
    samples = datasets.load(data["keypoints"], training_size=938)
    assert (samples.centre, samples.spread) == (4, 4)
    curves = zoo.train({**run, "epochs": 1, "learning_rate": 1e-9}, data)
    assert 0 < curves["test"][0] < 16 * 4  # all targets are 4: the outputs, squared, times 4²
    assert curves["test"][0] == pytest.approx(16 * curves["loss"][0], rel=0.5)


def test_the_gap_is_the_share_of_the_way_to_the_best_fixed_alpha():
    found = zoo.table(
        [
            record("unregularised", 62.0, seed=10),  # 61 on average
            record("unregularised", 60.0, seed=2),
            record("mgs", 75.0, "auto", alpha=2e-5),
            record("mgs", 77.0, "auto", seed=1, alpha=4e-5),  # 76
            record("mgs", 70.0, 1e-5),
            record("mgs", 92.0, 1e-5, seed=1),  # 81: the best, though 88 has been seen
            record("mgs", 88.0, 1e-4),
            record("mgs", 70.0, 1e-4, seed=1),  # 79
            *grid(5.0)[2:],
            record("dropout", 65.0, 0.5),
            record("early_stopping", 66.0, 10),
        ]
    )
    (row,) = found.to_dict("records")
    assert (row["unregularised"], row["mgs"], row["best_fixed"]) == (61, 76, 81)
    assert row["best_alpha"] == 1e-5 and row["mgs_alpha"] == pytest.approx(3e-5)
    assert row["difference"] == 15 and row["gap"] == 15 / 20
    assert row["alphas"] == 7 and row["runs"] == 2
    assert (row["unregularised_by_seed"], row["mgs_by_seed"]) == ("60.0 62.0", "75.0 77.0")
    assert (row["dropout"], row["early_stopping"]) == (65, 66)
    assert math.isnan(row["generalised_cross_entropy"])
    line = zoo.words(found)[0]
    assert line["MGS"] == "76.0 (3.0e-5)" and line["best fixed"] == "81.0 (1.0e-5)"
    assert line["gap"] == "0.75" and line["GCE"] == ""


@pytest.mark.parametrize(
    "changed, scores, difference, gap",
    [
        ({}, (60.0, 63.0, 64.0), 3.0, 0.75),
        ({}, (60.0, 59.5, 60.9), -0.5, None),  # nothing helps: by chance alone
        ({"label_noise": 0.0}, (60.0, 63.0, 64.0), 3.0, None),  # clean
        ({"task": "regression"}, (10.0, 8.0, 6.0), 20.0, 0.5),  # % of the error
        ({"task": "regression"}, (10.0, 10.5, 9.9), -5.0, None),
        ({"task": "regression"}, (10.0, math.nan, 5.0), -math.inf, -math.inf),  # broke down
    ],
)
def test_where_nothing_helps_or_labels_are_clean_there_is_a_difference_alone(
    changed, scores, difference, gap
):
    none, auto, best = scores
    runs = [record("unregularised", none, **changed), record("mgs", auto, "auto", **changed)]
    (row,) = zoo.table([*runs, *grid(best, **changed)]).to_dict("records")
    assert row["best_alpha"] == 1e-5 and row["difference"] == pytest.approx(difference)
    assert math.isnan(row["gap"]) if gap is None else row["gap"] == pytest.approx(gap)


def test_there_is_no_gap_before_all_alphas_have_been_trained():
    runs = [record("unregularised", 60.0), record("mgs", 63.0, "auto"), *grid(64.0)]
    for part, helped, other in ((runs, 1, 0), (runs[:-1], 0, 0)):
        found = zoo.table(part)
        assert found["alphas"][0] == len(part) - 2 and found["difference"][0] == 3
        assert found["gap"].notna().sum() == helped
        assert zoo.summary(found)[["helped", "not_helped"]].iloc[0].to_list() == [helped, other]


def test_the_summary_is_of_each_half_and_of_all():
    rows = [
        ("development", "classification", 10.0, 0.9),
        ("development", "classification", 5.0, 0.5),
        ("development", "classification", -0.4, math.nan),
        ("held-out", "classification", 20.0, 1.0),
        ("held-out", "classification", -0.9, math.nan),
        ("held-out", "regression", -3.0, math.nan),
        ("held-out", "classification", math.nan, math.nan),  # not trained yet
    ]
    problems = pd.DataFrame(rows, columns=["half", "task", "difference", "gap"]).assign(alphas=7)
    found = zoo.summary(problems).set_index("half")
    assert found["helped"].to_list() == [2, 1, 3] and found["not_helped"].to_list() == [1, 2, 3]
    np.testing.assert_allclose(found["mean_gap"], [0.7, 1.0, 0.8])
    np.testing.assert_allclose(found["minimum_gap"], [0.5, 1.0, 0.5])
    np.testing.assert_allclose(found["worst_points"], [-0.4, -0.9, -0.9])
    np.testing.assert_allclose(found["worst_percent"], [math.nan, -3.0, -3.0])


def test_people_read_the_summary_below_the_problems():
    clean = {"problem": "q", "label_noise": 0.0, "half": "held-out"}
    lines = zoo.words(
        zoo.table(
            [
                record("unregularised", 60.0),
                record("mgs", 63.0, "auto"),
                *grid(64.0),
                record("unregularised", 90.0, **clean),
                record("mgs", 89.5, "auto", **clean),
                *grid(91.0, **clean),
            ]
        )
    )
    texts = {(line["problem"], line["half"]): line["gap"] for line in lines}
    assert texts == {
        ("p", "develop."): "0.75",
        ("q", "held-out"): "-0.5 pt",
        ("gaps: mean of 1", "develop."): "0.75",
        ("gaps: lowest", "develop."): "0.75",
        ("others: worst of 1", "held-out"): "-0.5 pt",
        ("gaps: mean of 1", "all"): "0.75",
        ("gaps: lowest", "all"): "0.75",
        ("others: worst of 1", "all"): "-0.5 pt",
    }


def test_the_picture_has_the_gain_of_each_method_by_problem():
    pictures = zoo.files(
        [
            record("unregularised", 60.0),
            record("mgs", 63.0, "auto"),
            record("mgs", 64.0, 1e-5),
            record("unregularised", 10.0, problem="q", task="regression"),
            record("dropout", 8.0, problem="q", task="regression"),
        ]
    )
    assert list(pictures) == ["gains.png", "summary.csv"]
    figure = pictures["gains.png"]
    figure.draw_without_rendering()
    (axis,), (legend,) = figure.axes, figure.legends
    assert [text.get_text() for text in axis.get_yticklabels()] == ["p", "q"]
    labels = ["MGS (tr K)", "best fixed alpha", "dropout"]
    assert [text.get_text() for text in legend.get_texts()][:3] == labels
    mgs, fixed, dropout, *_ = (line.get_xdata() for line in axis.lines)
    np.testing.assert_array_equal([mgs, fixed, dropout], [[3, np.nan], [4, np.nan], [np.nan, 20]])
    assert not legend.get_window_extent().overlaps(axis.bbox)
