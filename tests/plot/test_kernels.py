"""K as a heat map, and its eigenvalues."""

import numpy as np
import pytest
from examples import K, X, Y

import keras_mgs
from keras_mgs import plot


def test_kernel_draws_k_by_class_with_the_rows_of_a_sample_together(axis):
    k = np.arange(36.0).reshape(6, 6)
    plot.kernel(k, ["b", "a", "b"], axis)
    rows = [2, 3, 0, 1, 4, 5]  # the second sample's, then the first's and third's
    np.testing.assert_array_equal(axis.images[0].get_array(), k[np.ix_(rows, rows)])
    for ticks in (axis.get_xticklabels(), axis.get_yticklabels()):
        assert [t.get_text() for t in ticks] == ["a", "b"]
    assert axis.get_xticks().tolist() == [0.5, 3.5]  # the middle of rows 0, 1 and of 2 to 5
    assert {line.get_ydata()[0] for line in axis.lines[::2]} == {1.5}
    assert "2 rows of K" in axis.get_ylabel()


def test_kernel_without_classes_is_as_it_comes(axis):
    plot.kernel(K, ax=axis)
    np.testing.assert_array_equal(axis.images[0].get_array(), K)
    assert not axis.lines
    assert axis.get_xlabel() == "column of K (number)"


def test_kernel_takes_what_keras_mgs_kernel_gives(axis, linear):
    k = keras_mgs.kernel(linear, X)
    plot.kernel(k, Y[:, None], axis)
    assert axis.images[0].get_array().shape == (12, 12)


def test_kernel_leaves_missing_values_blank(axis):
    plot.kernel(np.where(K == 7, np.nan, K), ax=axis)
    assert axis.images[0].get_array().mask.sum() == 1


def test_kernel_gets_lighter_as_k_grows(axis):
    plot.kernel(K, ax=axis)
    lightness = axis.images[0].cmap(np.linspace(0, 1, 50))[:, :3] @ (0.299, 0.587, 0.114)
    assert (np.diff(lightness) > 0).all()


@pytest.mark.parametrize(
    "k, y, words",
    [
        (np.zeros((2, 3)), None, "square.*Received: shape \\(2, 3\\)"),
        (np.zeros(4), None, "square.*Received: shape \\(4,\\)"),
        ([[1.0], [2.0, 3.0]], None, "`k` to be an array, or lists of one length"),
        (K, [[0], [1, 2]], "`y` to be an array, or lists of one length"),
        ([[10**400]], None, "`k` to be numbers that float64 holds"),
        (K, [0, 1, 2], "one class label.*Received: `y` of shape \\(3,\\) and `k` of shape"),
        (K, [[0, 1], [1, 0]], "Received: `y` of shape \\(2, 2\\)"),
    ],
)
def test_kernel_refuses_what_is_no_kernel_of_these_samples(k, y, words):
    with pytest.raises(ValueError, match=words):
        plot.kernel(k, y)


def test_spectrum_descends_to_epsilon_and_leaves_the_rest_out(axis):
    plot.spectrum([1.0, -1e-9, 3.0, 0.0], axis)
    line, epsilon = axis.lines
    np.testing.assert_array_equal(line.get_ydata(), [3, 1, np.nan, np.nan])
    assert line.get_xdata().tolist() == [1, 2, 3, 4]
    assert epsilon.get_ydata()[0] == pytest.approx(1e-6)
    assert axis.get_yscale() == "log"
    (gap,) = axis.patches
    assert (gap.get_x(), gap.get_width()) == (2.5, 2)
    texts = [text.get_text() for text in axis.get_legend().get_texts()]
    assert texts == ["2 of 4 > ε", "ε = 1e-06", "2 of 4 ≤ ε"]


def test_spectrum_counts_as_the_callback_does(linear):
    x = np.repeat(X, 2, axis=0)  # each sample twice: K is singular
    watch = keras_mgs.MGSMetrics(x)
    watch.set_model(linear)
    watch.on_train_begin()
    logs: dict = {}
    watch.on_epoch_end(0, logs)
    axis = plot.spectrum(keras_mgs.eigenvalues(linear, x))
    assert axis.patches[0].get_width() == logs["mgs_singular"] > 0


def test_spectrum_takes_k_itself(axis):
    plot.spectrum(K, axis)
    np.testing.assert_allclose(axis.lines[0].get_ydata(), np.linalg.eigvalsh(K)[::-1])
    assert not axis.patches  # a regular K has no gap


def test_spectrum_leaves_missing_eigenvalues_out_of_the_count(axis):
    plot.spectrum([np.nan, 2.0, 1.0], axis)
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), [2, 1, np.nan])
    assert axis.lines[1].get_ydata()[0] == pytest.approx(1.5e-6)
    assert not axis.patches


@pytest.mark.parametrize(
    "values, words",
    [
        ([0.0, 0.0], "positive, finite mean.*Received: .*\\(2,\\) with the mean 0.0"),
        ([], "Received: an array of shape \\(0,\\)"),
        (np.zeros((2, 3)), "square.*Received: shape \\(2, 3\\)"),
        (np.full((2, 2), np.nan), "finite. Received: .* with 4 NaN"),
        ([1.0, 10**400], "`values_or_k` to be numbers that float64 holds"),
        ([[1.0], [2.0, 3.0]], "`values_or_k` to be an array, or lists of one length"),
    ],
)
def test_spectrum_refuses_what_has_none(values, words):
    with pytest.raises(ValueError, match=words):
        plot.spectrum(values)


@pytest.mark.parametrize("draw", [plot.spectrum, plot.kernel])
@pytest.mark.parametrize("k", [K * 1j, K.astype(str), K.astype("datetime64[s]")])
def test_what_is_no_real_number_is_refused(draw, k):
    with pytest.raises(TypeError, match="to be real numbers. Received: dtype"):
        draw(k)


def test_labels_that_cannot_be_sorted_are_refused():
    with pytest.raises(
        TypeError, match="`y` to be class labels of one kind.*Received: \\[None, 1\\]"
    ):
        plot.kernel(K, [None, 1])
