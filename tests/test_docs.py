"""Every example of the README and of the documentation runs, and every link leads somewhere."""

import re
from pathlib import Path

import keras
import matplotlib
import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = {p.relative_to(ROOT).as_posix(): p for p in (README, *sorted(ROOT.glob("docs/**/*.md")))}
CODE = re.compile(r"```.*?```", flags=re.DOTALL)
EXAMPLE = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", flags=re.DOTALL)
# Code and what it prints, if the page says so; an example that two pages have runs once.
EXAMPLES = {
    code: (f"{name}-{number}", printed)
    for name, path in PAGES.items()
    for number, (code, printed) in enumerate(EXAMPLE.findall(path.read_text()))
}
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")

matplotlib.use("agg")  # pictures of examples are not to be seen

every_example = pytest.mark.parametrize(
    ("code", "printed"),
    [(code, printed) for code, (_, printed) in EXAMPLES.items()],
    ids=[name for name, _ in EXAMPLES.values()],
)
every_page = pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)


@every_example
def test_an_example_runs_and_prints_what_the_page_says(
    code, printed, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)  # some write files
    keras.utils.clear_session()  # names of layers count from 1
    exec(code, {"__name__": "__main__"})
    if not printed:
        return
    found = capsys.readouterr().out
    assert NUMBER.sub("#", found).split() == NUMBER.sub("#", printed).split()
    # A training rounds otherwise on another kind of machine.
    tolerance = 0.1 if ".fit(" in code else 0
    assert _numbers(found) == pytest.approx(_numbers(printed), rel=tolerance)


def test_the_readme_has_an_example_in_which_mgs_is_ahead():
    (_, printed), *_ = EXAMPLE.findall(README.read_text())
    before, after = _numbers(printed)
    assert after > before + 10


def test_the_readme_is_short():
    """At most 1000 words outside of code and tables."""
    text = re.sub(r"^\|.*$", "", CODE.sub("", README.read_text()), flags=re.MULTILINE)
    assert len(text.split()) <= 1000


@pytest.mark.parametrize("heading", ["Run it", "Test it"])
def test_the_readme_has_a_command_below(heading):
    section = re.search(rf"^## {heading}\n(.*?)(?=^## )", README.read_text(), re.DOTALL | re.M)
    assert re.search(r"^```bash\n.+\n```", section[1], flags=re.M)


@every_page
def test_links_lead_somewhere(path):
    text = CODE.sub("", path.read_text())
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text):
        file = path.parent / target if target else path
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), f"{target}#{anchor}"


def _numbers(text):
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def _anchors(path):
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", path.read_text()), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
