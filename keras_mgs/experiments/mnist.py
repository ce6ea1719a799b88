"""The paper's corrupted MNIST: training sizes × label noises × methods × runs."""

import hashlib
import itertools
from pathlib import Path

import keras

from keras_mgs import checks
from keras_mgs.experiments import datasets, training
from keras_mgs.experiments.methods import METHODS, PAPER
from keras_mgs.experiments.networks import NETWORKS

PRESETS = {
    "quick": {  # minutes on two cores
        "networks": ("lenet5",),
        "methods": PAPER,
        "training_sizes": (3000,),
        "label_noises": (0.0, 0.6),
        "runs": 1,
        "epochs": 20,
    },
    "paper": {
        "networks": ("lenet5", "fcn"),
        "methods": PAPER,
        "training_sizes": (250, 500, 750, *range(1000, 2001, 500), *range(3000, 9001, 1000)),
        "label_noises": tuple(percent / 100 for percent in range(0, 101, 10)),
        "runs": 10,
        "epochs": 400,
    },
}


def plan(
    data,
    *,
    corruption=None,
    networks,
    methods,
    training_sizes,
    label_noises,
    runs,
    epochs,
    batch_size=32,
    learning_rate=training.LEARNING_RATE,
    seed=0,
    strengths=None,
):
    """The settings of every run, after a look at the data, whose smallest and largest part is read.

    The methods meet the same samples, label noise and first weights, which `seed` alone decides: a
    run gives the numbers of `compare` with its settings.

    Args:
        data, corruption: as for `datasets.load`.
        networks, methods: keys of `NETWORKS` and `METHODS`.
        training_sizes: numbers of samples, drawn stratified by class.
        label_noises: shares of the labels that are resampled.
        runs: of each cell; run r has seed + r.
        epochs, batch_size, learning_rate: as for `train`.
        strengths: a dict of those that are not to be the methods' own, by method.

    Returns:
        A list of dicts; run by run, so that all cells have been trained once before any is again.

    Raises:
        TypeError, ValueError: a bad argument, or data without classes.
        FileNotFoundError, ImportError: as `datasets.load`.
    """
    strengths = strengths or {}
    for name, words, allowed in (
        ("networks", networks, NETWORKS),
        ("methods", methods, METHODS),
        ("strengths", strengths, methods),
    ):
        for word in words:
            checks.choice(name, word, tuple(allowed))
    for name, value in {"runs": runs, "epochs": epochs, "batch_size": batch_size}.items():
        checks.count(name, value)
    checks.positive("learning_rate", learning_rate)
    noises = [checks.number("label_noises", noise) for noise in label_noises]
    sizes = [checks.count("training_sizes", size) for size in training_sizes]
    ways = [METHODS[method].at(strengths.get(method)) for method in methods]
    for size, noise in ((min(sizes), min(noises)), (max(sizes), max(noises))):
        found = datasets.load(
            data, corruption=corruption, training_size=size, label_noise=noise, seed=seed
        )
        if found.task != "classification":
            raise ValueError(
                "Expected `data` with classes, x_train, y_train, x_test and y_test. "
                f"Received: data={data!r} with other targets. Choose another file."
            )
    grid = itertools.product(range(runs), networks, sizes, noises, zip(methods, ways, strict=True))
    return [
        {
            "data": _identity(data),
            "corruption": corruption,
            "network": network,
            "method": method,
            "strength": way.strength,
            "training_size": size,
            "label_noise": noise,
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": float(learning_rate),
            "seed": seed + run,
        }
        for run, network, size, noise, (method, way) in grid
    ]


def train(settings, data):
    """The curves of one run of `plan`; `data` as there, for what has the same content."""
    keras.backend.clear_session()  # or a worker grows from run to run
    loading = {key: settings[key] for key in ("corruption", "training_size", "label_noise", "seed")}
    training_keys = ("strength", "epochs", "batch_size", "learning_rate", "seed")
    return training.train(
        datasets.load(data, **loading),
        settings["network"],
        settings["method"],
        **{key: settings[key] for key in training_keys},
    )


def _identity(data):
    """What tells data apart on every machine: their name, and of a file also its content."""
    if data in datasets.NAMES:
        return data
    return f"{Path(data).stem}-{hashlib.sha256(Path(data).read_bytes()).hexdigest()[:8]}"
