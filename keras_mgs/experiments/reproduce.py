"""Experiments, which are all planned, run and reported in one way."""

import contextlib
import functools
import io
import os
import warnings

import joblib

from keras_mgs import checks, storage
from keras_mgs.experiments.catalogue.experiment import PRESETS, declared
from keras_mgs.experiments.catalogue.presets import EXPERIMENTS
from keras_mgs.experiments.data import datasets
from keras_mgs.experiments.runs.grid import grid
from keras_mgs.experiments.runs.store import READABLE, Store
from keras_mgs.experiments.training import own


def plan(experiment, preset, **given):
    """The settings of all runs: those of a preset, but for what is given.

    Raises:
        ValueError: there is no such preset, and as the experiment's `plan`.
    """
    checks.choice("preset", preset, PRESETS)
    chosen = EXPERIMENTS[experiment]
    return chosen.module.plan(**{**chosen.presets[preset], **given})


def sources(experiment, given):
    """What the runs of an experiment need besides their settings: keywords of `reproduce`.

    That is, as `plan` was given it, its data, and the network if it is a file.
    """
    field, *_ = declared(EXPERIMENTS[experiment].settings).get("data", (None,))
    network = given.get("network")
    return {
        "data": given.get("data", field.default) if field else None,
        "network": network if own.is_file(network) else None,
    }


def size(run):
    """How long a run takes, in a unit of its own."""
    return run["training_size"] * run["epochs"]


def line(run, found):
    """What a run was, and what came out."""
    told = [run[key] for key in (*READABLE, "strength") if run.get(key) is not None]
    words = [str(value).replace("_", " ") for value in told]
    score = found["test"].iloc[-1]
    return f"{', '.join(words)}: {score:.3g}" if score < 10 else f"{', '.join(words)}: {score:.1f}"


def reproduce(
    store, runs, *, data=None, network=None, jobs=1, threads=1, cluster=None, report=lambda *_: None
):
    """Do those of the runs that have no record in `store` yet, as `grid` does.

    Args:
        store: a `Store` of one of `EXPERIMENTS`.
        runs: some of the settings that its `plan` has made.
        data, network: as of `sources`.
        jobs, threads, report: as for `grid`.
        cluster: the address of a Dask scheduler, to which the runs go instead; or None.
    """
    train = EXPERIMENTS[store.experiment].module.train
    if data is not None:
        train = functools.partial(train, data=_absolute(data))
    if network is not None:
        train = functools.partial(train, network=os.path.abspath(network))
    with _dask(cluster) if cluster else contextlib.nullcontext():
        grid(
            runs,
            train,
            store=store,
            jobs=None if cluster else jobs,
            threads=threads,
            report=report,
        )


def _absolute(data):
    """Data as a worker finds them that runs in another folder."""
    if isinstance(data, dict):
        return {name: _absolute(path) for name, path in data.items()}
    return data if data in datasets.NAMES else os.path.abspath(data)


@contextlib.contextmanager
def _dask(address):
    """Let joblib send its jobs to a Dask scheduler."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            f"`--cluster` needs Dask. Received: {error}. Install it: pip install distributed"
        ) from error
    with Client(address), joblib.parallel_config(backend="dask"):
        yield


def store(folder, experiment=None):
    """The `Store` of one of `EXPERIMENTS`, whose records are checked to be those of its runs.

    Raises:
        FileExistsError, FileNotFoundError, ValueError: as `Store`, or it is none of `EXPERIMENTS`.
    """
    found = Store(folder, experiment)
    checks.choice("experiment", found.experiment, tuple(EXPERIMENTS))
    found.check = EXPERIMENTS[found.experiment].module.check
    return found


def report(folder, warn=warnings.warn):
    """Write the table and the other files of what is on the disk of an experiment, finished or not.

    Args:
        folder: of a `Store`.
        warn: is told of damaged records.

    Returns:
        The title of the table, what people read of it, a dict of texts per row, and the names of
        the files.

    Raises:
        FileNotFoundError, ValueError: there are no records, or not of one of `EXPERIMENTS`.
    """
    found = store(folder)
    module = EXPERIMENTS[found.experiment].module
    records = list(found.records(warn))
    table = module.table(records)
    csv = table.to_csv(index=False).encode(errors="backslashreplace")
    storage.write(found.folder / "table.csv", csv)
    files = module.files(records) if records else {}
    for name, content in files.items():
        if not storage.is_word(name, most=255):
            raise ValueError(f"Expected words as names of files. Received: {name!r}.")
        storage.write(found.folder / name, content if isinstance(content, bytes) else _png(content))
    return module.TITLE, module.words(table), ["table.csv", *files]


def _png(figure):
    picture = io.BytesIO()
    figure.savefig(picture, dpi=150)
    return picture.getvalue()
