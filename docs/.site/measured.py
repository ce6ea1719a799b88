"""Writes the measured tables into docs/results.md: `python docs/.site/measured.py`.

A table of the page stands below a comment that names its file in
`keras_mgs/experiments/reports/measured` and, where the page has a table for each, the network.
Its two first lines, the heading, are the page's; all others are written.
"""

import re
from pathlib import Path

import pandas as pd

from keras_mgs.experiments.catalogue.presets import EXPERIMENTS
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.training.methods import METHODS

PAGE = Path(__file__).parents[1] / "results.md"
FOLDER = Path(tables.__file__).with_name("measured")
NAMES = sorted(path.stem for path in FOLDER.glob("*.csv"))
TABLE = re.compile(r"(<!-- measured: (\S+) ?(\S*) -->\n\n(?:\|.*\n){2})(?:\|.*\n)*")


def measured(name):
    """A table of `FOLDER`."""
    return pd.read_csv(FOLDER / f"{name}.csv", comment="#")


def experiment(name):
    """That a table is of; other settings of one have a table of their own, which explains it."""
    return name.removesuffix("-more")


def beside_the_paper(name):
    """Whether the page has a row per method, with the paper's numbers in the same cells."""
    return name == experiment(name) and "paper_final" in measured(name)


def rows(name, network=""):
    """A table's rows on the page, made as `report` does or as in the paper."""
    found = measured(name)
    if network:
        found = found[found["network"] == network]
    if not beside_the_paper(name):
        return [list(words.values()) for words in EXPERIMENTS[experiment(name)].module.words(found)]
    methods = [method for method in METHODS if method in set(found["method"])]
    return [
        [METHODS[method].label, *(_cell(row, found["runs"].max()) for row in some.itertuples())]
        for method in methods
        for some in [found[found["method"] == method].sort_values("label_noise")]
    ]


def filled(text):
    """The page's text, with the rows that were measured."""
    return TABLE.sub(lambda match: match[1] + _lines(rows(match[2], match[3])), text)


def _cell(row, runs):
    spread = "" if pd.isna(row.std) else f" ± {row.std:.1f}"
    fewer = "†" if row.runs < runs else ""
    return f"{row.final:.1f}{spread}{fewer} / {row.paper_final:.1f} ± {row.paper_std:.1f}"


def _lines(rows):
    ours = METHODS["mgs"].label
    cells = [[f"**{cell}**" if cell == ours else cell for cell in row] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
