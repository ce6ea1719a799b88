"""Every experiment from its plan to its report, as small as it can be."""

import functools
import hashlib
import json
import sys

import numpy as np
import pandas as pd
import pytest

from keras_mgs.experiments import reproduce
from keras_mgs.experiments.catalogue.experiment import declared
from keras_mgs.experiments.runs.store import Store
from keras_mgs.experiments.training import networks

SMALL = {  # settings of each
    "compare": {"network": "fcn", "training_size": 40},
    "two-circles": {"training_size": 40},
    "alexnet": {"networks": ["fcn"], "training_sizes": [40]},
    "mnist": {"networks": ["fcn"], "training_sizes": [40], "label_noises": [0.5]},
    "robustness": {
        "networks": ["fcn"],
        "methods": ["dropout"],
        "training_sizes": [20, 24, 28],
        "batch_sizes": [16],
        "learning_rates": [0.1],
        "epoch_counts": [1],
        "label_noises": [0.5],
        "runs": 1,
    },
    "adversarial": {"networks": ["fcn"], "methods": ["mgs"], "training_sizes": [40], "samples": 10},
    "tune": {
        "networks": ["fcn"],
        "methods": ["dropout"],
        "training_sizes": [40],
        "strengths": {"dropout": (0.3, 0.5)},
    },
    "keypoints": {"networks": ["fcn"], "target_noises": [2.0]},
    "wrong-labels": {
        "networks": ["fcn"],
        "methods": ["mgs"],
        "training_sizes": [40],
        "label_noises": [0.6],
    },
    "zoo": {"methods": ["mgs", "unregularised"], "problems": ["fcn", "diabetes"]},
}


def fitting(name, given, data):
    """Those of the settings that an experiment has, and its data."""
    own = declared(reproduce.EXPERIMENTS[name].settings)
    given = {key: value for key, value in given.items() if key in own}
    return given | ({"data": data[name]} if "data" in own else {})


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Tracing takes nearly all of the time."""
    monkeypatch.setitem(networks.NETWORKS, "fcn", functools.partial(networks.fcn, widths=(4,)))


@pytest.fixture
def data(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (60, 16, 16), dtype=np.uint8)
    y = np.arange(60) % 4
    arrays = {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}
    np.savez(tmp_path / "classes.npz", **arrays)
    np.savez(tmp_path / "points.npz", x=x, y=np.full((60, 2), 8.0, "float32"))
    classes = dict.fromkeys(reproduce.EXPERIMENTS, tmp_path / "classes.npz")
    return classes | {"keypoints": tmp_path / "points.npz", "zoo": {}}


@pytest.mark.parametrize("name", reproduce.EXPERIMENTS)
def test_an_experiment_is_planned_run_and_reported(name, data, tmp_path):
    given = {"methods": ["mgs", "dropout"], "epochs": 1, "runs": 1, **SMALL[name]}
    given = fitting(name, given, data)
    runs = reproduce.plan(name, "quick", **given)
    store, lines = Store(tmp_path / "out", name), []
    reproduce.reproduce(
        store,
        runs,
        data=given.get("data"),
        report=lambda run, found: lines.append(reproduce.line(run, found)),
    )
    assert len(lines) == len(runs) == len(list(store.records()))
    _, rows, files = reproduce.report(store.folder)
    assert rows and len({tuple(row) for row in rows}) == 1  # the same headings in all
    assert "table.csv" in files
    for file in files:
        path = store.folder / file
        assert path.read_bytes().startswith(b"\x89PNG") == (path.suffix == ".png")
    assert all(reproduce.size(run) > 0 for run in runs)


@pytest.mark.parametrize("name", reproduce.EXPERIMENTS)
def test_nothing_on_the_disk_is_an_empty_report(name, tmp_path):
    store = Store(tmp_path / "out", name)
    store.create()
    assert reproduce.report(store.folder)[1:] == ([], ["table.csv"])


def test_an_unknown_preset_is_one_sentence():
    with pytest.raises(ValueError, match="'quick', 'paper'. Received: preset='slow'"):
        reproduce.plan("mnist", "slow")


def test_a_cluster_without_dask_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    store = Store(tmp_path / "out", "mnist")
    with pytest.raises(
        ImportError, match="`--cluster` needs Dask. Received.*pip install distributed"
    ):
        reproduce.reproduce(store, [], data="digits", cluster="tcp://localhost:1")
    assert not store.folder.exists()


NUMBERS = {"epoch": [1, 2], "attack": ["FGSM", "PGD"], "detector": ["trace", "fisher"]}
NUMBERS |= {"epsilon": [0.1, 0.1], "score": ["label_scores", "normalized_margin"]}
COLUMNS = ("test", "loss", "mgs_trace", "mgs_log_det", "mgs_singular", "test_loss", "seconds")
SHARES = ("auroc", "fooled", "area", "precision")
COLUMNS = {**NUMBERS, **{key: [50.0, 60.0] for key in (*COLUMNS, *SHARES)}}


def planned(name, data):
    """The settings of one run, and curves like its own."""
    given = {"methods": ["dropout"], "epochs": 1, "runs": 1, **SMALL[name]}
    given = fitting(name, given, data)
    curves = pd.DataFrame(COLUMNS)
    curves.attrs["lead"] = [[-1.0, 1.0], [1.0, -1.0]]
    return reproduce.plan(name, "quick", **given)[0], curves


HUGE = 10**400
ODD = [None, True, "", "../../x", "a/../../../b", "/tmp/x", "[/red]", "$a", "$\\frac$", "\x1b[2J"]
ODD += ["\ud800", "x" * 5000, -1, 0, 0.5, 1e300, -1e300, float("nan"), float("inf"), HUGE, 2**63]
ODD += [[], [1], ["a"], {}, {"a": [1]}, [[1]]]


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", reproduce.EXPERIMENTS)
def test_records_of_somebody_else_are_reported_or_named(name, step, data, tmp_path):
    """Any value in place of any setting and any column, each in a record whose checksum fits.

    Of all these records one in seven, but in the slow test, which takes them all.
    """
    settings, curves = planned(name, data)
    store = reproduce.Store(tmp_path / "top" / "middle" / "out", name)
    store.create()
    (store.folder / "tuned-x").mkdir()  # to climb from
    store.write(settings, curves)
    before = set(tmp_path.rglob("*"))
    changes = [
        ("settings", key, value) for key in (*settings, "noise", "new", "test") for value in ODD
    ]
    several = [*ODD, *([value] * 2 for value in ODD)]
    changes += [("curves", key, value) for key in COLUMNS for value in several]
    changes += [("attrs", "lead", value) for value in [*several, [[1.0]], [["a", 1], [2, 3]]]]
    for i, (part, key, value) in enumerate(changes[::step]):
        record = {"settings": {**settings, "seed": 1 + i}, "curves": curves.to_dict("list")}
        record["attrs"] = dict(curves.attrs)
        record[part][key] = value
        record["sha256"] = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
        try:
            path = store.path(record["settings"])
        except ValueError:  # no word: any name will do
            path = store.folder / "runs" / f"{i}.json"
        if not path.exists():
            path.write_text(json.dumps(record))
    lines = []
    _, rows, files = reproduce.report(store.folder, lines.append)
    named = len(list((store.folder / "runs").iterdir())) - len(
        list(reproduce.store(store.folder).records(str))
    )
    assert rows and len(lines) == named > 100 / step
    assert {p for p in set(tmp_path.rglob("*")) - before if p.parent.name != "runs"} == {
        store.folder / file for file in files
    }
