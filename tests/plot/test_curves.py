"""Curves of trainings over the epochs."""

import itertools

import keras
import matplotlib
import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest
from examples import RUN
from matplotlib.figure import Figure

import keras_mgs
from keras_mgs import plot


def test_history_has_a_panel_for_each_quantity_scores_first(axis):
    panels = plot.history(dict(reversed(RUN.items())), axis).figure.axes
    names = [panel.get_ylabel().split("\n")[0] for panel in panels]
    assert names == ["accuracy", "loss", "tr K", "log det K"]
    assert panels[0] is axis
    assert [panel.get_yscale() for panel in panels] == ["linear", "linear", "log", "linear"]


def test_history_draws_the_numbers_it_was_given(axis):
    panels = plot.history(RUN, axis).figure.axes
    drawn = [{line.get_label(): line.get_ydata().tolist() for line in p.lines} for p in panels]
    assert drawn[0] == {"training": RUN["accuracy"], "validation": RUN["val_accuracy"]}
    assert drawn[1] == {"training": RUN["loss"], "validation": RUN["val_loss"]}
    assert list(drawn[2].values()) == [RUN["mgs_trace"]]
    assert list(drawn[3].values()) == [RUN["mgs_log_det"]]
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
    figure.draw_without_rendering()
    panels = [a.get_position() for a in figure.axes if a not in others]
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


def test_compare_draws_each_training_in_a_style_of_its_own(axis):
    runs = {f"run {i}": {"val_accuracy": [0.1 * i, 0.5]} for i in range(6)}
    runs["MGS"] = {"val_accuracy": [0.6, 0.5]}
    plot.compare(runs, "val_accuracy", axis)
    assert [line.get_ydata().tolist() for line in axis.lines] == [
        run["val_accuracy"] for run in runs.values()
    ]
    assert len({line.get_color() for line in axis.lines}) == 7
    assert len({str(line._unscaled_dash_pattern) for line in axis.lines}) == 7
    assert axis.get_ylabel() == "validation accuracy (share)"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(runs)


OTHERS = [f"run {i}" for i in range(9)]


@pytest.mark.parametrize(
    "names, mgs",
    [
        (["MGS"], "MGS"),
        (["with MGS", "without MGS"], "with MGS"),
        (["no MGS", "MGS (tr K)", "MGS (log det K)"], "MGS (tr K)"),
        ([*OTHERS, "MGS, α = 1e-4", *"abcdefgh"], "MGS, α = 1e-4"),
        (["MGSx", *OTHERS], None),
    ],
)
def test_mgs_has_one_colour_and_line_style_and_no_other_line_has_either(names, mgs, axis):
    plot.compare({name: {"loss": [1.0, 2.0]} for name in names}, "loss", axis)
    for line in axis.lines:
        colour, dashes = line.get_color(), line._unscaled_dash_pattern
        is_mgs = line.get_label() == mgs
        assert (colour == "#D55E00") == (dashes == (0, (7, 1, 1, 1, 1, 1))) == is_mgs


@pytest.mark.parametrize(
    "key, values, span",
    [
        ("val_accuracy", [0.0992, 0.1004], 0.01),
        ("val_accuracy", [0.5, 0.5], 0.05),
        ("test", [9.92, 10.04], 1),  # %
        ("mgs_log_det", [-700.0, -700.1], 1),
        ("loss", [2.3024, 2.3028], 0.23),
        ("mgs_trace", [10000.0, 10100.0], 1),  # power of ten
    ],
)
@pytest.mark.parametrize("draw", ["compare", "history"])
def test_a_vertical_axis_shows_a_unit_with_the_values_in_its_middle(draw, key, values, span, axis):
    if draw == "compare":
        plot.compare({"a": {key: values}, "b": {key: [np.nan, values[0]]}}, key, axis)
    else:
        plot.history({key: values}, axis)
    seen, values = np.array(axis.get_ylim()), np.array(values)
    if key == "mgs_trace":
        seen, values = np.log10(seen), np.log10(values)
    assert np.diff(seen)[0] == pytest.approx(1.1 * span, rel=0.01)  # with matplotlib's margins
    assert seen.mean() == pytest.approx(values.mean(), rel=1e-3)


@pytest.mark.parametrize("values", [[0.1, 0.9], [5.0, 80.0], [0.0, 0.0], [np.nan, np.nan]])
def test_a_vertical_axis_that_shows_a_unit_or_has_none_is_matplotlib_s(values, axis):
    plot.compare({"a": {"loss": values}}, "loss", axis)
    plain = Figure().subplots()
    plain.plot([1, 2], values)
    np.testing.assert_allclose(axis.get_ylim(), plain.get_ylim())


def test_an_axis_that_shows_a_unit_grows_with_what_is_drawn_later_or_beside_it():
    first, second = Figure().subplots(1, 2, sharey=True)
    plot.compare({"a": {"test": [9.92, 10.04]}}, "test", first)
    plot.compare({"a": {"test": [10.0, 80.0]}}, "test", second)
    assert first.get_ylim() == second.get_ylim()
    assert first.get_ylim()[1] > 80
    first.plot([1, 2], [-50, 10])
    assert second.get_ylim()[0] < -50


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
    assert axis.get_yscale() == "log" and axis.get_ylabel() == "tr K (sum of squared gradients)"


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
