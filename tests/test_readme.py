"""Every example in the README runs."""

import re
from pathlib import Path

import matplotlib
import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


matplotlib.use("agg")  # pictures of examples are not to be seen


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_readme_runs(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # KerasTuner writes its trials
    exec(EXAMPLES[number], {"__name__": "__main__"})


def test_the_readme_has_examples():
    assert len(EXAMPLES) >= 4
