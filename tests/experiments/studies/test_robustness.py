import pandas as pd
import pytest

from keras_mgs.experiments.catalogue.presets import EXPERIMENTS
from keras_mgs.experiments.studies import robustness

SMALL = {"data": "digits", "methods": ["mgs", "dropout"], "runs": 2, "epoch_counts": [1, 2, 4]}
SMALL |= {"training_sizes": [20, 40, 80], "label_noises": [0.2, 0.5, 0.7]}
SMALL |= {"batch_sizes": [8, 16, 32], "learning_rates": [0.3, 0.03, 0.1]}
VARIED = ["training_size", "label_noise", "batch_size", "learning_rate", "epochs"]


def test_one_setting_is_varied_at_a_time_around_the_middle():
    runs = robustness.plan(**SMALL)
    assert len(runs) == 2 * 2 * (1 + 5 * 2)
    assert len({str(run) for run in runs}) == len(runs)
    start = {"training_size": 40, "label_noise": 0.5, "batch_size": 16, "learning_rate": 0.1}
    start["epochs"] = 2
    for run in runs:
        changed = [key for key in VARIED if run[key] != start[key]]
        assert changed == ([run["varied"]] if run["varied"] else [])
    values = {run["learning_rate"] for run in runs if run["varied"] == "learning_rate"}
    assert values == {0.03, 0.3}


def test_the_papers_start_is_that_of_its_tuning():
    paper = {
        **EXPERIMENTS["robustness"].presets["paper"],
        "data": "digits",
        "training_sizes": [20, 40, 80],
    }
    start = robustness.plan(**paper)[0]
    assert EXPERIMENTS["robustness"].presets["paper"]["training_sizes"][2] == 3000
    assert (start["label_noise"], start["epochs"]) == (0.5, 100)
    assert (start["batch_size"], start["learning_rate"]) == (32, 0.1)


def records(accuracies):
    """A run of MGS per pair of what is varied and an accuracy."""
    settings = robustness.plan(**SMALL)[0]
    return [
        ({**settings, "varied": varied, "seed": seed}, pd.DataFrame({"test": [0.0] + [a] * 5}))
        for seed, (varied, a) in enumerate(accuracies)
    ]


def test_quantiles_are_over_the_values_of_a_setting_and_the_start():
    found = records([(None, 80.0), ("epochs", 60.0), ("epochs", 90.0), ("batch_size", 10.0)])
    rows = robustness.table(found).set_index("varied")
    assert rows.loc["epochs", ["low", "median", "high"]].tolist() == [70, 80, 85]
    assert rows.loc["batch_size", "median"] == 45 and rows.loc["label_noise", "median"] == 80
    assert rows["runs"].to_dict() == {**dict.fromkeys(VARIED, 1), "epochs": 3, "batch_size": 2}
    (line,) = robustness.words(robustness.table(found))
    assert line["epochs"] == "80.0 (70.0, 85.0)" and line["method"] == "MGS (tr K)"


def test_a_radar_chart_has_a_closed_line_for_each_method():
    found = records([(None, 80.0), ("epochs", 60.0), ("epochs", 90.0), ("batch_size", 10.0)])
    figure = robustness.files(found)["radar-lenet5.png"]
    figure.draw_without_rendering()
    assert len(figure.axes) == 3
    (line,) = figure.axes[1].lines
    assert line.get_ydata().tolist() == [80, 80, 45, 80, 80, 80]
    names = [label.get_text().replace("\n", " ") for label in figure.axes[1].get_xticklabels()]
    assert names == ["training size", "label noise", "batch size", "learning rate", "epochs"]
    for axis in figure.axes:  # no word lies on the chart or on another word
        boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
        others = [
            box
            for other in figure.axes
            for box in [label.get_window_extent() for label in other.get_xticklabels()]
        ]
        assert sum(box.overlaps(other) for box in boxes for other in others) == len(boxes)


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"batch_sizes": [16, 32]}, "`batch_sizes` to be an odd number.*Received.*16, 32"),
        ({"epoch_counts": [2, 2, 2]}, "`epoch_counts` to be an odd number of different values"),
        ({"epoch_counts": [0, 1, 2]}, "`epoch_counts` to be at least 1. Received: epoch_counts=0"),
        ({"batch_sizes": [0, 1, 2]}, "`batch_sizes` to be at least 1"),
        ({"learning_rates": [-1, 1, 2]}, "`learning_rates` to be positive"),
        ({"label_noises": [0.2, 0.5, 1.5]}, "between 0 and 1.*Received: label_noise=1.5"),
        ({"training_sizes": [20, 40, 5000]}, "Received: training_size=5000"),
        ({"methods": ["sgd"]}, "Received: methods='sgd'"),
    ],
)
def test_a_wrong_argument_is_one_sentence(changed, words):
    with pytest.raises(ValueError, match=words):
        robustness.plan(**{**SMALL, **changed})
