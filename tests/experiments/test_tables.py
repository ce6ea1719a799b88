import numpy as np
import pytest

from keras_mgs.experiments import tables

SHAPES = {
    "breast_cancer": (398, 171, 30, 2),
    "wine": (124, 54, 13, 3),
    "diabetes": (309, 133, 10, 1),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_table_has_its_samples_with_standardised_inputs(name):
    found = tables.load(name)
    train, test, features, outputs = SHAPES[name]
    assert found.x_train.shape == (train, features) and found.x_test.shape == (test, features)
    assert found.outputs == outputs and found.x_train.dtype == np.float32
    assert (found.y_train.dtype == np.int32) == (found.task == "classification")
    np.testing.assert_allclose(found.x_train.mean(axis=0), 0, atol=1e-5)  # float32
    np.testing.assert_allclose(found.x_train.std(axis=0), 1, atol=1e-5)
    assert 0.8 < found.x_test.std() < 1.3 and abs(found.x_test.mean()) < 0.2


def test_split_subset_and_noise_are_by_the_seed():
    clean, noisy, other = (
        tables.load("diabetes", training_size=200, label_noise=noise, seed=seed)
        for noise, seed in ((0.0, 3), (2.0, 3), (0.0, 4))
    )
    np.testing.assert_array_equal(clean.x_train, noisy.x_train)
    np.testing.assert_array_equal(clean.y_test, noisy.y_test)
    assert len(clean.x_train) == 200 and not np.array_equal(clean.x_test, other.x_test)
    error = noisy.y_train - clean.y_train
    assert error.std() == pytest.approx(2, rel=0.15)  # of 200 samples
    whole = tables.load("diabetes", seed=3)
    assert whole.y_train.std() == pytest.approx(1, abs=1e-5)


def test_classes_are_drawn_stratified():
    found = tables.load("breast_cancer", training_size=100)
    share = tables.load("breast_cancer").y_test.mean()
    assert found.y_train.mean() == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(
    "name, changed, words",
    [
        ("iris", {}, "'breast_cancer', .*Received: name='iris'"),
        ("wine", {"training_size": 125}, "at most 124.*Received: training_size=125"),
        ("wine", {"label_noise": 2.0}, "between 0 and 1.*Received: label_noise=2.0"),
        ("wine", {"seed": -1}, "at least 0. Received: seed=-1"),
    ],
)
def test_a_wrong_argument_is_one_sentence(name, changed, words):
    with pytest.raises(ValueError, match=words):
        tables.load(name, **changed)
