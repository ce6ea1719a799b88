"""The tests with the oldest and with the newest TensorFlow and Keras: `nox` runs both.

`pip install ".[versions]"` installs it. `nox -s "tests(oldest)"` runs one of the two,
`nox -- tests/model` both, with arguments to pytest.
"""

import re
from pathlib import Path

import nox

FILE = Path(__file__).with_name("pyproject.toml")


def requirements():
    """What the package itself needs."""
    return nox.project.load_toml(FILE)["project"]["dependencies"]


def oldest():
    """The lower bounds of these, at their last bug fixes: tensorflow==2.18.* for >=2.18."""
    bounds = [re.fullmatch(r"([\w-]+)>=([\d.]+)", line) for line in requirements()]
    return [f"{name}=={version}.*" for name, version in (bound.groups() for bound in bounds)]


@nox.session
@nox.parametrize("pair", [nox.param(pair, id=pair) for pair in ("oldest", "newest")])
def tests(session, pair):
    """Run the default test command in a new virtual environment."""
    session.install(".[test]", *(oldest() if pair == "oldest" else requirements()))
    session.run("python", "-m", "pip", "freeze")
    session.run("pytest", *session.posargs)
