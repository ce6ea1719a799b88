"""The records of an experiment: one file for each finished run, in one folder."""

import contextlib
import hashlib
import json
import warnings
from pathlib import Path

import filelock
import pandas as pd

from keras_mgs.experiments import folders

VERSION = 1  # of what settings mean: runs of different versions are not to be mixed
# What people know a run by, of its settings.
READABLE = ("problem", "network", "method", "training_size", "label_noise", "seed")


class Damaged(ValueError):
    """A record that is not what was written."""


class Store:
    """A folder that holds the records of one experiment, and is shared by many processes.

    A record, runs/NAME.json, has the run's settings, its curves by column, the attributes of the
    curves where there are any, and the checksum of all. NAME is made of the settings.

    Args:
        folder: one with records of this experiment, an empty one, or one that does not exist yet.
        experiment: its name; None: whatever the folder holds.

    Raises:
        FileExistsError: the folder holds another experiment, other settings or something else.
        FileNotFoundError: there are no records, and no experiment is named.
    """

    def __init__(self, folder, experiment=None):
        self.folder = Path(folder)
        if experiment is None and not self._marker.is_file():
            raise FileNotFoundError(
                "Expected `folder` to hold the records of an experiment. "
                f"Received: folder={str(folder)!r}, without experiment.json. Check the spelling."
            )
        self.experiment = experiment or self._held().get("experiment")
        self._check()

    @property
    def _marker(self):
        return self.folder / "experiment.json"

    def _held(self):
        """What the folder says that it holds."""
        try:
            return dict(json.loads(self._marker.read_bytes()))
        except (OSError, ValueError, TypeError):  # none, not JSON, or not an object
            return {}

    def _check(self):
        own, held = {"experiment": self.experiment, "version": VERSION}, self._held()
        if self._marker.exists():
            if own != held:
                raise FileExistsError(
                    f"Expected `folder` to hold records of {own}. Received: "
                    f"folder={str(self.folder)!r}, which holds {held}. Choose another."
                )
        elif not self.folder.is_dir() or {p.name for p in self.folder.iterdir()} - {"locks"}:
            folders.check_new("folder", self.folder)

    def create(self):
        """Make the folder, unless it is there."""
        (self.folder / "locks").mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self.folder / "locks" / "experiment.lock"):
            self._check()  # again: another process may have made it
            if not self._marker.exists():
                own = {"experiment": self.experiment, "version": VERSION}
                folders.write(self._marker, json.dumps(own).encode())
        (self.folder / "runs").mkdir(exist_ok=True)

    def path(self, settings):
        """Where the record of a run with these settings, a dict for JSON, has its place."""
        words = [str(settings[key]) for key in READABLE if key in settings]
        return self.folder / "runs" / f"{'-'.join([*words, _digest(settings)[:10]])}.json"

    def write(self, settings, curves):
        """Record a finished run: its settings and its curves, a `pandas.DataFrame`."""
        record = {"settings": settings, "curves": curves.to_dict("list")}
        if curves.attrs:
            record["attrs"] = curves.attrs
        record["sha256"] = _digest(record)
        folders.write(self.path(settings), json.dumps(record).encode())

    def read(self, settings):
        """The curves of a run, bit for bit; None if it has no record.

        Raises:
            Damaged: its record is not what was written.
        """
        path = self.path(settings)
        if not path.exists():
            return None
        found, curves = _read(path)
        if _text(found) != _text(settings):
            raise _damaged(path, "it is the record of another run")
        return curves

    def records(self, warn=warnings.warn):
        """Settings and curves of all finished runs; `warn` is told of damaged records."""
        for path in sorted((self.folder / "runs").glob("*.json")):
            try:
                yield _read(path)
            except Damaged as error:
                warn(str(error))

    @contextlib.contextmanager
    def lock(self, settings):
        """Whether this process may do the run now: no other one on this folder does it.

        The operating system frees the lock of a process that has died, however it did.
        """
        record = self.path(settings)
        path = self.folder / "locks" / f"{record.stem}.lock"
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            yield False
            return
        try:
            yield True
        finally:
            if record.exists():  # so whoever locks a new file of this name need not run it
                with contextlib.suppress(OSError):  # Windows keeps files that are open
                    path.unlink()
            lock.release()


def _text(value):
    return json.dumps(value, sort_keys=True)


def _digest(value):
    return hashlib.sha256(_text(value).encode()).hexdigest()


def _read(path):
    """Settings and curves of a record."""
    try:
        record = json.loads(path.read_bytes())
        digest = record.pop("sha256")
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise _damaged(path, "it is not whole") from error
    if digest != _digest(record):
        raise _damaged(path, "its checksum is that of something else")
    curves = pd.DataFrame(record["curves"])
    curves.attrs = record.get("attrs", {})
    return record["settings"], curves


def _damaged(path, why):
    return Damaged(f"The record {path} is damaged ({why}): its run counts as not finished.")
