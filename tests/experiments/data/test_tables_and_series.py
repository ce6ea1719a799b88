"""Tables and series of somebody's files: what they become, and every kind of bad input."""

import numpy as np
import pandas as pd
import pytest

from keras_mgs.experiments.data.datasets import load

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "age": RNG.integers(20, 80, 40),
        "income": 3e4 + 1e4 * RNG.normal(size=40),
        "member": RNG.integers(2, size=40).astype(bool),
        "bought": np.where(np.arange(40) % 4, "no", "yes"),
    }
)
X, Y = RNG.normal(5, 3, (40, 6)), np.arange(40) % 3
SERIES = RNG.normal(5, 3, (40, 6, 2))


def csv(folder, **columns):
    """The path of a table: `FRAME` with other columns; None: without one."""
    path = folder / "table.csv"
    frame = FRAME.assign(**columns)
    frame = frame.drop(columns=[name for name, values in columns.items() if values is None])
    frame.to_csv(path, index=False)
    return path


def npz(folder, **arrays):
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def refuse(words, path, **given):
    """One sentence with these words."""
    with pytest.raises(ValueError) as caught:
        load(path, **given)
    text = str(caught.value)
    assert "Received: " in text and "\n" not in text
    for word in words:
        assert word in text, text


def test_a_csv_is_standardised_by_its_training_samples_and_words_are_classes(tmp_path):
    found = load(csv(tmp_path), target="bought")
    assert (found.task, found.kind, found.outputs) == ("classification", "table", 2)
    assert found.x_train.shape == (28, 3) and found.x_test.shape == (12, 3)
    np.testing.assert_allclose(found.x_train.mean(axis=0), 0, atol=1e-5)  # float32
    np.testing.assert_allclose(found.x_train.std(axis=0), 1, atol=1e-5)
    assert found.y_train.sum() == 7 and found.y_test.sum() == 3  # a quarter says "yes"
    again, other = (load(csv(tmp_path), target="bought", seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(found.x_test, again.x_test)
    assert not np.array_equal(found.x_test, other.x_test)


@pytest.mark.parametrize(
    "values, task",
    [
        (np.arange(40) % 20, "classification"),
        (np.arange(40) % 20 - 7.0, "classification"),
        (np.arange(40) % 21, "regression"),
        (np.arange(40) / 2, "regression"),
        (np.arange(40) % 2 == 0, "classification"),
    ],
)
def test_few_whole_numbers_are_classes_and_others_a_regression(values, task, tmp_path):
    split = np.repeat([0, 2], 20)  # so that all classes are in both
    path = csv(tmp_path, rooms=values, split=split, bought=None)
    assert load(path, target="rooms").task == task


def test_the_task_can_be_said_where_the_guess_is_wrong(tmp_path):
    path = csv(tmp_path, rooms=np.arange(40) % 4, bought=None)
    assert load(path, target="rooms").outputs == 4
    found = load(path, target="rooms", task="regression")
    assert found.task == "regression" and found.y_train.shape == (28, 1)
    assert found.y_train.std() == pytest.approx(1, abs=1e-5)
    path = csv(tmp_path, code=np.arange(40) % 3 * 1.5, bought=None)
    assert load(path, target="code", task="classification").outputs == 3


def test_noise_on_targets_is_in_their_standard_deviations(tmp_path):
    path = csv(tmp_path, bought=None)
    clean, noisy = (load(path, target="income", label_noise=noise) for noise in (0.0, 2.0))
    assert (noisy.y_train - clean.y_train).std() == pytest.approx(2, rel=0.4)  # of 28 samples
    np.testing.assert_array_equal(clean.y_test, noisy.y_test)


def test_a_split_is_used_where_a_file_has_one(tmp_path):
    split = np.repeat([0, 1, 2], [30, 4, 6])
    found = load(csv(tmp_path, split=split), target="bought")
    assert len(found.x_train) == 30 and len(found.x_test) == 6
    mean, std = FRAME["age"][:30].mean(), FRAME["age"][:30].std(ddof=0)
    order = np.sort((FRAME["age"][34:] - mean) / std)
    np.testing.assert_allclose(np.sort(found.x_test[:, 0]), order, rtol=1e-5)
    found = load(npz(tmp_path, x=X, y=Y, split=split))
    assert len(found.x_train) == 30 and len(found.x_test) == 6 and found.kind == "table"
    names = np.array(["a", "b", "c"])[Y]
    parts = {"x_train": X[:30], "y_train": names[:30], "x_test": X[30:], "y_test": names[30:]}
    found = load(npz(tmp_path, **parts))
    assert found.outputs == 3 and len(found.x_train) == 30
    np.testing.assert_array_equal(found.y_test, Y[30:])


def test_series_are_standardised_by_feature(tmp_path):
    found = load(npz(tmp_path, x=SERIES * [1, 100], y=X[:, :2]))
    assert (found.kind, found.task, found.outputs) == ("series", "regression", 2)
    assert found.x_train.shape == (28, 6, 2)
    np.testing.assert_allclose(found.x_train.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(found.x_train.std(axis=(0, 1)), 1, atol=1e-5)


def test_samples_of_three_axes_are_images_if_they_look_like_it_or_what_they_are_said_to_be(
    tmp_path,
):
    shown = {"x": RNG.integers(0, 256, (40, 6, 6), dtype=np.uint8), "y": X}
    assert load(npz(tmp_path, **shown)).kind == "images"
    assert load(npz(tmp_path, **shown), kind="series").kind == "series"
    floats = {"x": shown["x"].astype("float32"), "y": X}
    assert load(npz(tmp_path, **floats)).kind == "images"
    scaled = {"x": RNG.random((40, 6, 6)), "y": X}
    assert load(npz(tmp_path, **scaled)).kind == "images"
    assert load(npz(tmp_path, **scaled), kind="series").kind == "series"
    assert load(npz(tmp_path, x=SERIES, y=X), kind="images").x_train.shape[1:] == (6, 2, 1)


@pytest.mark.parametrize(
    "columns, target, words",
    [
        ({}, "buy", ["`target` to be a column", "target='buy'", "'age', 'income', 'member'"]),
        ({"age": [None, *range(39)]}, "bought", ["missing values", "cells in 'age'. Fill"]),
        ({"age": [np.inf, *range(39)]}, "bought", ["missing values", "cells in 'age'. Fill"]),
        ({"bought": [None, *"a" * 39]}, "bought", ["missing values", "cells in 'bought'. Fill"]),
        ({"city": ["Rome"] * 40}, "bought", ["to be numbers", "texts in 'city'. Number"]),
        ({}, "income", ["to be numbers", "texts in 'bought'"]),
        ({"bought": ["no"] * 40}, "bought", ["2 classes", "Received: 'no' alone"]),
        ({"bought": ["yes"] + ["no"] * 39}, "bought", ["has each class", "Received: 40 samples"]),
        ({"age": None, "income": None, "member": None}, "bought", ["x must", "(40, 0)"]),
        ({"split": np.arange(40)}, "bought", ["split must be 40 integers", "Remove it"]),
        (
            {"split": [2] * 10 + [0] * 30, "bought": ["a"] * 10 + ["b", "c"] * 15},
            "bought",
            ["training samples to have all classes", "Received: 2 of 3"],
        ),
        ({"age": [1e300, *range(39)]}, "bought", ["x must be finite", "features [0] of 3"]),
    ],
)
def test_a_bad_table_is_one_sentence(columns, target, words, tmp_path):
    refuse(words, csv(tmp_path, **columns), target=target)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", ["a line of names", "No columns"]),
        (b"age,bought\n", ["a line of names", "no row below"]),
        (b"age,bought\n1,2,3\n4,5,6\n", ["a line of names", "does not match length of data"]),
        (b"\xff\xfe\x00\x01", ["a line of names", "Write it with"]),
        (b"age;bought\n1;yes\n2;no\n", ["`target` to be a column", "'age;bought'"]),
    ],
)
def test_a_file_that_is_no_table_is_one_sentence(content, words, tmp_path):
    (tmp_path / "table.csv").write_bytes(content)
    refuse(words, tmp_path / "table.csv", target="bought")


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"x": np.where(X > 9, np.nan, X)}, ["x must be finite", "NaN", "of 6, counted from 0"]),
        ({"x": X.astype(str)}, ["x must hold numbers", "dtype <U"]),
        ({"x": X[:0], "y": Y[:0]}, ["y must", "shape (0,)"]),
        ({"x": X[:30]}, ["x and y must have one length", "30 and 40"]),
        ({"y": np.where(Y == 1, np.nan, Y)}, ["y must be finite", "NaN"]),
        ({"y": np.zeros((40, 2, 2))}, ["y must be numbers", "(40, 2, 2)"]),
        ({"y": np.array(3)}, ["y must be numbers", "shape ()"]),
        ({"y": Y * 0}, ["2 classes", "Received: 0 alone"]),
        ({"y": X.astype(object)}, ["pickled"]),
        ({"x": X[:1], "y": X[:1]}, ["at least one training and one test sample"]),
    ],
)
def test_bad_arrays_are_one_sentence(arrays, words, tmp_path):
    refuse(words, npz(tmp_path, **{"x": X, "y": Y, **arrays}))


