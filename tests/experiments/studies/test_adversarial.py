import keras
import numpy as np
import pandas as pd
import pytest

import keras_mgs
from keras_mgs.experiments.studies import adversarial

SMALL = {"data": "digits", "methods": ["mgs"], "training_sizes": [40], "samples": 100}
SMALL |= {"runs": 1, "epochs": 1}


@pytest.fixture
def linear():
    """Two classes, of which the first is right where the mean of four pixels is below 0.5."""
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.set_weights([np.repeat([[-1.0, 1.0]], 4, axis=0), np.array([2.0, -2.0])])
    return model


@pytest.mark.parametrize("steps", [1, 20])
def test_a_linear_classifier_is_fooled_by_as_much_as_epsilon_allows(linear, steps):
    x = np.array([0.1, 0.4, 0.95], "float32")[:, None, None, None] * np.ones(
        (3, 2, 2, 1), "float32"
    )
    changed = adversarial.perturb(linear, x, np.array([0, 0, 1]), 0.2, steps)
    expected = np.array([0.3, 0.6, 0.75])[:, None, None, None] * np.ones((3, 2, 2, 1))
    np.testing.assert_allclose(changed, expected, atol=1e-6)
    changed = adversarial.perturb(linear, x, np.array([1, 1, 0]), 0.2, steps)
    np.testing.assert_allclose(changed[:, 0, 0, 0], [0, 0.2, 1], atol=1e-6)  # within [0, 1]


def test_scores_are_traces_the_softmax_and_its_entropy(linear):
    x = np.random.default_rng(0).random((5, 2, 2, 1), "float32")
    f = linear.predict(x, verbose=0).astype("float64")
    p = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
    found = adversarial.scores(linear, x)
    np.testing.assert_allclose(found["max_softmax"], -p.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found["entropy"], -(p * np.log(p)).sum(axis=1), rtol=1e-5)
    # d log p_a / d f_b = δ_ab − p_b, and the gradient of an output by its own weights is (x, 1).
    jacobian = np.eye(2) - p[:, None, :]
    squares = 1 + (x.reshape(5, 4) ** 2).sum(axis=1)
    fisher = squares * (p * (jacobian**2).sum(axis=2)).sum(axis=1)
    np.testing.assert_allclose(found["fisher"], fisher, rtol=1e-4)
    np.testing.assert_allclose(found["trace"], keras_mgs.sample_traces(linear, x), rtol=1e-5)


def test_the_area_is_of_the_fooling_samples_against_the_clean_ones(monkeypatch):
    """A detector that sees the change itself is perfect; one that is blind is as good as chance."""
    whiter = lambda model, x, y, epsilon, steps: x + np.float32(epsilon)  # noqa: E731
    monkeypatch.setattr(adversarial, "perturb", whiter)
    by_brightness = lambda model, x: {  # noqa: E731
        "fisher": x.max(axis=(1, 2, 3)),
        "trace": x.max(axis=(1, 2, 3)),
        "max_softmax": np.zeros(len(x)),
        "entropy": -x.min(axis=(1, 2, 3)),
    }
    monkeypatch.setattr(adversarial, "scores", by_brightness)
    right = iter([np.eye(10)[np.zeros(100, int)], *[np.eye(10)[np.ones(100, int)]] * 2])
    monkeypatch.setattr(adversarial, "_outputs", lambda model, x: next(right)[: len(x)])
    settings = adversarial.plan(**SMALL, epsilons=[3.0])[0]
    found = adversarial.train(settings, "digits")
    areas = found.set_index(["attack", "detector"])["auroc"]
    for attack in adversarial.ATTACKS:
        assert areas[attack].to_dict() == {
            "trace": 1,
            "fisher": 1,
            "max_softmax": 0.5,
            "entropy": 0,
        }
    assert (found["fooled"] == 100).all() and 0 < found["test"].iloc[0] < 30


def test_the_table_is_of_means_over_the_runs():
    settings = adversarial.plan(**SMALL, epsilons=[0.1])[0]
    row = {"attack": "PGD", "epsilon": 0.1, "fooled": 50.0, "test": 90.0}
    runs = [
        pd.DataFrame([{**row, "detector": name, "auroc": area} for name in adversarial.DETECTORS])
        for area in (0.6, 0.8)
    ]
    records = [({**settings, "seed": seed}, run) for seed, run in enumerate(runs)]
    (line,) = adversarial.words(adversarial.table(records))
    assert line["tr K"] == line["predictive entropy"] == "0.700 ± 0.141"
    assert line["attack"] == "PGD" and line["fooled, %"] == "50.0" and line["runs"] == "2"
    (line,) = adversarial.words(adversarial.table(records[:1]))
    assert line["tr K"] == "0.600"


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"epsilons": [0.1, 0]}, "`epsilons` to be positive. Received: epsilons=0"),
        ({"samples": 0}, "`samples` to be at least 1. Received: samples=0"),
        ({"networks": ["vgg"]}, "'lenet5'.*Received: networks='vgg'"),
    ],
)
def test_a_wrong_argument_is_one_sentence(changed, words):
    with pytest.raises(ValueError, match=words):
        adversarial.plan(**{**SMALL, **changed})
