import numpy as np
import pandas as pd
import pytest

from keras_mgs.experiments.reports import figures, tables
from keras_mgs.experiments.studies import mnist
from keras_mgs.experiments.training.methods import METHODS

CELL = {"data": "d", "corruption": None, "network": "fcn", "strength": None, "epochs": 7}
CELL |= {"batch_size": 32, "learning_rate": 0.1}
CURVES = pd.DataFrame({"epoch": [1, 2], "mgs_trace": 1.0, "mgs_log_det": 1.0, "mgs_singular": 0.0})


def records(methods, sizes, noises, runs=2):
    """Runs whose accuracy says which they are: 90 − 50 · noise, less the run's number."""
    return [
        (
            {**CELL, "method": method, "training_size": size, "label_noise": noise, "seed": run},
            CURVES.assign(test=[0.0, 2 * (90 - 50 * noise - run)]),  # the mean of both counts
        )
        for method in methods
        for size in sizes
        for noise in noises
        for run in range(runs)
    ]


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_a_heat_map_has_the_mean_final_accuracy_of_each_cell():
    found = records(["mgs", "dropout"], [250, 3000], [0.0, 0.5, 1.0])
    pictures = mnist.files(found[:-2])  # the last cell has not been trained yet
    assert list(pictures) == ["accuracy-fcn.png", "curves-fcn.png"]
    figure = pictures["accuracy-fcn.png"]
    figure.draw_without_rendering()
    dropout, mgs = figure.axes[:2]
    assert [axis.get_title() for axis in (dropout, mgs)] == ["dropout", "MGS (tr K)"]
    assert texts(mgs) == ["90", "64", "40"] * 2 and texts(dropout) == ["90", "64", "40", "90", "64"]
    for axis in (dropout, mgs):
        assert [label.get_text() for label in axis.get_xticklabels()] == ["0%", "50%", "100%"]
        assert [label.get_text() for label in axis.get_yticklabels()] == ["250", "3000"]


def test_panels_are_of_the_smallest_and_largest_set_and_of_four_noises():
    found = records(["mgs", "dropout"], [250, 500, 3000], [n / 10 for n in range(11)], runs=1)
    figure = mnist.files(found)["curves-fcn.png"]
    figure.draw_without_rendering()
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [f"{n} samples, {p}% noise" for n in (250, 3000) for p in (0, 30, 70, 100)]
    assert [axis.lines[1].get_ydata()[1] for axis in figure.axes] == [180, 150, 110, 80] * 2
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["dropout", "MGS (tr K)"]
    assert not any(legend.get_window_extent().overlaps(axis.bbox) for axis in figure.axes)


@pytest.mark.parametrize("count", [1, 2, 5, 7, 9, 11, 14])
def test_no_entry_of_a_legend_stands_alone_below_or_beside_others(count):
    labels = [method.label for method in METHODS.values()][:count]
    figure = figures.curves(
        pd.concat(CURVES.assign(test=5.0, label=n, run=0) for n in labels), "accuracy"
    )
    figure.draw_without_rendering()
    (legend,) = figure.legends
    boxes = [text.get_window_extent() for text in legend.get_texts()]
    assert len(boxes) == count
    in_last_row = sum(abs(box.y0 - min(b.y0 for b in boxes)) < 1 for box in boxes)
    in_last_column = sum(abs(box.x0 - boxes[-1].x0) < 1 for box in boxes)
    assert in_last_row > 1 or count == 1
    # Seven leave one over in rows of two or three, and in the last column of any longer rows.
    assert in_last_row == count or in_last_column > 1 or count == 7
    whole = legend.get_window_extent()
    assert whole.x0 >= 0 and whole.x1 <= figure.bbox.x1 and whole.y0 >= 0
    assert not any(whole.overlaps(axis.get_tightbbox()) for axis in figure.axes)


def test_a_panel_without_runs_of_a_method_keeps_its_style():
    found = records(["mgs"], [250], [0.0, 0.5]) + records(["sam"], [250], [0.5])
    figure = mnist.files(found)["curves-fcn.png"]
    styles = [[line.get_linestyle() for line in axis.lines] for axis in figure.axes]
    assert styles[0] == styles[1] and len(styles[0]) == 2
    heights = [[line.get_ydata()[-1] for line in axis.lines] for axis in figure.axes]
    np.testing.assert_array_equal(heights, [[179, np.nan], [129, 129]])


@pytest.mark.parametrize("known", [True, False])
def test_a_boundary_is_drawn_where_the_lead_changes_its_sign(known):
    class Samples:
        x_train, y_train = np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([0, 1])

    line = np.linspace(-2, 2, 81)
    lead = 1 - np.hypot(*np.meshgrid(line, line)) if known else np.full((81, 81), -1.0)
    figure = figures.boundaries({"MGS": (Samples, lead.tolist(), 86.64)}, 2.0, 0.75)
    figure.draw_without_rendering()
    (axis,), (legend,) = figure.axes, figure.legends
    assert not legend.get_window_extent().overlaps(axis.get_tightbbox())
    # A disc of radius 1 in place of one of 0.75, or no disc, in a square of 16.
    wrong = np.pi * (1 - 0.75**2) / 16 if known else np.pi * 0.75**2 / 16
    name, accuracy, share = axis.get_title().split("\n")
    assert (name, accuracy) == ("MGS", "test accuracy 86.6 %")
    assert share.endswith(" % of the square")
    assert float(share.split()[2]) == pytest.approx(100 * wrong, abs=0.1)
    region = np.asarray(axis.images[0].get_array())
    assert region[150, 0] == 0 and region[150, 150] == known
    contours = [c for c in axis.collections if "Contour" in type(c).__name__]
    assert bool(contours) == known
    for contour in contours:
        (path,) = contour.get_paths()
        np.testing.assert_allclose(np.hypot(*path.vertices.T), 1, atol=0.01)


def test_labels_tell_apart_runs_of_one_method_with_other_settings():
    found = records(["mgs"], [250], [0.0]) + records(["dropout"], [250], [0.0])
    found += [({**settings, "epochs": 9}, run) for settings, run in found[:2]]
    labels = set(tables.curves(found)["label"])
    assert labels == {"dropout, epochs 7", "MGS (tr K), epochs 7", "MGS (tr K), epochs 9"}
