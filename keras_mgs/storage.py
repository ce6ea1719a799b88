"""Folders and files of results: complete or not there, and whoever may have made what is read."""

import contextlib
import hashlib
import json
import math
import os
import re
import stat
import tempfile
from pathlib import Path

TEMPORARY = ".keras-mgs-"  # what names of unfinished folders begin with; a kill may leave them
_WORD = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_+.-]*")


def check_new(name, folder):
    """That `folder`, an argument called `name`, does not exist yet, or is empty."""
    folder = Path(folder)
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f"Expected `{name}` to be a folder that is new or empty. "
            f"Received: {name}={str(folder)!r}, which exists. Choose another, or remove it."
        )


@contextlib.contextmanager
def whole(folder):
    """A folder to write into, which takes the place of `folder` when all has been written."""
    folder = Path(os.path.realpath(folder))  # a link to an empty folder cannot be replaced by one
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=TEMPORARY) as place:
        done = Path(place) / "done"
        done.mkdir()
        yield done
        done.replace(folder)


def write(path, data):
    """Write a file that takes its place when all of it is on the disk, whatever happens before.

    A link at `path` is replaced, never followed.

    Args:
        path: of the file; one process writes it at a time.
        data: bytes.

    Raises:
        OSError: no space left, or no permission; what was there before is there still.
    """
    path = Path(path)
    try:
        # In a new folder of its own: a new file's permissions are the user's, unlike those of
        # `tempfile`, and nothing can stand at its name.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMPORARY) as place:
            temporary = Path(place) / "done"
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            f"Expected to be able to write {str(path)!r}. Received: {error.strerror or error}. "
            "Make room for it and start the same command again: what is finished is kept."
        ) from error


def read(path, most):
    """The bytes of a regular file, or of a link to one; neither waits nor reads without end.

    Args:
        path: of the file.
        most: how many bytes it may have.

    Raises:
        OSError: there is none, or something else (a folder, a pipe, a device).
        ValueError: it has more.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is no regular file")
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return data


def read_json(path, most):
    """What a file of JSON holds; arguments and errors as for `read`."""
    try:
        return json.loads(read(path, most))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def free_memory():
    """Bytes that are free, of the machine and at most of a container; infinity: unknown.

    Linux alone tells.
    """
    found = [math.inf]
    with contextlib.suppress(OSError, ValueError, KeyError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(dict(line.split(":") for line in lines)["MemAvailable"].split()[0]))
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # of versions 2 and 1
        with contextlib.suppress(OSError, ValueError):  # ValueError: "max", no limit
            found.append(int((Path("/sys/fs/cgroup") / limit).read_text()))
    return min(found)


def is_word(text, most=64):
    """Whether a text of at most `most` letters can be a file's name, which stays in its folder."""
    return len(text) <= most and bool(_WORD.fullmatch(text))


def word(value):
    """A value as a part of a file's name, different for different ones."""
    text = str(value)
    if is_word(text):
        return text
    digest = hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()
    return "_".join([*re.findall("[A-Za-z0-9]+", text), ""])[:32] + digest[:8]


def printable(text):
    """A text without what moves a terminal's cursor, or looks like something else."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
