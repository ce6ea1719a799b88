import numpy as np
import pandas as pd
import pytest

from keras_mgs.experiments.reports import tables

PAPER = tables.published("mnist")
CELL = {"data": "d", "corruption": None, "network": "lenet5", "method": "mgs", "strength": "auto"}
CELL |= {"training_size": 3000, "label_noise": 0.6, "epochs": 7, "batch_size": 32}
CELL |= {"learning_rate": 0.1}

KERNEL = {"mgs_trace": 100.0, "mgs_log_det": -5.0, "mgs_singular": 0.0}
NAMES = ("label noise", "method", "runs", "final (best)", "the paper's", "ours is")


def records(test, **changed):
    """A run for each list of test accuracies."""
    runs = [pd.DataFrame({"epoch": range(len(t)), "test": t}).assign(**KERNEL) for t in test]
    return [({**CELL, **changed, "seed": seed}, run) for seed, run in enumerate(runs)]


def test_a_cell_is_the_mean_of_the_last_five_then_over_runs():
    curves = [[90.0, 0, 1, 2, 3, 4, 5], [0.0, 60, 11, 12, 13, 14, 15]]
    (row,) = tables.table(records(curves), PAPER).to_dict("records")
    assert row["runs"] == 2 and row["final"] == (3 + 13) / 2
    assert row["std"] == pytest.approx(np.std([3, 13], ddof=1))
    assert row["best"] == 45  # of the mean curve, not the mean of 90 and 60
    assert (row["paper_final"], row["paper_std"], row["paper_best"]) == (88.4, 1.4, 89.1)
    (row,) = tables.table(records(curves), lowest=True).to_dict("records")
    assert row["best"] == 6 and not any("paper" in key for key in row)


@pytest.mark.parametrize(
    "final, words",
    [(89.9, "better"), (89.7, "within"), (87.1, "within"), (86.9, "worse")],
)
def test_a_cell_is_held_against_the_papers_standard_deviation(final, words):
    (row,) = tables.words(tables.table(records([[final]]), PAPER), NAMES)
    assert row["ours is"] == words
    assert row["final (best)"] == f"{final} ({final})" and row["the paper's"] == "88.4 ± 1.4 (89.1)"
    assert tuple(row) == NAMES and row["label noise"] == "60%" and row["runs"] == "1"


def test_a_cell_that_the_paper_has_not_is_shown_alone():
    found = tables.table(records([[50.0]], method="sam", strength=0.05), PAPER)
    (row,) = tables.words(found, NAMES)
    assert row["the paper's"] == row["ours is"] == "" and row["method"] == "SAM"


def test_cells_are_sorted_and_told_apart_by_every_setting():
    found = [
        *records([[1.0]], method="dropout", strength=0.5, label_noise=0.8),
        *records([[2.0]]),
        *records([[3.0]], strength=1e-5),
        *records([[4.0], [6.0]], method="unregularised", strength=None),
    ]
    table = tables.table(found)
    assert table["final"].tolist() == [5, 2, 3, 1]
    lines = tables.words(table, ("method", "final (best)"))
    assert [line["strength"] for line in lines] == ["", "auto", "1e-05", "0.5"]
    assert "epochs" not in lines[0]


def test_nothing_on_the_disk_is_an_empty_table():
    table = tables.table([], PAPER)
    assert len(table) == 0 and {"final", "paper_final", "against_paper"} <= set(table)
    assert tables.words(table, NAMES) == []


def test_the_papers_tables_are_there_in_full():
    sizes = PAPER.groupby("table").size().to_dict()
    assert sizes.pop("1") == sizes.pop("A.1") == 20
    assert sizes == {f"A.{i}": 13 * 11 - 4 for i in range(5, 14)}
    assert set(PAPER["label_noise"]) == {n / 10 for n in range(11)}
    by_method = PAPER[PAPER["training_size"] == 3000].set_index(
        ["network", "label_noise", "method"]
    )["paper_final"]
    assert by_method["lenet5", 0.8, "mgs"] == 74.5 and by_method["fcn", 0.6, "dropout"] == 55.6
    assert not PAPER.duplicated(["network", "training_size", "label_noise", "method"]).any()


def test_log_det_has_gaps_where_k_is_singular():
    (settings, run), other = records([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    run["mgs_singular"], run["mgs_log_det"] = [0.0, 4.0, 0.0], [1.0, -99.0, 3.0]
    found = tables.curves([(settings, run), other])
    assert found["mgs_log_det"].isna().tolist() == [False, True, *[False] * 4]
    assert found["run"].tolist() == [0, 0, 0, 1, 1, 1] and set(found["method"]) == {"mgs"}
    (row,) = tables.table([(settings, run), other]).to_dict("records")
    assert row["mgs_log_det"] == (2 - 5) / 2 and row["mgs_trace"] == 100
