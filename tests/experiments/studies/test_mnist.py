import functools

import joblib
import numpy as np
import pandas as pd
import pytest

from keras_mgs.experiments.catalogue.presets import EXPERIMENTS
from keras_mgs.experiments.runs.grid import grid
from keras_mgs.experiments.runs.store import Store
from keras_mgs.experiments.studies import compare, mnist
from keras_mgs.experiments.training import fitting
from keras_mgs.experiments.training.networks import fcn

SMALL = {"networks": ["fcn"], "methods": ["mgs", "dropout"], "training_sizes": [20, 40]}
SMALL |= {"label_noises": [0.5], "runs": 2, "epochs": 2, "batch_size": 10}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images of ten classes in MNIST's layout, as many as the paper asks for."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (9100, 8, 8), dtype=np.uint8), np.arange(9100, dtype=np.uint8) % 10
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(path, x_train=x[:9000], y_train=y[:9000], x_test=x[9000:], y_test=y[9000:])
    return path


def test_the_presets_are_the_papers_grid_and_a_small_part_of_it(data):
    runs = mnist.plan(data, **EXPERIMENTS["mnist"].presets["paper"])
    assert len(runs) == 2 * 13 * 11 * 5 * 10
    assert len({str(run) for run in runs}) == len(runs)
    assert {run["training_size"] for run in runs} >= {250, 1500, 2000, 3000, 9000}
    assert {run["label_noise"] for run in runs} == {n / 10 for n in range(11)}
    quick = mnist.plan(data, **EXPERIMENTS["mnist"].presets["quick"])
    assert {r["training_size"] for r in quick} == {3000} and len(quick) == 10


def test_methods_meet_the_same_samples_and_weights(data):
    runs = mnist.plan(data, seed=5, **SMALL)
    assert len(runs) == 8 and [run["seed"] for run in runs] == [5] * 4 + [6] * 4
    assert {(r["method"], r["strength"]) for r in runs} == {("mgs", "auto"), ("dropout", 0.5)}
    (other,) = {r["strength"] for r in mnist.plan(data, strengths={"mgs": 2}, **SMALL)} - {0.5}
    assert other == 2


def test_data_are_told_apart_by_their_content(data, tmp_path):
    (tmp_path / "images.npz").write_bytes(data.read_bytes())
    same = mnist.plan(tmp_path / "images.npz", **SMALL)
    assert same == mnist.plan(data, **SMALL)
    with np.load(data) as arrays:
        np.savez(tmp_path / "images.npz", **{**arrays, "y_test": 9 - arrays["y_test"]})
    assert mnist.plan(tmp_path / "images.npz", **SMALL)[0]["data"] != same[0]["data"]


def test_a_run_gives_the_numbers_of_compare(data, monkeypatch):
    monkeypatch.setitem(fitting.NETWORKS, "fcn", functools.partial(fcn, widths=(4,)))
    run = mnist.plan(data, seed=3, **SMALL)[0]
    options = {"network": "fcn", "methods": ["mgs"], "runs": 1, "epochs": 2, "batch_size": 10}
    (same,) = compare.plan(data, **options, training_size=20, label_noise=0.5, seed=3)
    expected = compare.train(same, data)
    found = mnist.train(run, data)
    pd.testing.assert_frame_equal(
        found.drop(columns="seconds"), expected.drop(columns="seconds"), check_exact=True
    )


def test_a_run_is_measured_at_as_many_evenly_spaced_epochs_as_asked_for(data, monkeypatch):
    monkeypatch.setitem(fitting.NETWORKS, "fcn", functools.partial(fcn, widths=(4,)))
    whole, part = (
        mnist.train(mnist.plan(data, **{**SMALL, "epochs": 6}, **points)[0], data)
        for points in ({}, {"points": 3})
    )
    assert list(part["epoch"]) == [2, 4, 6]
    some = whole[whole["epoch"] % 2 == 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(part.drop(columns="seconds"), some.drop(columns="seconds"))


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"networks": ["vgg"]}, "networks.*'lenet5', 'fcn'.*Received: networks='vgg'"),
        ({"methods": ["sgd"]}, "methods.*'mgs'.*Received: methods='sgd'"),
        ({"training_sizes": [40, 5]}, "at least 10.*Received: training_size=5"),
        ({"training_sizes": [40, 9001]}, "at most 9000.*Received: training_size=9001"),
        ({"label_noises": [0.5, 1.5]}, "between 0 and 1.*Received: label_noise=1.5"),
        ({"label_noises": [0.5, -0.5]}, "at least 0. Received: label_noise=-0.5"),
        ({"label_noises": [0.5, float("nan")]}, "finite.*Received: label_noises=nan"),
        ({"runs": 0}, "`runs` to be at least 1. Received: runs=0"),
        ({"epochs": 0}, "`epochs` to be at least 1. Received: epochs=0"),
        ({"batch_size": 0}, "`batch_size` to be at least 1. Received: batch_size=0"),
        ({"learning_rate": 0}, "`learning_rate` to be positive. Received: learning_rate=0"),
        ({"points": 0}, "`points` to be at least 1. Received: points=0"),
        ({"seed": -1}, "at least 0. Received: seed=-1"),
        ({"strengths": {"sam": 1}}, "'mgs', 'dropout'. Received: strengths='sam'"),
        ({"strengths": {"dropout": 2}}, "'dropout' to be at most 1. Received: strength=2"),
        ({"corruption": "fog"}, "motion_blur.*Received: corruption='fog'"),
    ],
)
def test_a_wrong_argument_is_one_sentence(changed, words, data):
    with pytest.raises(ValueError, match=words):
        mnist.plan(data, **{**SMALL, **changed})


def test_data_without_classes_or_of_the_wrong_shape_are_refused(data, tmp_path):
    x, y = np.zeros((40, 16, 16), np.uint8), np.full((40, 2), 8.0, "float32")
    np.savez(tmp_path / "points.npz", x=x, y=y)
    with pytest.raises(ValueError, match="with classes.*Received.*points.npz"):
        mnist.plan(tmp_path / "points.npz", **{**SMALL, "training_sizes": [20]})
    y = np.arange(40) % 10
    np.savez(tmp_path / "flat.npz", x_train=x[:, 0], y_train=y, x_test=x, y_test=y)
    with pytest.raises(ValueError, match=r"x_train.*Received: shape \(40, 16\)"):
        mnist.plan(tmp_path / "flat.npz", **SMALL)
    with pytest.raises(ValueError, match=r"shape \(30,\). Received: network='lenet5'.*fcn"):
        mnist.plan("breast_cancer", **{**SMALL, "networks": ["fcn", "lenet5"]})
    with pytest.raises(FileNotFoundError, match="Received.*missing.npz"):
        mnist.plan(tmp_path / "missing.npz", **SMALL)


@pytest.mark.slow
def test_the_numbers_are_the_same_whatever_the_order_and_the_worker(data, tmp_path):
    runs = mnist.plan(data, **SMALL)
    train = functools.partial(mnist.train, data=data)
    stores = [Store(tmp_path / name, "mnist") for name in ("first", "second")]
    with joblib.parallel_config(backend="loky", n_jobs=2):
        grid(runs, train, store=stores[0])
    with joblib.parallel_config(backend="loky", n_jobs=3):
        grid(runs[4:][::-1], train, store=stores[1])
        grid(runs[::-1], train, store=stores[1])
    for run in runs:
        first, second = (store.read(run).drop(columns="seconds") for store in stores)
        pd.testing.assert_frame_equal(first, second, check_exact=True)
