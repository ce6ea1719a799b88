import functools
import json

import keras
import numpy as np
import pandas as pd
import pytest

from keras_mgs.experiments.catalogue.presets import EXPERIMENTS
from keras_mgs.experiments.runs import scenarios
from keras_mgs.experiments.studies import mnist, tune
from keras_mgs.experiments.training import networks
from keras_mgs.experiments.training.methods import METHODS

SMALL = {"networks": ["fcn"], "methods": ["mgs", "dropout"], "training_sizes": [50]}
SMALL |= {"runs": 1, "epochs": 1, "data": "digits"}


def record(method, strength, loss, seed=0, **changed):
    settings = {**tune.plan(**SMALL)[0], "method": method, "strength": strength, "seed": seed}
    curves = pd.DataFrame({"epoch": [1, 2], "test": 50.0, "test_loss": loss})
    return {**settings, **changed}, curves


def test_the_papers_scenario_is_every_strength_five_times():
    paper = {**EXPERIMENTS["tune"].presets["paper"], "data": "digits", "training_sizes": [50]}
    assert EXPERIMENTS["tune"].presets["paper"]["training_sizes"] == (6000,)
    runs = tune.plan(**paper)
    assert len(runs) == 2 * 5 * sum(map(len, tune.STRENGTHS.values()))
    assert {(run["label_noise"], run["epochs"], run["by"]) for run in runs} == {
        (0.5, 100, "validation")
    }
    assert set(tune.STRENGTHS) == {name for name in METHODS if METHODS[name].strength is not None}
    for method, strengths in tune.STRENGTHS.items():
        assert METHODS[method].strength in strengths
        assert {r["strength"] for r in runs if r["method"] == method} == set(strengths)


def test_what_is_tried_can_be_given():
    runs = tune.plan(**SMALL, strengths={"dropout": (0.2, 0.4)}, by="test")
    assert [run["strength"] for run in runs if run["method"] == "dropout"] == [0.2, 0.4]
    assert len(runs) == 2 + len(tune.STRENGTHS["mgs"])


@pytest.mark.parametrize("by, kept, tested", [("validation", 40, 10), ("test", 50, 797)])
def test_it_is_measured_on_what_the_strength_is_chosen_by(by, kept, tested, monkeypatch):
    seen = []

    def train(samples, *args, losses, **options):
        seen.append((samples, losses))

    settings = tune.plan(**SMALL, by=by)[0]
    monkeypatch.setattr(tune.fitting, "train", train)
    tune.train(settings, "digits")
    ((samples, losses),) = seen
    assert losses and len(samples.x_train) == len(samples.y_train) == kept
    assert len(samples.x_test) == len(samples.y_test) == tested
    if by == "validation":  # all of them are training samples, none twice, with wrong labels
        whole = scenarios.load(settings, "digits")
        np.testing.assert_array_equal(
            np.concatenate([samples.x_train, samples.x_test]), whole.x_train
        )
        np.testing.assert_array_equal(
            np.concatenate([samples.y_train, samples.y_test]), whole.y_train
        )


def test_the_loss_is_the_cross_entropy_of_the_test_set(monkeypatch):
    monkeypatch.setitem(networks.NETWORKS, "fcn", functools.partial(networks.fcn, widths=(4,)))
    settings = tune.plan(**{**SMALL, "methods": ["label_smoothing"]}, by="test")[0]
    samples = scenarios.load(settings, "digits")
    options = scenarios.options(settings)
    model, curves = tune.fitting.fit(samples, "fcn", "label_smoothing", **options, losses=True)
    log_p = keras.ops.log_softmax(model.predict(samples.x_test, verbose=0))
    expected = -np.asarray(log_p)[np.arange(797), samples.y_test].mean()
    assert curves["test_loss"].iloc[-1] == pytest.approx(expected, rel=1e-5)


