import numpy as np
import pandas as pd
import pytest

from keras_mgs.experiments.catalogue.presets import EXPERIMENTS
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.studies import keypoints

SMALL = {"networks": ["fcn"], "methods": ["mgs", "dropout"], "target_noises": [0.0, 2.0]}
SMALL |= {"runs": 2, "epochs": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Forty images with two targets each, of which ten are for validation."""
    x = np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8)
    y, split = np.full((40, 2), 8.0, "float32"), np.repeat([0, 1, 2], [20, 10, 10])
    path = tmp_path_factory.mktemp("data") / "points.npz"
    np.savez(path, x=x, y=y, split=split)
    return path


def test_the_presets_are_the_papers_tables_and_a_small_part_of_them(data):
    runs = keypoints.plan(data, **EXPERIMENTS["keypoints"].presets["paper"])
    assert len(runs) == 2 * 4 * 5 * 10 and {run["batch_size"] for run in runs} == {128}
    assert {(run["network"], run["epochs"]) for run in runs} == {("lenet5", 50), ("fcn", 400)}
    assert {run["label_noise"] for run in runs} == {0, 10, 20, 30}
    assert {run["corruption"] for run in runs} == {"motion_blur"}
    assert len(keypoints.plan(data, **EXPERIMENTS["keypoints"].presets["quick"])) == 2 * 5


def test_the_training_share_is_of_all_that_is_not_for_validation(data):
    assert {run["training_size"] for run in keypoints.plan(data, **SMALL)} == {9}
    runs = keypoints.plan(data, training_share=0.5, **SMALL)
    assert {run["training_size"] for run in runs} == {15}
    loaded = keypoints.scenarios.load(runs[0], data)
    assert loaded.x_train.shape == (15, 16, 16, 1) and len(loaded.x_test) == 10


def test_noise_is_put_on_the_training_targets_alone(data):
    clean, noisy = (
        keypoints.scenarios.load(run, data) for run in keypoints.plan(data, **SMALL)[::2][:2]
    )
    np.testing.assert_array_equal(clean.y_train, 8)
    assert 0.5 < noisy.y_train.std() < 4
    np.testing.assert_array_equal(noisy.y_test, 8)


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"training_share": 0}, "`training_share` to be positive. Received: training_share=0"),
        ({"training_share": 1}, "`training_share` to be below 1. Received: training_share=1"),
        ({"training_share": 0.9}, "at most 20.*Received: training_size=27"),
        ({"target_noises": [-1.0]}, "at least 0. Received: label_noise=-1"),
        ({"methods": ["label_smoothing"]}, "no classes. Received: label_smoothing"),
        ({"batch_size": 0}, "`batch_size` to be at least 1"),
    ],
)
def test_a_wrong_argument_is_one_sentence(changed, words, data):
    with pytest.raises(ValueError, match=words):
        keypoints.plan(data, **{**SMALL, **changed})


def test_data_with_classes_are_refused():
    with pytest.raises(ValueError, match="with keypoints, x and y.*Received: data='digits'"):
        keypoints.plan("digits", **SMALL)


def test_a_low_error_is_better_than_the_papers(data):
    settings = keypoints.plan(data, **{**SMALL, "target_noises": [30.0], "methods": ["mgs"]})[0]
    for final, words in {19.0: "better", 22.0: "within", 26.0: "worse"}.items():
        curves = pd.DataFrame({"epoch": [1, 2], "test": [final + 3, final - 3]})
        curves = curves.assign(mgs_trace=1.0, mgs_log_det=1.0, mgs_singular=0.0)
        (line,) = keypoints.words(keypoints.table([(settings, curves)]))
        assert line["final (best)"] == f"{final} ({final - 3})" and line["ours is"] == words
        assert line["the paper's"] == "22.4 ± 2.7 (20.9)" and line["target noise"] == "30 px"


def test_the_papers_tables_are_there_in_full():
    paper = tables.published("keypoints")
    assert paper.groupby("table").size().to_dict() == {"2": 20, "A.2": 20}
    assert not paper.duplicated(["network", "label_noise", "method"]).any()
    by_method = paper.set_index(["network", "label_noise", "method"])["paper_final"]
    assert by_method["lenet5", 0, "mgs"] == 14.1 and by_method["fcn", 30, "dropout"] == 210.4
