import sys
import types

import numpy as np
import pandas as pd
import pytest

from keras_mgs.experiments.data import datasets, tabular

SHAPES = {
    "breast_cancer": (398, 171, 30, 2),
    "wine": (124, 54, 13, 3),
    "diabetes": (309, 133, 10, 1),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_table_has_its_samples_with_standardised_inputs(name):
    found = datasets.load(name)
    train, test, features, outputs = SHAPES[name]
    assert found.x_train.shape == (train, features) and found.x_test.shape == (test, features)
    assert found.outputs == outputs and found.x_train.dtype == np.float32
    assert (found.y_train.dtype == np.int32) == (found.task == "classification")
    np.testing.assert_allclose(found.x_train.mean(axis=0), 0, atol=1e-5)  # float32
    np.testing.assert_allclose(found.x_train.std(axis=0), 1, atol=1e-5)
    assert 0.8 < found.x_test.std() < 1.3 and abs(found.x_test.mean()) < 0.2


def test_split_subset_and_noise_are_by_the_seed():
    clean, noisy, other = (
        datasets.load("diabetes", training_size=200, label_noise=noise, seed=seed)
        for noise, seed in ((0.0, 3), (2.0, 3), (0.0, 4))
    )
    np.testing.assert_array_equal(clean.x_train, noisy.x_train)
    np.testing.assert_array_equal(clean.y_test, noisy.y_test)
    assert len(clean.x_train) == 200 and not np.array_equal(clean.x_test, other.x_test)
    error = noisy.y_train - clean.y_train
    assert error.std() == pytest.approx(2, rel=0.15)  # of 200 samples
    whole = datasets.load("diabetes", seed=3)
    assert whole.y_train.std() == pytest.approx(1, abs=1e-5)


def test_classes_are_drawn_stratified():
    found = datasets.load("breast_cancer", training_size=100)
    share = datasets.load("breast_cancer").y_test.mean()
    assert found.y_train.mean() == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(
    "name, changed, words",
    [
        ("iris", {}, "'breast_cancer', .*Received: data='iris'"),
        ("wine", {"training_size": 125}, "at most 124.*Received: training_size=125"),
        ("wine", {"label_noise": 2.0}, "between 0 and 1.*Received: label_noise=2.0"),
        ("wine", {"seed": -1}, "at least 0. Received: seed=-1"),
    ],
)
def test_a_wrong_argument_is_one_sentence(name, changed, words):
    with pytest.raises(ValueError, match=words):
        datasets.load(name, **changed)


def test_diamonds_are_their_measures_and_the_logarithm_of_their_price(monkeypatch):
    grades = {"cut": ["Fair", "Ideal"], "color": ["J", "D"], "clarity": ["I1", "IF"]}
    frame = pd.DataFrame({"carat": [1.0, 3.0] * 5, "price": [100, 10_000] * 5})
    for name, levels in grades.items():
        frame[name] = pd.Categorical(levels * 5, categories=levels, ordered=True)
    module = types.ModuleType("plotnine.data")
    module.diamonds = frame
    monkeypatch.setitem(sys.modules, "plotnine", types.ModuleType("plotnine"))
    monkeypatch.setitem(sys.modules, "plotnine.data", module)
    found = tabular.TABLES["diamonds"]("diamonds", np.random.default_rng(0))
    assert found.task == "regression" and (len(found.x_train), len(found.x_test)) == (7, 3)
    x, y = np.concatenate([found.x_train, found.x_test]), np.append(found.y_train, found.y_test)
    expected = np.where(x[:, 0] == 1, np.log(100), np.log(10_000))
    np.testing.assert_allclose(y, expected)
    np.testing.assert_array_equal(x[:, 1:], np.repeat(x[:, :1] == 3, 3, axis=1))  # the grades


def test_series_are_held_at_their_last_value(monkeypatch):
    def load(split, return_X_y):
        series = {"TRAIN": [[1.0, 2.0], [3.0]], "TEST": [[4.0, 5.0, 6.0]]}[split]
        nested = pd.DataFrame({c: [pd.Series(v) * c for v in series] for c in (1, 10)})
        return nested, np.array(["2", "1"][: len(series)])

    module = types.ModuleType("sktime.datasets")
    module.load_japanese_vowels = load
    monkeypatch.setitem(sys.modules, "sktime", types.ModuleType("sktime"))
    monkeypatch.setitem(sys.modules, "sktime.datasets", module)
    found = tabular.TABLES["japanese_vowels"]("japanese_vowels", None)
    np.testing.assert_array_equal(found.x_train[..., 0], [[1, 2, 2], [3, 3, 3]])
    np.testing.assert_array_equal(found.x_train[..., 1], [[10, 20, 20], [30, 30, 30]])
    np.testing.assert_array_equal(found.x_test[0, :, 0], [4, 5, 6])
    assert found.y_train.tolist() == [1, 0] and found.y_test.tolist() == [1]


@pytest.mark.parametrize(
    "name, module", [("diamonds", "plotnine.data"), ("japanese_vowels", "sktime.datasets")]
)
def test_a_missing_package_is_named_by_its_extra(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    assert not tabular.available(name) and tabular.available("wine")
    with pytest.raises(ImportError, match=r'Received.*pip install "keras_mgs\[zoo\]"'):
        datasets.load(name)
