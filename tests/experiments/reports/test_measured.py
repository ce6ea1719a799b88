"""What docs/results.md says that was measured is what lies in the package."""

import re
import runpy
from pathlib import Path

import pandas as pd
import pytest

from keras_mgs.experiments.reports import tables

ROOT = Path(__file__).parents[3]
RESULTS = (ROOT / "docs/results.md").read_text()
SCRIPT = runpy.run_path(str(ROOT / "docs/.site/measured.py"))
FOLDER, TABLES, TABLE = (SCRIPT[name] for name in ("FOLDER", "NAMES", "TABLE"))
measured, experiment = SCRIPT["measured"], SCRIPT["experiment"]
KEY = ["network", "method", "label_noise"]

BESIDE_THE_PAPER = [name for name in TABLES if SCRIPT["beside_the_paper"](name)]
every_table = pytest.mark.parametrize("name", TABLES)
every_table_beside_the_paper = pytest.mark.parametrize("name", BESIDE_THE_PAPER)


@every_table
def test_a_table_names_the_commands_that_made_it(name):
    lines = (FOLDER / f"{name}.csv").read_text().splitlines()
    commands = [line.removeprefix("# ") for line in lines if line.startswith("#")]
    assert commands and set(commands) <= set(re.findall("python -m .*", RESULTS))
    for command in commands:
        assert re.match(r"python -m keras_mgs reproduce (\S+)", command)[1] == experiment(name)


@every_table
def test_the_page_has_every_row_of_a_measured_table(name):
    found = measured(name)
    networks = [network for _, table, network in TABLE.findall(RESULTS) if table == name]
    assert networks == [""] or sorted(networks) == sorted(set(found["network"]))


def test_the_page_is_as_the_tables_make_it():
    assert SCRIPT["filled"](RESULTS) == RESULTS


@every_table_beside_the_paper
def test_the_paper_s_side_of_a_measured_table_is_the_paper_s(name):
    found, paper = measured(name), tables.published(name)
    key = [column for column in (*KEY, "training_size") if column in paper]
    both = found.merge(paper, on=key, suffixes=("", "_again"))
    assert len(both) == len(found)
    for column in ("paper_final", "paper_std", "paper_best"):
        pd.testing.assert_series_equal(both[column], both[f"{column}_again"], check_names=False)


def test_the_page_counts_rightly_how_ours_compares_with_the_paper():
    for network, some in measured("mnist").groupby("network"):
        counts = some["against_paper"].value_counts()
        words = ", ".join(f"{counts.get(word, 0)} {word}" for word in ("better", "within", "worse"))
        assert f"{network}: {words}" in RESULTS