def test_training_and_test_samples_must_be_alike(tmp_path):
    parts = {"x_train": X[:30], "y_train": Y[:30], "x_test": X[30:], "y_test": Y[30:]}
    refuse(["one shape", "(10, 5)"], npz(tmp_path, **parts | {"x_test": X[30:, 1:]}))
    refuse(["one shape and kind", "<U"], npz(tmp_path, **parts | {"y_test": Y[30:].astype(str)}))
    refuse(["x_test and y_test", "10 and 9"], npz(tmp_path, **parts | {"y_test": Y[31:]}))


def test_what_is_said_must_be_true_of_the_data(tmp_path):
    path = csv(tmp_path)
    refuse(["to be numbers", "'no', 'yes'"], path, target="bought", task="regression")
    refuse(["a column Image", "--target NAME"], path)
    refuse(["`target` to be left out", "target='a'"], "wine", target="a")
    refuse(["`task` to be 'classification'", "task='regression'"], "wine", task="regression")
    refuse(["`kind` to be 'table'", "kind='series'"], "wine", kind="series")
    refuse(["`kind` to be 'table'", "kind='images'"], path, target="bought", kind="images")
    refuse(["argmax", "(40, 6)"], npz(tmp_path, x=X, y=X), task="classification")
    refuse(["uint8", "corruption"], "wine", corruption="motion_blur")
