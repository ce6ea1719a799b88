"""Decision boundaries, their regions and their samples."""

import keras
import numpy as np
import pytest
from examples import X, Y
from matplotlib.colors import to_rgb

from keras_mgs import plot


def test_decision_boundary_colours_each_place_by_its_largest_output(axis, linear):
    plot.decision_boundary(linear, X, Y, axis)
    image = axis.images[0]
    region = np.asarray(image.get_array())
    left, right, bottom, top = image.get_extent()
    first = np.linspace(left, right, region.shape[1])
    second = np.linspace(bottom, top, region.shape[0])
    grid = np.stack(np.meshgrid(first, second), axis=-1)
    f = grid @ np.array([[1.0, 0, -1], [0, 1, -1]])
    margin = np.sort(f, axis=-1)[..., 2] - np.sort(f, axis=-1)[..., 1]
    sure = margin > 1e-4  # elsewhere it is rounding that decides
    np.testing.assert_array_equal(region[sure], f.argmax(axis=-1)[sure])
    assert sure.mean() > 0.99


def test_decision_boundary_draws_every_sample_with_its_class(axis, linear):
    plot.decision_boundary(linear, X, Y, axis)
    points = {c.get_label(): c.get_offsets().tolist() for c in axis.collections if c.get_label()}
    assert points["class 0"] == X[Y == 0].tolist()
    assert points["class 1"] == X[Y == 1].tolist()
    assert points["class 2"] == X[Y == 2].tolist()


@pytest.mark.parametrize("activation", [None, "sigmoid"])
@pytest.mark.parametrize("labels", [(0, 1), (-1, 1)])
def test_decision_boundary_of_one_output_is_where_it_changes_sign(activation, labels, axis):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, activation=activation)])
    model.set_weights([np.array([[1.0], [0.0]]), np.array([-0.5])])
    plot.decision_boundary(model, X, np.array(labels)[[1, 0, 0, 1]], axis)
    left, right, *_ = axis.images[0].get_extent()
    row = np.asarray(axis.images[0].get_array())[0]
    np.testing.assert_array_equal(row, np.linspace(left, right, len(row)) > 0.5)
    texts = [text.get_text() for text in axis.get_legend().get_texts()]
    assert texts == [f"class {label}" for label in labels]


def test_classes_differ_in_colour_in_marker_and_their_regions_in_lightness(axis):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(6)])
    plot.decision_boundary(model, np.random.rand(6, 2), np.arange(6), axis)
    points = [c for c in axis.collections if c.get_label().startswith("class")]
    assert len({tuple(c.get_facecolor()[0]) for c in points}) == 6
    assert len({c.get_paths()[0].vertices.tobytes() for c in points}) == 6
    lightness = np.array([to_rgb(c) for c in axis.images[0].cmap.colors]) @ (0.299, 0.587, 0.114)
    assert (np.diff(lightness) < -0.02).all()


@pytest.mark.parametrize(
    "x, y, words",
    [
        (X[:, :1], Y, "two inputs per sample.*Received: shape \\(4, 1\\)"),
        (np.where(X == 2, np.nan, X), Y, "finite.*Received: .* with 1 NaN"),
        (X, Y + 1, "4 class labels, 0 to 2 for.* 3 outputs. Received: .* labels \\[1, 2, 3\\]"),
        (X, Y[:2], "Received: shape \\(2,\\)"),
        ([[0.0, 1.0], [2.0]], Y, "`x` to be an array, or lists of one length"),
        (X, [[0], [1, 2], [0], [1]], "`y` to be an array, or lists of one length"),
        (X, ["a", "b", "a", "b"], "Received: shape \\(4,\\), labels <U1"),
    ],
)
def test_decision_boundary_refuses_other_data(x, y, words, linear):
    with pytest.raises(ValueError, match=words):
        plot.decision_boundary(linear, x, y)
