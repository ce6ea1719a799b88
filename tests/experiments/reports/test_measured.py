"""What docs/results.md says that was measured is what lies in the package."""

import re
from pathlib import Path

import pandas as pd
import pytest

from keras_mgs.experiments.catalogue.presets import EXPERIMENTS
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.training.methods import METHODS

RESULTS = (Path(__file__).parents[3] / "docs/results.md").read_text().replace("**", "")
FOLDER = Path(tables.__file__).with_name("measured")
TABLES = sorted(path.stem for path in FOLDER.glob("*.csv"))
KEY = ["network", "method", "label_noise"]


def measured(name):
    return pd.read_csv(FOLDER / f"{name}.csv", comment="#")


def experiment(name):
    """That a table is of; other settings of one have a table of their own, which explains it."""
    return name.removesuffix("-more")


BESIDE_THE_PAPER = [n for n in TABLES if n == experiment(n) and "paper_final" in measured(n)]
every_table = pytest.mark.parametrize("name", TABLES)
every_table_beside_the_paper = pytest.mark.parametrize("name", BESIDE_THE_PAPER)


def rows(name):
    """What the page has of a table: a text per row, made as `report` does or as in the paper."""
    found = measured(name)
    if name not in BESIDE_THE_PAPER:
        return [list(words.values()) for words in EXPERIMENTS[experiment(name)].module.words(found)]
    return [
        [METHODS[method].label, *(_cell(row, found["runs"].max()) for row in some.itertuples())]
        for (_, method), some in found.sort_values("label_noise").groupby(["network", "method"])
    ]


def _cell(row, runs):
    spread = "" if pd.isna(row.std) else f" ± {row.std:.1f}"
    fewer = "†" if row.runs < runs else ""
    return f"{row.final:.1f}{spread}{fewer} / {row.paper_final:.1f} ± {row.paper_std:.1f}"


@every_table
def test_a_table_names_the_commands_that_made_it(name):
    lines = (FOLDER / f"{name}.csv").read_text().splitlines()
    commands = [line.removeprefix("# ") for line in lines if line.startswith("#")]
    assert commands and set(commands) <= set(re.findall("python -m .*", RESULTS))
    for command in commands:
        assert re.match(r"python -m keras_mgs reproduce (\S+)", command)[1] == experiment(name)


@every_table
def test_the_page_has_every_row_of_a_measured_table(name):
    for row in rows(name):
        assert f"| {' | '.join(row)} |" in RESULTS


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
