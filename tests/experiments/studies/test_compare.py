import itertools

import keras
import numpy as np
import pandas as pd
import pytest

from keras_mgs.experiments import reproduce
from keras_mgs.experiments.catalogue.names import PAPER
from keras_mgs.experiments.reports import figures
from keras_mgs.experiments.runs.store import Store
from keras_mgs.experiments.studies import compare


@pytest.fixture
def small_digits(tmp_path):
    """Sixty images of four shapes in MNIST's layout."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    y = np.arange(60, dtype=np.uint8) % 4
    path = tmp_path / "small.npz"
    np.savez(path, x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    return path


def done(data, folder, jobs=1, **given):
    """The table of a comparison."""
    store = reproduce.store(folder, "compare")
    runs = reproduce.plan("compare", "quick", data=data, **given)
    sources = reproduce.sources("compare", {"data": data, **given})
    reproduce.reproduce(store, runs, **sources, jobs=jobs)
    return compare.table(store.records())


def test_every_method_trains_and_the_folder_is_complete(small_digits, tmp_path):
    out = tmp_path / "results" / "out"
    result = done(small_digits, out, runs=1, epochs=2)
    assert result["method"].tolist() == list(PAPER)
    _, lines, files = reproduce.report(out)
    assert files == ["table.csv", "curves.csv", "compare.png"]
    assert [line["method"] for line in lines][-1] == "MGS (tr K)"
    assert not any("nan" in text for line in lines for text in line.values())
    curves = pd.read_csv(out / "curves.csv")
    assert len(curves) == len(PAPER) * 2
    alpha = curves["mgs_alpha"]  # which only a penalty has
    assert set(curves["method"][alpha.notna()]) == {"loss_gradient", "mgs"}
    numbers = ["epoch", "loss", "train", "test", "mgs_trace", "mgs_log_det", "seconds"]
    assert np.isfinite(curves[numbers].to_numpy()).all()
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    relative = result.set_index("method")["relative_seconds"]
    assert relative["unregularised"] == 1


def test_the_same_seed_gives_the_same_curves_whatever_the_jobs(small_digits, tmp_path):
    curves = []
    for name, jobs in {"a": 1, "b": 2}.items():
        done(small_digits, tmp_path / name, jobs, methods=("mgs", "dropout"), runs=1, epochs=2)
        curves.append([c.drop(columns="seconds") for _, c in Store(tmp_path / name).records()])
    for a, b in zip(*curves, strict=True):
        pd.testing.assert_frame_equal(a, b)


def test_regression_is_scored_in_squared_pixels(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (30, 16, 16), dtype=np.uint8)
    y = np.full((30, 2), 12.0, "float32")  # the network starts near the centre, 8
    np.savez(tmp_path / "points.npz", x=x, y=y, split=np.repeat([0, 1, 2], 10))
    given = {"network": "fcn", "methods": ("unregularised", "mgs"), "runs": 1, "epochs": 1}
    result = done(tmp_path / "points.npz", tmp_path / "out", label_noise=0.0, **given)
    assert result["task"].tolist() == ["regression"] * 2
    assert result["final"].between(0.1, 64).all()


def test_a_method_for_classes_is_refused_where_there_are_none(tmp_path):
    x, y = np.zeros((4, 16, 16), np.uint8), np.full((4, 2), 8.0, "float32")
    np.savez(tmp_path / "points.npz", x=x, y=y)
    with pytest.raises(ValueError, match="no classes. Received: label_smoothing. Leave"):
        compare.plan(tmp_path / "points.npz", methods=("mgs", "label_smoothing"))


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="new or empty.*Received"):
        reproduce.store(tmp_path / "out", "compare")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def record(method, seed, task="classification"):
    settings = {"data": "digits", "corruption": None, "network": "fcn", "label_noise": 0.5}
    settings |= {"training_size": 40, "epochs": 10, "batch_size": 32, "task": task}
    settings |= {"method": method, "strength": None, "seed": seed}
    epochs = np.arange(10.0)
    curves = {"epoch": epochs, "test": 10.0 * seed + epochs, "seconds": 1 + epochs}
    return settings, pd.DataFrame({**curves, "mgs_trace": 1.0, "mgs_log_det": 0.0})


def test_the_table_is_the_mean_of_the_last_five_then_over_runs():
    records = [record("unregularised", seed) for seed in (0, 1)]
    row = compare.table(records).iloc[0]
    assert row["final"] == 12 and row["best"] == 14
    assert row["final_std"] == pytest.approx(np.std([7, 17], ddof=1))
    assert row["seconds"] == 5.5 and row["relative_seconds"] == 1
    records = [record("unregularised", seed, "regression") for seed in (0, 1)]
    assert compare.table(records).iloc[0]["best"] == 5


def test_one_run_has_no_spread_and_no_unregularised_run_no_ratio():
    (line,) = compare.words(compare.table([record("dropout", 0)]))
    assert line["final"] == "7.0" and line["time"] == ""


def every_resample(values):
    """The means of all samples with replacement, which a bootstrap draws from."""
    return np.array([np.mean(drawn) for drawn in itertools.product(values, repeat=len(values))])


@pytest.mark.parametrize("lowest", [False, True])
@pytest.mark.parametrize("count", [3, 5])
def test_the_lead_is_the_mean_difference_of_equal_seeds_and_its_interval(count, lowest):
    rng = np.random.default_rng(0)
    ours = pd.Series(rng.normal(70, 3, 6), index=[5, 4, 3, 2, 1, 0])
    theirs = pd.Series(rng.normal(75, 3, count), index=range(count))
    gains = [theirs[seed] - ours[seed] for seed in range(count)]
    gains = [-gain for gain in gains] if lowest else gains
    found = compare.ahead(theirs, ours, lowest=lowest)
    assert found["ahead"] == pytest.approx(np.mean(gains), rel=1e-9)
    means = every_resample(gains)
    for end, tail in (("ahead_low", 0.025), ("ahead_high", 0.975)):
        assert np.mean(means < found[end] - 1e-9) <= tail + 0.01
        assert np.mean(means <= found[end] + 1e-9) >= tail - 0.01
    assert found == compare.ahead(theirs, ours, lowest=lowest)  # nothing is left to chance


def test_differences_that_are_all_the_same_have_an_interval_of_no_width():
    scores = pd.Series([1.0, 2.0, 3.0])
    found = compare.ahead(scores + 2, scores)
    assert list(found.values()) == [2, 2, 2]


@pytest.mark.parametrize("change", ["two runs", "other seeds", "broken down"])
def test_there_is_no_lead_of_too_few_runs_of_the_same_seeds(change):
    scores = pd.Series([1.0, 2.0, 3.0, 4.0])
    other = {
        "two runs": scores[:2],
        "other seeds": pd.Series([1.0, 2.0, 3.0, 4.0], index=[2, 3, 4, 5]),
        "broken down": pd.Series([1.0, 2.0, float("nan"), 4.0]),
    }[change]
    assert np.isnan(list(compare.ahead(other, scores).values())).all()


def test_the_table_tells_by_how_much_each_method_is_ahead_of_mgs():
    def runs(method, gains, task="classification", **changed):
        for seed, gain in enumerate(gains):
            settings, curves = record(method, seed, task)
            yield {**settings, **changed}, curves.assign(test=curves["test"] + gain)

    records = [
        *runs("mgs", [0, 0, 0]),
        *runs("elr", [1, 2, 6]),
        *runs("dropout", [1, 2]),
        *runs("mgs", [0, 0, 0], label_noise=0.3),
        *runs("elr", [-1, -1, -4], label_noise=0.3),
        *runs("elr", [1, 1, 1], label_noise=0.2),  # where there is no MGS
    ]
    found = compare.table(records)
    leads = {(r["label_noise"], r["method"]): r for r in found.to_dict("records")}
    assert leads[0.5, "elr"]["ahead"] == pytest.approx(3)
    assert leads[0.5, "elr"]["ahead_low"] == 1 and leads[0.5, "elr"]["ahead_high"] == 6
    known = {key for key, row in leads.items() if not np.isnan(row["ahead"])}
    assert known == {(0.5, "elr"), (0.3, "elr")}
    lines = [line["ahead of MGS (95 %)"] for line in compare.words(found)]
    assert "+3.0 (+1.0 to +6.0)" in lines and "-2.0 (-4.0 to -1.0)" in lines
    assert lines.count("") == 4
    of_error = [*runs("mgs", [0] * 3, "regression"), *runs("sam", [1, 2, 3], "regression")]
    assert compare.table(of_error)["ahead"].tolist()[-1] == pytest.approx(-2)
    few = compare.words(compare.table([*runs("mgs", [0, 0]), *runs("elr", [1, 1])]))
    assert not any("ahead" in heading for line in few for heading in line)


def test_values_are_missing_in_training_and_test_samples_and_old_records_miss_none(
    small_digits, tmp_path, monkeypatch
):
    given = {"methods": ("unregularised",), "runs": 1, "epochs": 1}
    (plain,) = compare.plan(data=small_digits, **given)
    assert "missing" not in plain
    seen = []
    train = compare.fitting.train
    monkeypatch.setattr(
        compare.fitting, "train", lambda data, *a, **o: seen.append(data) or train(data, *a, **o)
    )
    done(small_digits, tmp_path / "out", **given)
    found = done(small_digits, tmp_path / "out", missing=0.5, **given)
    assert found["missing"].tolist() == [0, 0.5]
    assert [line["missing"] for line in compare.words(found)] == ["0.0", "0.5"]
    whole, holed = seen
    for x, before in ((holed.x_train, whole.x_train), (holed.x_test, whole.x_test)):
        assert 0.4 < np.mean(x[before > 0] == 0) < 0.6
        assert (x[x > 0] == before[x > 0]).all()
    np.testing.assert_array_equal(holed.y_train, whole.y_train)
    with pytest.raises(ValueError, match="`missing` must be a share.*Received: missing=1.5"):
        compare.plan(data=small_digits, missing=1.5)


def test_a_comparison_with_rivals_is_done_and_goes_on(small_digits, tmp_path):
    given = {"methods": ("elr", "co_teaching"), "runs": 1, "epochs": 2, "noise": "pair"}
    first = done(small_digits, tmp_path / "out", **given)
    assert first["method"].tolist() == ["elr", "co_teaching"]
    before = {path: path.read_bytes() for path in (tmp_path / "out" / "runs").iterdir()}
    next(iter(before)).unlink()
    again = done(small_digits, tmp_path / "out", **given)
    pd.testing.assert_series_equal(first["final"], again["final"])
    assert {path: path.read_bytes() for path in list(before)[1:]} == dict(list(before.items())[1:])


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


def test_kinds_of_noise_have_rows_of_their_own_and_old_records_are_uniform(small_digits, tmp_path):
    plain = compare.plan(data=small_digits, methods=("mgs",), runs=1)
    assert "noise" not in plain[0]
    found = [
        done(
            small_digits, tmp_path / "out", methods=("unregularised",), runs=1, epochs=1, noise=kind
        )
        for kind in ("uniform", "pair")
    ][-1]
    assert found["noise"].tolist() == ["uniform", "pair"]
    assert found["relative_seconds"].tolist() == [1, 1]
    assert [line["noise"] for line in compare.words(found)] == ["uniform", "pair"]


def test_a_kind_of_noise_is_refused_where_targets_are_numbers(tmp_path):
    path = tmp_path / "points.npz"
    np.savez(path, x=np.zeros((40, 8, 8), "uint8"), y=np.ones((40, 2), "float32"))
    with pytest.raises(ValueError, match="Received: noise='pair'"):
        compare.plan(data=path, label_noise=1.0, noise="pair")
    with pytest.raises(ValueError, match="Received: noise='other'"):
        compare.plan(data=path, noise="other")


@pytest.fixture
def table(tmp_path):
    """A column that is the sum of two others, and a word that is its sign."""
    x = np.random.default_rng(0).normal(size=(60, 3))
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    frame["sum"] = 1000 + 100 * (x[:, 0] + x[:, 1])
    frame["sign"] = np.where(frame["sum"] > 1000, "up", "down")
    frame.to_csv(tmp_path / "table.csv", index=False)
    frame.drop(columns="sum").to_csv(tmp_path / "signs.csv", index=False)
    frame.drop(columns="sign").to_csv(tmp_path / "sums.csv", index=False)
    return tmp_path


TWO = {"methods": ("unregularised", "mgs"), "runs": 1}


def test_a_table_is_learnt_and_its_error_is_in_variances_of_the_target(table):
    given = {"target": "sum", "label_noise": 0.1, "epochs": 20, **TWO}
    result = done(table / "sums.csv", table / "out", **given)
    assert result["network"].tolist() == ["fcn"] * 2 and set(result["kind"]) == {"table"}
    assert result["best"].between(0, 0.3).all()  # the mean alone has 1, whatever the unit
    assert all(len(line["final"].partition(".")[2]) == 3 for line in compare.words(result))
    records = list(Store(table / "out").records())
    assert list(compare.files(records)) == ["curves.csv", "compare.png"]
    settings, curves = record("mgs", 0)  # of images with classes
    made = compare.files([*records, (settings, curves.assign(mgs_singular=0.0))])
    assert list(made) == ["curves.csv", "compare-accuracy.png", "compare-relative.png"]
    assert "variances" in made["compare-relative.png"].axes[0].get_ylabel()


def test_a_series_is_learnt_by_a_network_of_gated_units(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = rng.normal(0, 0.1, (60, 4, 2)) + np.where(y, 1, -1)[:, None, None] * [1, 10]
    np.savez(tmp_path / "series.npz", x=x, y=y)
    result = done(tmp_path / "series.npz", tmp_path / "out", label_noise=0.0, epochs=10, **TWO)
    assert result["network"].tolist() == ["gru"] * 2 and set(result["kind"]) == {"series"}
    assert (result["best"] == 100).all()


def test_a_network_of_ones_own_is_learnt_by_the_methods_that_leave_it_as_it_is(table):
    layers = keras.layers.Dense(8, "relu"), keras.layers.Dense(2, "softmax")
    keras.Sequential([keras.Input((3,)), *layers]).save(table / "my net.keras")
    given = {"network": table / "my net.keras", "target": "sign", "label_noise": 0.0, "runs": 1}
    with pytest.warns(UserWarning, match="weight_decay and dropout would build other layers"):
        result = done(table / "signs.csv", table / "out", epochs=40, **given)
    assert result["method"].tolist() == ["unregularised", "loss_gradient", "mgs"]
    assert (result["best"] > 80).all()
    with pytest.raises(ValueError, match="leave the network as it is: dropout .*Received: methods"):
        compare.plan(table / "signs.csv", methods=("mgs", "dropout"), **given)
    (run,) = compare.plan(table / "signs.csv", methods=("mgs",), **given)
    (table / "my net.keras").write_bytes((table / "my net.keras").read_bytes() + b" ")
    (other,) = compare.plan(table / "signs.csv", methods=("mgs",), **given)
    assert {key for key in run if run[key] != other[key]} == {"network"}


def test_what_runs_are_decided_by_is_in_their_settings_and_those_of_images_are_as_before(table):
    given = {"target": "sum", "methods": ("mgs",), "runs": 1}
    (run,) = compare.plan(table / "sums.csv", **given)
    assert (run["target"], run["task"], run["kind"]) == ("sum", "regression", "table")
    (digits,) = compare.plan("digits", methods=("mgs",), runs=1)
    assert not {"target", "kind", "noise"} & set(digits) and digits["network"] == "lenet5"
    compare.check(run, record("mgs", 0)[1].assign(mgs_singular=0.0))
    with pytest.raises(ValueError, match="Received: kind='sound'"):
        compare.check({**run, "kind": "sound"}, record("mgs", 0)[1].assign(mgs_singular=0.0))
