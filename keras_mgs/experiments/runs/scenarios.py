"""Runs on a data set: what is asked of their settings, all of them as a list, and one of them."""

import hashlib
import itertools
from pathlib import Path

import keras

from keras_mgs import checks, storage
from keras_mgs.experiments.data import datasets
from keras_mgs.experiments.training import fitting
from keras_mgs.experiments.training.methods import METHODS, check_task
from keras_mgs.experiments.training.networks import NETWORKS

_MOST_POINTS = 100_000  # or a record would be too large


def plan(
    task,
    data="mnist_corrupted",
    *,
    corruption=None,
    networks,
    methods,
    training_sizes,
    label_noises,
    runs,
    epochs,
    batch_size=32,
    learning_rate=fitting.LEARNING_RATE,
    points=fitting.POINTS,
    seed=0,
    strengths=None,
    tuned=None,
):
    """The settings of every run, after a look at the data, whose smallest and largest part is read.

    The methods meet the same samples, label noise and first weights, which `seed` alone decides: a
    run gives the numbers of `compare` with its settings.

    Args:
        task: "classification" or "regression": what the data must be for.
        data, corruption: as for `datasets.load`.
        networks, methods: keys of `NETWORKS` and `METHODS`.
        training_sizes: numbers of samples; those of classes are drawn stratified.
        label_noises: as for `datasets.load`.
        runs: of each cell; run r has seed + r.
        epochs: as for `fitting.fit`, or a dict of them by network.
        batch_size, learning_rate, points: as for `fitting.fit`.
        strengths: a dict of those that are not to be the methods' own, by method, where a tuple
            stands for one run with each; or None.
        tuned: the path of a file that `tune` has written, with the strengths of methods that are
            not in `strengths`; or None.

    Returns:
        A list of dicts; run by run, so that all cells have been trained once before any is again.

    Raises:
        TypeError, ValueError: a bad argument, or data for another task.
        FileNotFoundError, ImportError: as `datasets.load`.
    """
    for network in networks:
        checks.choice("networks", network, tuple(NETWORKS))
    read = _tuned(tuned) if tuned is not None else {}
    ways = {
        network: check_methods(methods, _only(methods, read.get(network, {})) | (strengths or {}))
        for network in networks
    }
    check_task(methods, task)
    check_training(runs, batch_size, learning_rate, points)
    epochs = epochs if isinstance(epochs, dict) else dict.fromkeys(networks, epochs)
    for network in networks:
        checks.count("epochs", epochs[network])
    noises = [checks.number("label_noises", noise) for noise in label_noises]
    sizes = [checks.count("training_sizes", size) for size in training_sizes]
    for size, noise in ((min(sizes), min(noises)), (max(sizes), max(noises))):
        found = datasets.load(
            data, corruption=corruption, training_size=size, label_noise=noise, seed=seed
        )
        check_data(data, found.task, task)
    grid = itertools.product(range(runs), networks, sizes, noises)
    return [
        {
            "data": identity(data),
            "corruption": corruption,
            "network": network,
            "method": method,
            "strength": strength,
            "training_size": size,
            "label_noise": noise,
            "epochs": epochs[network],
            "batch_size": batch_size,
            "learning_rate": float(learning_rate),
            "points": points,
            "seed": seed + run,
        }
        for run, network, size, noise in grid
        for method, strength in ways[network]
    ]


def train(settings, data):
    """The curves of one run of `plan`; `data` as there, for what has the same content."""
    keras.backend.clear_session()  # or a worker grows from run to run
    return fitting.train(
        load(settings, data), settings["network"], settings["method"], **options(settings)
    )


def load(settings, data):
    """The `Dataset` of a run of `plan`."""
    keys = ("corruption", "training_size", "label_noise", "seed")
    return datasets.load(data, **{key: settings[key] for key in keys})


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
            f"Received: tuned={str(path)!r} ({datasets.one_line(error)}). Give its tuned.json."
        ) from error
    return found


def check_training(runs, batch_size, learning_rate, points):
    """What every plan is given."""
    checks.count("runs", runs)
    checks.count("batch_size", batch_size)
    if checks.count("points", points) > _MOST_POINTS:
        raise ValueError(
            f"Expected `points` to be at most {_MOST_POINTS}. Received: points={points!r}."
        )
    checks.positive("learning_rate", learning_rate)


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
