import numpy as np
import pandas as pd
import pytest

from keras_mgs.experiments.reports import figures
from keras_mgs.experiments.studies.compare import compare, table
from keras_mgs.experiments.training.methods import PAPER


@pytest.fixture
def small_digits(tmp_path):
    """Sixty images of four shapes in MNIST's layout."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    y = np.arange(60, dtype=np.uint8) % 4
    path = tmp_path / "small.npz"
    np.savez(path, x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    return path


def test_every_method_trains_and_the_folder_is_complete(small_digits, tmp_path):
    lines = []
    result = compare(
        small_digits,
        out=tmp_path / "results" / "out",
        methods=PAPER,
        runs=1,
        epochs=2,
        jobs=1,
        report=lines.append,
    )
    assert result["method"].tolist() == list(PAPER)
    assert len(lines) == len(PAPER)
    out = tmp_path / "results" / "out"
    assert sorted(p.name for p in out.iterdir()) == ["compare.png", "curves.csv", "table.csv"]
    assert [p.name for p in out.parent.iterdir()] == ["out"]  # no temporary folder is left
    curves = pd.read_csv(out / "curves.csv")
    assert len(curves) == len(PAPER) * 2
    alpha = curves.pop("mgs_alpha")  # which only a penalty has
    assert set(curves["method"][alpha.notna()]) == {"loss_gradient", "mgs"}
    assert np.isfinite(curves.drop(columns="method").to_numpy()).all()
    pd.testing.assert_frame_equal(pd.read_csv(out / "table.csv"), result)
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    relative = result.set_index("method")["relative_seconds"]
    assert relative["unregularised"] == 1


def test_the_same_seed_gives_the_same_curves_whatever_the_jobs(small_digits, tmp_path):
    for name, jobs in {"a": 1, "b": 2}.items():
        methods = ("mgs", "dropout")
        compare(small_digits, out=tmp_path / name, methods=methods, runs=1, epochs=2, jobs=jobs)
    a, b = (pd.read_csv(tmp_path / n / "curves.csv").drop(columns="seconds") for n in "ab")
    pd.testing.assert_frame_equal(a, b)


def test_regression_is_scored_in_squared_pixels(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (30, 16, 16), dtype=np.uint8)
    y = np.full((30, 2), 12.0, "float32")  # the network starts near the centre, 8
    np.savez(tmp_path / "points.npz", x=x, y=y, split=np.repeat([0, 1, 2], 10))
    result = compare(
        tmp_path / "points.npz",
        out=tmp_path / "out",
        network="fcn",
        methods=("unregularised", "mgs"),
        runs=1,
        epochs=1,
        label_noise=0.0,
        jobs=1,
    )
    assert {"final_mse", "best_mse"} <= set(result.columns)
    assert result["final_mse"].between(0.1, 64).all()


def test_a_method_for_classes_is_refused_where_there_are_none(tmp_path):
    x, y = np.zeros((4, 16, 16), np.uint8), np.full((4, 2), 8.0, "float32")
    np.savez(tmp_path / "points.npz", x=x, y=y)
    with pytest.raises(ValueError, match="no classes. Received: label_smoothing. Leave"):
        compare(tmp_path / "points.npz", out=tmp_path / "out", methods=("mgs", "label_smoothing"))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(small_digits, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="new or empty.*Received"):
        compare(small_digits, out=tmp_path / "out", methods=("mgs",))
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_nothing_half_written_is_left_by_an_interrupted_job(small_digits, tmp_path):
    def interrupt(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(
            small_digits,
            out=tmp_path / "o" / "out",
            methods=("mgs",),
            epochs=1,
            jobs=1,
            report=interrupt,
        )
    assert not list((tmp_path / "o").iterdir())


def test_the_table_is_the_mean_of_the_last_five_then_over_runs():
    rows = [
        {"method": "mgs", "run": run, "test": 10.0 * run + epoch, "seconds": 1.0 + epoch}
        for run in (0, 1)
        for epoch in range(10)
    ]
    row = table(pd.DataFrame(rows), "accuracy").iloc[0]
    assert row["final_accuracy"] == 12 and row["best_accuracy"] == 14
    assert row["final_std"] == pytest.approx(np.std([7, 17], ddof=1))
    assert row["seconds_per_epoch"] == 5.5
    assert table(pd.DataFrame(rows), "mse").iloc[0]["best_mse"] == 5


def test_the_figure_has_a_line_for_each_method_and_one_legend_below():
    rows = [
        {"label": label, "run": run, "epoch": epoch, "test": 10.0 * run + epoch}
        for label in ("MGS (tr K)", "dropout")
        for run in (0, 1)
        for epoch in (1, 2)
    ]
    curves = pd.DataFrame(rows).assign(mgs_trace=3.0, mgs_log_det=-1.0)
    figure = figures.curves(curves, "mse")
    figure.draw_without_rendering()
    for axis in figure.axes:
        assert [line.get_label() for line in axis.lines] == ["MGS (tr K)", "dropout"]
        assert "(" in axis.get_ylabel() and axis.get_xlabel() == "epoch"
        assert axis.get_legend() is None
    assert figure.axes[0].lines[0].get_ydata().tolist() == [6.0, 7.0]
    assert [axis.get_yscale() for axis in figure.axes] == ["log", "log", "linear"]
    (legend,) = figure.legends
    assert not any(legend.get_window_extent().overlaps(axis.bbox) for axis in figure.axes)
