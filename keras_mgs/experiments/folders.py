"""Folders and files of results, which are there complete or not at all."""

import contextlib
import os
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


def write(path, data):
    """Write a file that takes its place when all of it is on the disk, whatever happens before.

    Args:
        path: of the file; one process writes it at a time.
        data: bytes.

    Raises:
        OSError: no space left, or no permission; what was there before is there still.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            f"Expected to be able to write {str(path)!r}. Received: {error.strerror or error}. "
            "Make room for it and start the same command again: what is finished is kept."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)  # gone already where all went well
