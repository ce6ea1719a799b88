"""Every notebook runs from start to end, and what is committed of its outputs is fit to be."""

import re
import runpy
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SCRIPT = runpy.run_path(str(ROOT / "notebooks" / "execute.py"))
START = (ROOT / "docs/start.md").read_text()
# What takes the place of a notebook's parameters in the default run.
SHORT = {
    "01_quickstart": "epochs = 2",
    "02_watch_overfitting": "data, epochs, seeds = 'digits', 8, [0]",
    "03_two_circles": "epochs = 2",
    "04_noisy_labels": "data, epochs, seeds = 'digits', 1, [0]",
    "05_your_own_model": "epochs = 1",
    "06_tuning_alpha": "epochs, factors, trials = 1, [4], 1",
    "07_find_wrong_labels": "epochs = 2",
    "08_what_it_learnt_from": "epochs, seeds = 2, [0]",
}

FAST = ("01_quickstart", "05_your_own_model")  # the others take two and a half minutes
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_every_notebook_has_a_short_run():
    assert [path.stem for path in NOTEBOOKS] == list(SHORT)


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[] if p.stem in FAST else pytest.mark.slow) for p in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_a_notebook_runs(path):
    outputs = _outputs(SCRIPT["execute"](path, SHORT[path.stem]))
    assert any("image/png" in o.get("data", {}) for o in outputs)


@pytest.mark.slow
@every_notebook
def test_a_notebook_runs_at_full_length(path):
    assert _outputs(SCRIPT["execute"](path))


@every_notebook
def test_committed_outputs_are_of_one_whole_run(path):
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    assert any("image/png" in o.get("data", {}) for c in cells for o in c.outputs)


@every_notebook
def test_committed_outputs_are_small_and_tell_nothing_of_the_machine(path):
    assert path.stat().st_size < 1000 * SCRIPT["LIMIT"]
    notebook = nbformat.read(path, as_version=4)
    assert SCRIPT["clean"](nbformat.read(path, as_version=4)) == notebook
    text = "".join(str({k: v for k, v in o.items() if k != "data"}) for o in _outputs(notebook))
    text += "".join(str(o.data.get("text/plain")) for o in _outputs(notebook) if "data" in o)
    assert not re.search(r"/tmp/|/home/|/root/|0x[0-9a-f]{6}|20\d\d-\d\d-\d\d|\x1b", text)


@every_notebook
def test_the_documentation_opens_a_notebook_in_colab(path):
    assert f"(../notebooks/{path.name})" in START
    assert re.search(rf"\(https://colab\.research\.google\.com/github/\S+/{path.name}\)", START)


@every_notebook
def test_links_between_notebooks_lead_somewhere(path):
    text = "".join(c.source for c in nbformat.read(path, as_version=4).cells)
    assert {name for name in re.findall(r"\]\((\w+\.ipynb)\)", text)} <= {p.name for p in NOTEBOOKS}


def _outputs(notebook):
    return [o for cell in notebook.cells for o in cell.get("outputs", ())]
