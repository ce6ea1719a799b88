"""Scenarios: every data set, network, method and noise of an experiment, and one run of them."""

import hashlib
import itertools
from pathlib import Path

import keras

from keras_mgs import checks, storage
from keras_mgs.experiments.catalogue.names import NOISES, POINTS
from keras_mgs.experiments.data import datasets, files
from keras_mgs.experiments.training import fitting, networks
from keras_mgs.experiments.training.methods import METHODS, check_task


def plan(task, chosen, *, training_sizes=None, label_noises=None):
    """The settings of every run, after a look at the data, whose smallest and largest part is read.

    The methods meet the same samples, label noise and first weights, which the seed alone decides:
    a run gives the numbers of `compare` with its settings.

    Args:
        task: "classification" or "regression": what the data must be for.
        chosen: a `settings.OnData`.
        training_sizes, label_noises: where they are not those of `chosen`.

    Returns:
        A list of dicts; run by run, so that all cells have been trained once before any is again.

    Raises:
        TypeError, ValueError: strengths that the methods cannot have, or data for another task.
        FileNotFoundError, ImportError: as `datasets.load`.
    """
    sizes = training_sizes or chosen.training_sizes
    noises = label_noises or chosen.label_noises
    read = _tuned(chosen.tuned) if chosen.tuned is not None else {}
    strengths = {
        network: check_methods(
            chosen.methods,
            _only(chosen.methods, read.get(network, {})) | (chosen.strengths or {}),
        )
        for network in chosen.networks
    }
    check_task(chosen.methods, task)
    epochs = chosen.epochs
    epochs = epochs if isinstance(epochs, dict) else dict.fromkeys(chosen.networks, epochs)
    for size, noise in ((min(sizes), min(noises)), (max(sizes), max(noises))):
        samples = datasets.load(
            chosen.data,
            corruption=chosen.corruption,
            training_size=size,
            label_noise=noise,
            seed=chosen.seed,
        )
        check_data(chosen.data, samples.task, task)
        for network in chosen.networks:
            networks.check(network, samples.x_train.shape[1:])
    grid = itertools.product(range(chosen.runs), chosen.networks, sizes, noises)
    return [
        {
            "data": identity(chosen.data),
            "corruption": chosen.corruption,
            "network": network,
            "method": method,
            "strength": strength,
            "training_size": size,
            "label_noise": noise,
            "epochs": epochs[network],
            "batch_size": chosen.batch_size,
            "learning_rate": chosen.learning_rate,
            "points": getattr(chosen, "points", POINTS),
            "seed": chosen.seed + run,
        }
        for run, network, size, noise in grid
        for method, strength in strengths[network]
    ]


def train(settings, data):
    """The curves of one run of `plan`; `data` as there, for what has the same content."""
    keras.backend.clear_session()  # or a worker grows from run to run
    return fitting.train(
        load(settings, data), settings["network"], settings["method"], **options(settings)
    )


def load(settings, data):
    """The `Dataset` of a run of `plan`."""
    return datasets.load(data, corruption=settings["corruption"], **drawing(settings))


def drawing(settings):
    """Which samples and wrong labels a run has: keyword arguments of `datasets.sample`."""
    keys = ("training_size", "label_noise", "seed")
    return {key: settings[key] for key in keys} | {"noise_kind": settings.get("noise", "uniform")}


def check_noise(settings):
    """That a record's kind of noise, where it has one, is one that there is."""
    checks.choice("noise", settings.get("noise", "uniform"), NOISES)


LATER = {"noise": "uniform", "kind": "images", "target": None, "missing": 0.0}


def later(**settings):
    """Those that are not as in all records from before there were others."""
    return {name: value for name, value in settings.items() if value != LATER[name]}


def options(settings):
    """How a run of `plan` is trained: keyword arguments of `fitting.train`."""
    keys = ("strength", "epochs", "batch_size", "learning_rate", "points", "seed")
    return {key: settings[key] for key in keys}


def check_methods(methods, strengths):
    """Pairs of a method and a strength: its own, but for what `strengths` has of them."""
    for name, words, allowed in (
        ("methods", methods, METHODS),
        ("strengths", strengths, methods),
    ):
        for word in words:
            checks.choice(name, word, tuple(allowed))
    pairs = []
    for method in methods:
        several = strengths.get(method)
        several = several if isinstance(several, tuple | list) else (several,)
        pairs += [(method, METHODS[method].at(strength).strength) for strength in several]
    return pairs


def _only(methods, strengths):
    return {method: strengths[method] for method in methods if method in strengths}


def _tuned(path):
    """What `tune` has written: strengths by network and method."""
    try:
        found = storage.read_json(path, 2**20)
        for strengths in found.values():
            for method, strength in strengths.items():
                METHODS[method].at(strength)
    # AttributeError: not a dict of dicts; KeyError: no such method; TypeError: no such strength.
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(
            "Expected `tuned` to be a file that `tune` has written. "
            f"Received: tuned={str(path)!r} ({files.one_line(error)}). Give its tuned.json."
        ) from error
    return found


def check_data(data, found, task):
    """That data are for this task."""
    if found != task:
        arrays = {
            "classification": "with classes, x_train, y_train, x_test and y_test",
            "regression": "with keypoints, x and y",
        }
        raise ValueError(
            f"Expected `data` {arrays[task]}. "
            f"Received: data={str(data)!r} with other targets. Choose another file."
        )


def identity(data):
    """What tells data apart on every machine: their name, and of a file also its content."""
    if data in datasets.NAMES:
        return data
    return f"{Path(data).stem}-{hashlib.sha256(Path(data).read_bytes()).hexdigest()[:8]}"
