"""What the README says that was measured is what lies in the package."""

import re
from pathlib import Path

import pandas as pd
import pytest

from keras_mgs.experiments import report
from keras_mgs.experiments.methods import METHODS
from keras_mgs.experiments.reproduce import EXPERIMENTS

README = (Path(__file__).parents[2] / "README.md").read_text()
FOLDER = Path(report.__file__).with_name("measured")


def measured(name):
    return pd.read_csv(FOLDER / f"{name}.csv", comment="#")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.csv")), ids=lambda path: path.stem)
def test_a_table_names_the_command_that_made_it(path):
    command = path.read_text().splitlines()[0]
    name = re.match(r"# python -m keras_mgs reproduce (\S+) ", command)[1]
    assert name == path.stem and name in EXPERIMENTS


def test_the_readme_s_table_1_is_the_measured_one():
    found = measured("mnist")
    assert set(found["label_noise"]) == {0.0, 0.3, 0.6, 0.8} and (found["runs"] >= 2).all()
    for method, rows in found.groupby("method"):
        cells = [
            f"{row.final:.1f} ± {row.std:.1f}{'†' * (row.runs < 3)} / "
            f"{row.paper_final:.1f} ± {row.paper_std:.1f}"
            for row in rows.sort_values("label_noise").itertuples()
        ]
        line = f"| {METHODS[method].label} | {' | '.join(cells)} |"
        assert line in README.replace("**", "")


def test_the_paper_s_side_of_a_measured_table_is_the_paper_s():
    found = measured("mnist")
    key = ["network", "method", "training_size", "label_noise"]
    both = found.merge(report.published("mnist"), on=key, suffixes=("", "_again"))
    assert len(both) == len(found)
    for name in ("paper_final", "paper_std", "paper_best"):
        pd.testing.assert_series_equal(both[name], both[f"{name}_again"], check_names=False)