def test_the_lowest_loss_of_each_method_is_chosen_and_kept(tmp_path):
    records = [
        record("mgs", "auto", [9.0, 1.0]),  # its mean is 5
        record("mgs", "auto", [4.0, 4.0], seed=1),
        record("mgs", 1e-4, [0.0, float("nan")]),
        record("mgs", 1e-5, [5.0, 5.0]),
        record("mgs", 1e-4, [float("nan")] * 2, seed=1),
        record("dropout", 0.3, [8.0, 8.0]),
    ]
    found = tune.table(records)
    assert found.loc[found["chosen"], "strength"].tolist() == [0.3, "auto"]
    assert found["strength"].tolist() == [0.3, "auto", 1e-5, 1e-4]
    lines = {(line["method"], line["strength"]): line for line in tune.words(found)}
    assert lines["MGS (tr K)", "auto *"]["loss"] == "4.500 ± 0.707"
    chosen = tune.files(records)["tuned.json"]
    assert json.loads(chosen) == {"fcn": {"dropout": 0.3, "mgs": "auto"}}

    (tmp_path / "tuned.json").write_bytes(
        json.dumps({"fcn": {"dropout": 0.3, "sam": 0.01}}).encode()
    )
    given = {**SMALL, "label_noises": [0.5], "tuned": tmp_path / "tuned.json"}
    strengths = [run["strength"] for run in mnist.plan(**given)]
    assert strengths == ["auto", 0.3]
    given |= {"strengths": {"dropout": 0.7}}
    assert mnist.plan(**given)[1]["strength"] == 0.7


def test_every_scenario_has_a_file_of_its_own():
    records = [
        record("mgs", strength, [loss] * 2, by=by, epochs=epochs)
        for by, epochs, strength, loss in (
            ("test", 1, "auto", 1.0),
            ("test", 1, 1e-5, 2.0),
            ("test", 9, 1e-5, 0.5),
            ("validation", 1, "auto", 4.0),
            ("validation", 1, 1e-5, 3.0),
        )
    ]
    files = {name: json.loads(content) for name, content in tune.files(records).items()}
    assert files == {
        "tuned-1-test.json": {"fcn": {"mgs": "auto"}},
        "tuned-9-test.json": {"fcn": {"mgs": 1e-5}},
        "tuned-1-validation.json": {"fcn": {"mgs": 1e-5}},
    }
    lines = tune.words(tune.table(records))
    assert {(line["epochs"], line["loss on"]) for line in lines if "*" in line["strength"]} == {
        ("1", "test"),
        ("9", "test"),
        ("1", "validation"),
    }


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"{",
        b"[]",
        b'{"fcn": 3}',
        b'{"fcn": {"sgd": 1}}',
        b'{"fcn": {"dropout": "auto"}}',
        b'{"fcn": {"dropout": 2}}',
        b"\xff",
        b"[" * 100_000,
        b'{"fcn": {"dropout": %s}}' % (b"9" * 400),
        b'{"fcn": {"dropout": %s}}' % (b"9" * 5000),
        b'{"fcn": {"dropout": 1e999}}',
        b'{"fcn": {"dropout": NaN}}',
        b'{"fcn": {"dropout": true}}',
        b" " * 2**21 + b"{}",
    ],
)
def test_a_file_that_tune_has_not_written_is_refused(content, tmp_path):
    path = tmp_path / "tuned.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="that `tune` has written. Received: tuned=.*tuned.json"):
        mnist.plan(**SMALL, label_noises=[0.5], tuned=path)


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"by": "luck"}, "'validation', 'test'. Received: by='luck'"),
        ({"methods": ["unregularised"]}, "'weight_decay'.*Received: methods='unregularised'"),
        (
            {"strengths": {"dropout": (0.5, 1.5)}},
            "'dropout' to be at most 1. Received: strength=1.5",
        ),
        ({"strengths": {"sam": (0.5,)}}, "Received: strengths='sam'"),
    ],
)
def test_a_wrong_argument_is_one_sentence(changed, words):
    with pytest.raises(ValueError, match=words):
        tune.plan(**{**SMALL, **changed})
