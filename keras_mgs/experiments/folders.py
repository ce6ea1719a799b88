"""Folders of results, which are there complete or not at all."""

import contextlib
import tempfile
from pathlib import Path


def check_new(name, folder):
    """That `folder`, an argument called `name`, does not exist yet, or is empty."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f"Expected `{name}` to be a folder that is new or empty. "
            f"Received: {name}={str(folder)!r}, which exists. Choose another, or remove it."
        )


@contextlib.contextmanager
def whole(folder):
    """A folder to write into, which takes the place of `folder` when all has been written."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
        done = Path(place) / "done"
        done.mkdir()
        yield done
        done.replace(folder)
