"""The records of an experiment: one file for each finished run, in one folder."""

import contextlib
import hashlib
import json
import os
import warnings
from pathlib import Path

import filelock
import pandas as pd

from keras_mgs import storage

VERSION = 1  # of what settings mean: runs of different versions are not to be mixed
# What people know a run by, of its settings.
READABLE = ("problem", "network", "method", "training_size", "label_noise", "seed")
LARGEST = 2**26  # bytes of a record; one of 100 epochs has 20,000
_OTHER = "it is a copy, or the record of another run"


class Damaged(ValueError):
    """A record that is not what was written."""


class Store:
    """A folder that holds the records of one experiment, and is shared by many processes.

    A record, runs/NAME.json, has the run's settings, its curves by column, the attributes of the
    curves where there are any, and the checksum of all. NAME is made of the settings. Whoever has
    made the folder: what is read is checked, and nothing is written outside of it.

    Args:
        folder: one with records of this experiment, an empty one, or one that does not exist yet.
        experiment: its name; None: whatever the folder holds.
        check: of settings and curves that were read: raises a ValueError or TypeError where they
            are not those of a run.

    Raises:
        FileExistsError: the folder holds another experiment, other settings or something else.
        FileNotFoundError: there are no records, and no experiment is named.
    """

    def __init__(self, folder, experiment=None, check=lambda settings, curves: None):
        self.folder = Path(folder)
        self.check = check
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
            return dict(storage.read_json(self._marker, 1000))
        except (OSError, ValueError, TypeError):  # none, not JSON, or not an object
            return {}

    def _check(self):
        own, held = {"experiment": self.experiment, "version": VERSION}, self._held()
        if os.path.lexists(self._marker):
            if own != held:
                raise FileExistsError(
                    f"Expected `folder` to hold records of {own}. Received: "
                    f"folder={str(self.folder)!r}, which holds {held}. Choose another."
                )
        elif not self.folder.is_dir() or any(map(_alien, self.folder.iterdir())):
            storage.check_new("folder", self.folder)
        for place in (self.folder / "locks", self.folder / "runs"):
            if place.is_symlink():
                raise FileExistsError(
                    f"Expected {str(place)!r} to be a folder. Received: a link to "
                    f"{os.readlink(place)!r}, where nothing shall be written. Remove it."
                )

    def create(self):
        """Make the folder, unless it is there."""
        (self.folder / "locks").mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self.folder / "locks" / "experiment.lock"):
            self._check()  # again: another process may have made it
            if not self._marker.exists():
                own = {"experiment": self.experiment, "version": VERSION}
                storage.write(self._marker, json.dumps(own).encode())
        (self.folder / "runs").mkdir(exist_ok=True)

    def path(self, settings):
        """Where the record of a run with these settings, a dict for JSON, has its place.

        Raises:
            ValueError: a word of its name would be none, as those of other people's records may.
        """
        words = [str(settings[key]) for key in READABLE if key in settings]
        for text in words:
            if not storage.is_word(text):
                raise ValueError(
                    f"Expected settings to be words or numbers. Received: {text[:64]!r}."
                )
        return self.folder / "runs" / f"{'-'.join([*words, _digest(settings)[:10]])}.json"

    def write(self, settings, curves):
        """Record a finished run: its settings and its curves, a `pandas.DataFrame`."""
        record = {"settings": settings, "curves": curves.to_dict("list")}
        if curves.attrs:
            record["attrs"] = curves.attrs
        record["sha256"] = _digest(record)
        storage.write(self.path(settings), json.dumps(record).encode())

    def read(self, settings):
        """The curves of a run, bit for bit; None if it has no record.

        Raises:
            Damaged: its record is not what was written.
        """
        path = self.path(settings)
        if not os.path.lexists(path):
            return None
        found, curves = self._read(path)
        if _text(found) != _text(settings):
            raise _damaged(path, ValueError(_OTHER))
        return curves

    def records(self, warn=warnings.warn):
        """Settings and curves of all finished runs; `warn` is told of damaged records."""
        for path in sorted((self.folder / "runs").glob("*.json")):
            try:
                yield self._read(path)
            except Damaged as error:
                warn(str(error))

    def _read(self, path):
        """Settings and curves of a record."""
        try:
            record = storage.read_json(path, LARGEST)
            digest = record.pop("sha256")
            if digest != _digest(record):
                raise ValueError("its checksum is that of something else")
            settings, columns = record["settings"], record["curves"]
            if path.name != self.path(settings).name:
                raise ValueError(_OTHER)
            if not all(isinstance(column, list) for column in columns.values()):
                raise TypeError("its curves are no lists")
            curves = pd.DataFrame(columns)
            curves.attrs = dict(record.get("attrs", {}))
            self.check(settings, curves)
        # TypeError, AttributeError, KeyError, OverflowError: JSON, but not of a record.
        except (
            OSError,
            ValueError,
            TypeError,
            AttributeError,
            KeyError,
            OverflowError,
            RecursionError,
        ) as error:
            raise _damaged(path, error) from error
        return settings, curves

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


def _alien(path):
    return path.name != "locks" and not path.name.startswith(storage.TEMPORARY)


def _damaged(path, error):
    why = (error.strerror if isinstance(error, OSError) else None) or error
    return Damaged(f"The record {path} is damaged ({why!s:.300}): its run counts as not finished.")
