"""What the pages say that was measured is what lies in the package."""

import re
import runpy
from pathlib import Path

import pandas as pd
import pytest

from keras_mgs.experiments.reports import tables

ROOT = Path(__file__).parents[3]
SCRIPT = runpy.run_path(str(ROOT / "docs/.site/measured.py"))
TEXTS = {path.name: path.read_text() for path in SCRIPT["PAGES"]}
RESULTS, ALL = TEXTS["results.md"], "\n".join(TEXTS.values())
FOLDER, TABLES, TABLE = (SCRIPT[name] for name in ("FOLDER", "NAMES", "TABLE"))
measured, experiment = SCRIPT["measured"], SCRIPT["experiment"]
KEY = ["network", "method", "label_noise"]

BESIDE_THE_PAPER = [name for name in TABLES if SCRIPT["beside_the_paper"](name)]
every_table = pytest.mark.parametrize("name", TABLES)
every_table_beside_the_paper = pytest.mark.parametrize("name", BESIDE_THE_PAPER)


@every_table
def test_a_table_names_the_commands_that_made_it(name):
    lines = (FOLDER / f"{name}.csv").read_text().splitlines()
    commands = re.findall("^#.*?(python -m .*)", "\n".join(lines), flags=re.M)
    assert commands and set(commands) <= set(re.findall("python -m [^`\n]*", ALL))
    for command in commands:
        assert re.match(r"python -m keras_mgs (?:reproduce )?(\S+)", command)[1] == experiment(name)


@every_table
def test_the_page_has_every_row_of_a_measured_table(name):
    found = measured(name)
    networks = [network for _, table, network in TABLE.findall(ALL) if table == name]
    assert networks == [""] or sorted(networks) == sorted(set(found["network"]))


@pytest.mark.parametrize("page", TEXTS)
def test_a_page_is_as_the_tables_make_it(page):
    assert SCRIPT["filled"](TEXTS[page]) == TEXTS[page]


def test_every_row_has_as_many_cells_as_its_heading():
    for heading, name, network in TABLE.findall(ALL):
        first, rule = heading.splitlines()[-2:]
        assert first.count("|") == rule.count("|")
        assert {len(row) for row in SCRIPT["rows"](name, network)} == {rule.count("|") - 1}


def zoo(*problems):
    """A measured table of the zoo, with the columns that the page's row and words need."""
    same = {"task": "classification", "data": "digits", "optimizer": "sgd", "batch_size": 32}
    same |= dict.fromkeys(("dropout", "generalised_cross_entropy", "early_stopping"), 80.0)
    return pd.DataFrame([{**same, **problem} for problem in problems])


def test_the_zoo_is_told_in_words():
    assert [name for _, name in SCRIPT["WORDS"].findall(RESULTS)] == ["zoo"]
    noisy = {"label_noise": 0.5, "difference": 20.0}
    found = zoo(
        {"network": "fcn", "half": "development", "gap": 0.9, **noisy},
        {"network": "gru", "half": "held-out", "gap": 1.1, **noisy},
        {"network": "resnet", "half": "held-out", "gap": 0.3, "batch_size": 128, **noisy},
        {"network": "fcn", "half": "held-out", "label_noise": 0.0, "difference": -0.26},
        {"network": "gru", "half": "held-out", "label_noise": 0.0, "difference": 1.0},
    )
    assert SCRIPT["_gaps"](found) == (
        "The gap is 0.77 in the mean of the 3 noisy problems (development 0.90, held-out 0.70), at "
        "least 0.90 in 2 of them; the others have 0.30 (small ResNet, batch 128, 50 %). On clean "
        "labels MGS differs from unregularised by −0.3 points (6 × 300, clean) and +1.0 points "
        "(GRU, clean)."
    )


def test_a_row_of_the_zoo_has_the_score_of_each_seed_and_what_was_trained():
    scores = {"half": "held-out", "mgs": 91.0, "unregularised_by_seed": "56.41 53.85"}
    scores |= {"label_noise": 0.5, "difference": 35.9, "mgs_by_seed": 91.04, "best_fixed": 90.0}
    both = zoo(
        {"network": "fcn", "gap": 1.0, **scores},
        {"network": "gru", "gap": None, **scores, "mgs": None},
    )
    first = ["6 × 300, 50 %", "held-out", "SGD", "56.4 / 53.9", "91.0"]
    assert SCRIPT["_zoo"](both) == [[*first, "90.0", "80.0", "80.0", "80.0", "1.00"]]
    assert SCRIPT["_zoo"](both.assign(best_fixed=None)) == [first]


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
