"""What a release is made of: the source distribution, the wheel, and what is said of both."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

import keras_mgs

ROOT = Path(__file__).parents[1]
# Tests that are fast, and that read what lies outside of the package.
QUICK = (
    "tests/test_packaging.py",
    "tests/experiments/catalogue",
    "tests/experiments/reports/test_measured.py",
    "tests/test_notebooks.py",
    "-k",
    "not test_a_notebook_runs",
)


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def files(folder):
    """The paths of all files in a folder, but for what setuptools writes into it."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kept = {path.as_posix() for path in paths if not path.parts[0].endswith(".egg-info")}
    return kept - {"PKG-INFO", "setup.cfg"}


def run(*command, **options):
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_citation_is_of_this_version():
    found = re.findall(r"^version: (.+)$", read("CITATION.cff"), re.MULTILINE)
    assert found == [keras_mgs.__version__]


def test_the_changelog_begins_with_this_version_or_with_what_is_unreleased():
    first, *others = re.findall(r"^## \[(.+?)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert first in ("Unreleased", keras_mgs.__version__)
    assert len({first, *others}) == 1 + len(others)


def test_every_python_that_is_named_is_tested():
    python = r"Programming Language :: Python :: (3\.\d+)"
    named = re.findall(python, read("pyproject.toml"))
    (matrix,) = re.findall(r"^ +python: \[(.+)\]$", read(".github/workflows/tests.yml"), re.M)
    assert named == re.findall(r"3\.\d+", matrix)
    (oldest,) = re.findall(r'^requires-python = ">=(.+)"$', read("pyproject.toml"), re.M)
    assert named[0] == oldest


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(files of the repository, unpacked source distribution, wheel), built in a copy."""
    folder = tmp_path_factory.mktemp("release")
    ignored = (line.rstrip("/") for line in read(".gitignore").split())
    ignore = shutil.ignore_patterns(".git", *ignored)
    shutil.copytree(ROOT, tree := folder / "tree", ignore=ignore)
    repository = files(tree)
    run("-m", "build", "--no-isolation", "--outdir", str(folder), cwd=tree)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return repository, folder / sdist.name.removesuffix(".tar.gz"), wheel


@pytest.mark.slow
def test_the_source_distribution_is_the_repository(built):
    repository, unpacked, _ = built
    assert files(unpacked) == repository
    assert os.access(unpacked / ".ci" / "run", os.X_OK)


@pytest.mark.slow
def test_the_wheel_is_the_package_alone(built):
    repository, _, wheel = built
    package = {name for name in repository if name.startswith("keras_mgs/")}
    assert "keras_mgs/py.typed" in package
    assert any(name.endswith(".csv") for name in package)
    info = f"keras_mgs-{keras_mgs.__version__}.dist-info/"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = message_from_string(archive.read(info + "METADATA").decode())
    assert {name for name in names if not name.startswith(info)} == package
    assert info + "licenses/LICENSE" in names
    assert metadata["Version"] == keras_mgs.__version__
    assert metadata.get_payload().strip() == read("README.md").strip()


@pytest.mark.slow
def test_the_tests_of_the_source_distribution_run_in_it(built):
    _, unpacked, _ = built
    options = {"cwd": unpacked, "env": os.environ | {"PYTHONPATH": str(unpacked)}}
    code = "from importlib.util import find_spec; print(find_spec('keras_mgs').origin)"
    assert Path(run("-c", code, **options).strip()) == unpacked / "keras_mgs" / "__init__.py"
    assert " passed" in run("-m", "pytest", "-q", "-n", "0", *QUICK, **options)
