import itertools
import subprocess
import sys

import keras
import matplotlib
import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import keras_mgs
from keras_mgs import plot

RUN = {
    "accuracy": [0.3, 0.5, 0.9],
    "val_accuracy": [0.2, 0.6, 0.7],
    "loss": [2.0, 1.0, 0.5],
    "val_loss": [2.1, 1.2, 0.9],
    "mgs_trace": [10.0, 100.0, 1000.0],
    "mgs_log_det": [-5.0, 1.0, 20.0],
    "mgs_singular": [0.0, 0.0, 1.0],
    "mgs_alpha": [1e-5, 1e-5, 1e-5],
}
K = np.array([[4.0, 1.0, 2.0, 0.0], [1.0, 5.0, 0.0, 3.0], [2.0, 0.0, 6.0, 1.0], [0.0, 3.0, 1.0, 7]])


@pytest.fixture(autouse=True)
def agg():
    backend = matplotlib.get_backend()
    matplotlib.use("agg")
    matplotlib.pyplot.close("all")  # other tests in this process may have left some open
    yield
    matplotlib.pyplot.close("all")
    matplotlib.use(backend)


@pytest.fixture
def axis():
    return Figure(layout="constrained").subplots()


@pytest.fixture
def linear():
    """Three classes of two inputs; the first output is largest where x[0] is, and so on."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.set_weights([np.array([[1.0, 0, -1], [0, 1, -1]]), np.zeros(3)])
    return model


X = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0], [2.0, 0.5]])
Y = np.array([0, 1, 2, 0])


def calls(model):
    return {
        "history": lambda ax: plot.history(RUN, ax),
        "kernel": lambda ax: plot.kernel(K, [0, 1], ax),
        "spectrum": lambda ax: plot.spectrum([3.0, 1.0, 0.0], ax),
        "decision_boundary": lambda ax: plot.decision_boundary(model, X, Y, ax),
        "compare": lambda ax: plot.compare({"a": RUN, "b": RUN}, "mgs_trace", ax),
    }


NAMES = list(calls(None))


def drawn(axis):
    axis.figure.draw_without_rendering()
    return axis.figure.axes


@pytest.mark.parametrize("name", NAMES)
def test_the_axis_given_is_the_axis_returned(name, axis, linear):
    assert calls(linear)[name](axis) is axis
    assert not matplotlib.pyplot.get_fignums()  # no other figure was made


@pytest.mark.parametrize("name", NAMES)
def test_without_an_axis_there_is_a_new_figure(name, linear):
    draw = calls(linear)[name]
    assert draw(None).figure is not draw(None).figure


@pytest.mark.parametrize("name", NAMES)
def test_every_axis_has_labels_and_its_quantity_a_unit(name, axis, linear):
    calls(linear)[name](axis)
    for one in axis.figure.axes + axis.child_axes:
        assert "(" in one.get_ylabel()
        assert one.get_xlabel() or one in axis.child_axes  # a colour bar has one side


@pytest.mark.parametrize("name", NAMES)
def test_no_legend_lies_over_any_data_and_nothing_is_cut_off(name, axis, linear):
    calls(linear)[name](axis)
    panels = drawn(axis)
    whole = axis.figure.bbox
    for panel in panels:
        legend = panel.get_legend()
        if legend is not None:
            box = legend.get_window_extent()
            assert not any(box.overlaps(other.bbox) for other in panels)
            assert box.x1 <= whole.x1 and box.y0 >= whole.y0
        for label in (panel.xaxis.label, panel.yaxis.label):
            box = label.get_window_extent()
            assert box.x0 >= whole.x0 - 1 and box.y0 >= whole.y0 - 1 and box.y1 <= whole.y1 + 1


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_matplotlib_names_the_extra(name, monkeypatch, linear):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'Received: .*pip install "keras_mgs\[plot\]"'):
        calls(linear)[name](None)


def test_the_module_can_be_imported_without_matplotlib():
    code = "import sys; sys.modules['matplotlib'] = None; import keras_mgs; keras_mgs.plot.history"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("name", NAMES)
def test_an_array_of_axes_is_refused_in_a_sentence(name, linear):
    with pytest.raises(TypeError, match="one matplotlib axis.*Received: ndarray.*axes\\[0\\]"):
        calls(linear)[name](Figure().subplots(2))


def test_history_has_a_panel_for_each_quantity_scores_first(axis):
    panels = plot.history(dict(reversed(RUN.items())), axis).figure.axes
    names = [panel.get_ylabel().split("\n")[0] for panel in panels]
    assert names == ["accuracy", "loss", "tr K", "log det K"]
    assert panels[0] is axis
    assert [panel.get_yscale() for panel in panels] == ["linear", "linear", "log", "linear"]


def test_history_draws_the_numbers_it_was_given(axis):
    panels = plot.history(RUN, axis).figure.axes
    found = [{line.get_label(): line.get_ydata().tolist() for line in p.lines} for p in panels]
    assert found[0] == {"training": RUN["accuracy"], "validation": RUN["val_accuracy"]}
    assert found[1] == {"training": RUN["loss"], "validation": RUN["val_loss"]}
    assert list(found[2].values()) == [RUN["mgs_trace"]]
    assert list(found[3].values()) == [RUN["mgs_log_det"]]
    assert panels[0].lines[0].get_xdata().tolist() == [1, 2, 3]


def test_history_takes_what_fit_returns_and_its_dict_and_its_table():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse", metrics=["mae"])
    x = np.random.rand(8, 3)
    fit = {"verbose": 0, "callbacks": [keras_mgs.MGSMetrics(x)]}
    model.fit(x, x[:, :2], epochs=2, **fit)
    run = model.fit(x, x[:, :2], initial_epoch=2, epochs=4, **fit)
    for given, epochs in [
        (run, [3, 4]),
        (run.history, [1, 2]),
        (pd.DataFrame(run.history), [1, 2]),
        (pd.DataFrame({**run.history, "epoch": run.epoch, "words": ["a", "b"]}), [2, 3]),
    ]:
        panels = plot.history(given).figure.axes
        assert [len(p.lines) for p in panels] == [1, 1, 1, 1]
        assert panels[2].lines[0].get_ydata().tolist() == run.history["mgs_trace"]
        assert panels[2].lines[0].get_xdata().tolist() == epochs


def test_history_draws_a_line_for_each_probe_batch(axis):
    run = {"mgs_trace_clean": [1.0, 2.0], "mgs_trace_noisy": [3.0, 4.0]}
    plot.history(run, axis)
    assert [line.get_label() for line in axis.lines] == ["clean", "noisy"]


@pytest.mark.parametrize("place", ["subplots", "by hand"])
def test_history_keeps_to_the_place_of_its_axis(place):
    figure = Figure(figsize=(12, 6))
    box = (0.1, 0.1, 0.3, 0.8)
    ax = figure.subplots(1, 2)[0] if place == "subplots" else figure.add_axes(box)
    figure.draw_without_rendering()
    before = ax.get_position()
    others = [a for a in figure.axes if a is not ax]
    plot.history(RUN, ax)
    panels = [a.get_position() for a in drawn(ax) if a not in others]
    assert len(panels) == 4
    assert min(p.y0 for p in panels) == pytest.approx(before.y0)
    assert max(p.y1 for p in panels) == pytest.approx(before.y1)
    assert {(round(p.x0, 6), round(p.x1, 6)) for p in panels} == {
        (round(before.x0, 6), round(before.x1, 6))
    }
    assert all(a.y0 > b.y1 for a, b in itertools.pairwise(panels))


def test_a_missing_value_is_a_gap_and_one_alone_a_dot(axis):
    values = [1.0, np.nan, 3.0, None, 5.0, 6.0]
    plot.history({"mgs_log_det": values}, axis)
    (line,) = axis.lines
    assert np.isnan(line.get_ydata()).tolist() == [False, True, False, True, False, False]
    assert line.get_marker() == "o" and line.get_markevery() == [0, 2]


def test_a_line_without_gaps_has_no_dots(axis):
    plot.history({"loss": [3.0, 2.0]}, axis)
    assert axis.lines[0].get_marker() == "None"


@pytest.mark.parametrize(
    "history, words",
    [
        ([0.1, 0.2], "keras History.*Received: \\[0.1, 0.2\\] of type list"),
        ({}, "a score, a loss.*Received: nothing"),
        ({"epoch": [0, 1], "mgs_alpha": [1, 1]}, "Received: \\['epoch', 'mgs_alpha'\\]"),
        ({"loss": [1.0, 2.0], "accuracy": [0.1]}, "per epoch. Received: {'loss': 2, 'acc"),
        (keras.callbacks.History(), "a History that no `fit` has filled. Give what `fit` returns"),
        ({"loss": [1.0, 10**400]}, "history\\['loss'\\]` to be numbers that float64 holds"),
        ({"loss": [[1.0], [2.0, 3.0]]}, "history\\['loss'\\]`.* one length. Received"),
        ({"loss": [1.0, 2.0j]}, "history\\['loss'\\]` to be real numbers. Received: dtype complex"),
        ({"loss": [1.0, {}]}, "history\\['loss'\\]` to be real numbers. Received: others"),
        ({"loss": None}, "a score, a loss.*Received: nothing"),
        (None, "keras History.*Received: None"),
    ],
)
def test_history_refuses_what_it_cannot_draw(history, words):
    with pytest.raises((TypeError, ValueError), match=words):
        plot.history(history)
    assert not matplotlib.pyplot.get_fignums()


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


def test_compare_wants_a_key():
    with pytest.raises(TypeError, match="`key` to be a string. Received: key=None"):
        plot.compare({"a": RUN}, None)


def test_compare_reads_no_column_but_its_own(axis):
    plot.compare(
        {"a": {"loss": [1.0, 2.0], "huge": [10**400, 1], "odd": [[1], [2, 3]]}}, "loss", axis
    )
    assert axis.lines[0].get_ydata().tolist() == [1, 2]


def test_a_name_with_an_underscore_is_in_the_legend(axis):
    plot.compare({"_a": RUN, "b": RUN}, "loss", axis)
    assert [text.get_text().strip() for text in axis.get_legend().get_texts()] == ["_a", "b"]


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


def test_compare_draws_each_training_in_a_style_of_its_own(axis):
    runs = {f"run {i}": {"val_accuracy": [0.1 * i, 0.5]} for i in range(7)}
    plot.compare(runs, "val_accuracy", axis)
    assert [line.get_ydata().tolist() for line in axis.lines] == [
        run["val_accuracy"] for run in runs.values()
    ]
    assert len({line.get_color() for line in axis.lines}) == 7
    assert len({str(line._unscaled_dash_pattern) for line in axis.lines}) == 7
    assert axis.get_ylabel() == "validation accuracy (share)"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(runs)


def test_compare_never_repeats_a_pair_of_colour_and_line_style(axis):
    plot.compare({i: {"loss": [1.0, 2.0]} for i in range(40)}, "loss", axis)
    pairs = {(line.get_color(), str(line._unscaled_dash_pattern)) for line in axis.lines}
    assert len(pairs) == 40


def test_compare_draws_the_mean_of_several_runs_and_their_range(axis):
    runs = [{"loss": [1.0, 2.0]}, pd.DataFrame({"loss": [3.0, 6.0]})]
    plot.compare({"plain": runs, "MGS": {"loss": [0.0, 0.0]}}, "loss", axis)
    assert [line.get_ydata().tolist() for line in axis.lines] == [[2.0, 4.0], [0.0, 0.0]]
    (band,) = axis.collections  # of the several runs alone
    corners = {tuple(v) for v in band.get_paths()[0].vertices.tolist()}
    assert {(1.0, 1.0), (1.0, 3.0), (2.0, 2.0), (2.0, 6.0)} <= corners


def test_compare_has_a_gap_where_one_run_has_no_value(axis):
    runs = [{"loss": [1.0, np.nan, 3.0]}, {"loss": [3.0, 4.0]}]
    plot.compare({"plain": runs}, "loss", axis)
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), [2, np.nan, np.nan])


def test_compare_draws_tr_k_on_a_logarithmic_axis(axis):
    plot.compare({"plain": RUN}, ax=axis)
    assert axis.get_yscale() == "log" and axis.get_ylabel() == "tr K (output²/weight²)"


@pytest.mark.parametrize(
    "histories, words",
    [
        ({}, "at least one training. Received: none"),
        ([RUN], "by their names. Received: list"),
        (pd.DataFrame(RUN), "by their names. Received: DataFrame"),
        ({"a": RUN, "b": {"loss": [1.0]}}, "histories\\['b'\\].*Received: key='mgs_trace', and"),
        ({"a": []}, "histories\\['a'\\].*at least one run. Received: \\[\\]"),
        ({"a": 3}, "histories\\['a'\\].*Received: 3 of type int"),
        ({"a": keras.callbacks.History()}, "histories\\['a'\\].*no `fit` has filled"),
        ({"a": {"mgs_trace": [10**400]}}, "histories\\['a'\\]\\['mgs_trace'\\].*float64 holds"),
        ({"a": {"mgs_trace": [[1], [2, 3]]}}, "\\['mgs_trace'\\]` to be an array, or lists"),
        ({"a": {"mgs_trace": [[1, 2]]}}, "a number per epoch. Received: key='mgs_trace'"),
    ],
)
def test_compare_refuses_what_it_cannot_draw(histories, words):
    with pytest.raises((TypeError, ValueError), match=words):
        plot.compare(histories)
    assert not matplotlib.pyplot.get_fignums()
