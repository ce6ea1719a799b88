import functools

import numpy as np
import pytest

from keras_mgs.experiments.catalogue.names import USUAL
from keras_mgs.experiments.catalogue.presets import EXPERIMENTS
from keras_mgs.experiments.studies import two_circles
from keras_mgs.experiments.training import networks

SMALL = {"methods": ["mgs", "mgs_log_det"], "runs": 2, "epochs": 1, "training_size": 40}


def test_the_presets_have_the_methods_that_know_of_no_wrong_labels():
    for preset in EXPERIMENTS["two-circles"].presets.values():
        runs = two_circles.plan(**preset)
        assert {run["method"] for run in runs} == set(USUAL)
        assert len(runs) == len(USUAL) * preset["runs"]


def test_strengths_are_those_of_this_problem_unless_given():
    runs = two_circles.plan(seed=4, **SMALL)
    assert [(run["strength"], run["seed"]) for run in runs] == [
        ("auto", 4),
        (3e-4, 4),
        ("auto", 5),
        (3e-4, 5),
    ]
    given = two_circles.plan(strengths={"mgs_log_det": 0.5}, **SMALL)
    assert given[1]["strength"] == 0.5
    assert two_circles.plan(**{**SMALL, "methods": ["mgs"]})[0]["strength"] == "auto"


def test_samples_lie_around_two_circles():
    settings = two_circles.plan(noise=0.01, **{**SMALL, "training_size": 400})[0]
    data = two_circles.samples(settings)
    radii = np.hypot(*data.x_train.T)
    for value, radius in ((0, 1.0), (1, 0.5)):
        np.testing.assert_allclose(radii[data.y_train == value], radius, atol=0.05)
        assert (data.y_train == value).sum() == 200
    assert data.x_train.shape == (400, 2) and len(data.x_test) == 2000
    assert data.x_train.std(axis=0) == pytest.approx(0.56, abs=0.02)
    other = two_circles.samples({**settings, "seed": 1})
    assert not np.array_equal(data.x_train, other.x_train)
    assert not np.array_equal(data.x_train, data.x_test[:400])


def test_the_boundary_is_that_of_the_model(monkeypatch):
    """Where the inner circle is, its output leads."""
    monkeypatch.setitem(networks.NETWORKS, "fcn", functools.partial(networks.fcn, widths=(32,)))
    settings = two_circles.plan(
        strengths={"adam": 0.03},
        batch_size=8,
        **{**SMALL, "methods": ["adam"], "noise": 0.05, "epochs": 60, "runs": 1},
    )[0]
    curves = two_circles.train(settings)
    assert curves["test"].iloc[-1] > 95
    lead = np.array(curves.attrs["lead"])
    assert lead.shape == (81, 81)
    line = np.linspace(-2, 2, 81)
    radii = np.hypot(*np.meshgrid(line, line))
    assert (lead[radii < 0.45] > 0).mean() > 0.95 and (lead[abs(radii - 1) < 0.1] < 0).mean() > 0.95


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"methods": ["sgd"]}, "'mgs'.*Received: methods='sgd'"),
        ({"strengths": {"sam": 1}}, "Received: strengths='sam'"),
        ({"training_size": 10}, "`training_size` to be at least 20. Received: training_size=10"),
        ({"noise": 0}, "`noise` to be positive. Received: noise=0"),
        ({"runs": 0}, "`runs` to be at least 1"),
        ({"epochs": 0}, "`epochs` to be at least 1"),
        ({"batch_size": 0}, "`batch_size` to be at least 1"),
        ({"learning_rate": -1}, "`learning_rate` to be positive"),
        ({"seed": -1}, "`seed` to be at least 0"),
    ],
)
def test_a_wrong_argument_is_one_sentence(changed, words):
    with pytest.raises(ValueError, match=words):
        two_circles.plan(**{**SMALL, **changed})
