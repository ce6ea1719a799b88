"""What can be set in each experiment, declared once.

Nothing here imports TensorFlow or pandas, so that the command line can show its help at once.
"""

import dataclasses
from typing import Any

from keras_mgs.experiments.catalogue.experiment import Settings, setting, with_default
from keras_mgs.experiments.catalogue.names import (
    LEARNING_RATE,
    METHODS,
    NETWORK_OF,
    NETWORKS,
    NOISES,
    PAPER,
    POINTS,
    TASKS,
)
from keras_mgs.experiments.catalogue.problems import PROBLEMS

STRENGTHS = {  # what `tune` tries; "auto" is no grid's, but has to hold its own against it
    "weight_decay": (1e-4, 5e-4, 2e-3, 1e-2),
    "dropout": (0.1, 0.3, 0.5, 0.7, 0.9),
    "loss_gradient": (0.03, 0.1, 0.3, 1.0, 3.0),
    "loss_gradient_inputs": (0.1, 1.0, 10.0, 100.0),
    "mgs": ("auto", 1e-6, 3e-6, 1e-5, 3e-5, 1e-4),
    "mgs_log_det": (1e-7, 1e-6, 1e-5, 1e-4, 1e-3),
    "adam": (1e-4, 3e-4, 1e-3, 3e-3),
    "cyclical": (3.0, 10.0, 30.0),
    "early_stopping": (5, 10, 20),
    "label_smoothing": (0.3, 0.5, 0.7, 0.9),
    "mixup": (0.2, 1.0, 8.0, 32.0),
    "sam": (0.01, 0.02, 0.05, 0.1),
    "generalised_cross_entropy": (0.3, 0.5, 0.7, 0.9),
    "bootstrapping": (0.2, 0.4, 0.6, 0.8),
    "elr": (1.0, 3.0, 7.0, 10.0),
    "co_teaching": (5, 10, 20, 40),
    "rkhs": (0.001, 0.01, 0.03, 0.1, 0.3),
}
ZOO_METHODS = (
    "unregularised",
    "mgs",
    "fixed",  # MGS at each alpha of the problem's grid
    "dropout",
    "generalised_cross_entropy",
    "early_stopping",
)
_DATA = "digits, mnist, mnist_corrupted (which needs the network), or a FILE.npz"
_NOISE = (
    "how labels become wrong: uniform, drawn anew over all classes; pair, moved to the next "
    "class; instance, mistaken for the class that a weak model takes a sample for"
)
_ONE_NETWORK = {"key": "network", "metavar": "NETWORK"}
_ONE_METHOD = {"key": "method", "metavar": "METHOD"}
_ONE_SIZE = {"key": "training_size", "metavar": "N"}


def _corruption(text):
    return None if text == "none" else text


def _strength(text):
    method, _, number = text.partition("=")
    try:
        return method, float(number)
    except ValueError:
        raise ValueError(
            f"Expected METHOD=NUMBER. Received: {text!r}. For instance dropout=0.3"
        ) from None


def _tuples(pairs):
    """Pairs of a method and a number as a dict of tuples."""
    strengths: dict = {}
    for method, number in pairs:
        strengths[method] = (*strengths.get(method, ()), number)
    return strengths


def _file(text):
    name, _, path = text.partition("=")
    if not (name and path):
        raise ValueError(f"Expected NAME=FILE. Received: {text!r}. For instance mnist=mnist.npz")
    return name, path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained(Settings):
    """Of whatever is trained."""

    methods: tuple[str, ...] = setting("which methods", choices=METHODS, **_ONE_METHOD)
    runs: int = setting("runs of each cell; run r has the seed of the first + r")
    epochs: int = setting("epochs of each run")
    batch_size: int = setting("samples in a training step", 32)
    learning_rate: float = setting("that of the first step", LEARNING_RATE, positive=True)
    seed: int = setting("seed of the first run of each cell", 0, least=0, most=2**32 - 1)
    strengths: dict | None = setting(
        "strengths of methods that are not to be their own, such as dropout=0.3; several of one "
        "method are tried one after the other",
        None,
        metavar="METHOD=NUMBER",
        parse=_strength,
        collect=_tuples,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnData(Trained):
    """Of what is trained on a data set."""

    data: Any = setting(_DATA, "mnist_corrupted", parse=str)
    corruption: str | None = setting(
        "motion_blur: blur plain images as MNIST-C does; or none", None, parse=_corruption
    )
    networks: tuple[str, ...] = setting("which networks", choices=NETWORKS, **_ONE_NETWORK)
    tuned: Any = setting(
        "a file of strengths that `tune` has written", None, metavar="FILE", parse=str
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classes(OnData):
    """Of what is trained on parts of classified data, with wrong labels."""

    training_sizes: tuple[int, ...] = setting("training samples, drawn by class", **_ONE_SIZE)
    label_noises: tuple[float, ...] = setting(
        "shares of the training labels that are resampled uniformly",
        key="label_noise",
        metavar="SHARE",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mnist(Classes):
    """Of the paper's corrupted MNIST."""

    points: int = setting("measurements of a run, evenly spaced", POINTS, most=100_000, metavar="N")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlexNet(Mnist):
    """Of the paper's AlexNet."""

    networks: tuple[str, ...] = with_default(Mnist, "networks", ("alexnet",))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keypoints(OnData):
    """Of the paper's corrupted facial keypoints."""

    data: Any = setting("a FILE.npz of keypoints, or Kaggle's .csv", parse=str)
    corruption: str | None = with_default(OnData, "corruption", "motion_blur")
    training_share: float = setting(
        "share of all samples to train on, those held out for validation not counted",
        0.3,
        positive=True,
        metavar="SHARE",
    )
    target_noises: tuple[float, ...] = setting(
        "standard deviations of the noise on the training targets", metavar="PIXELS"
    )
    batch_size: int = with_default(OnData, "batch_size", 128)
    points: int = with_default(Mnist, "points", POINTS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoCircles(Trained):
    """Of the paper's two noisy circles, of radii 0.5 and 1."""

    training_size: int = setting("training samples, half of each circle", 100, least=20)
    noise: float = setting("standard deviation of the noise on the inputs", 0.2, positive=True)
    points: int = with_default(Mnist, "points", POINTS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Robustness(Settings):
    """Of the paper's robustness: the middle of each's values is kept while others are varied."""

    data: Any = with_default(OnData, "data", "mnist_corrupted")
    corruption: str | None = with_default(OnData, "corruption", None)
    networks: tuple[str, ...] = with_default(OnData, "networks", ("lenet5",))
    methods: tuple[str, ...] = with_default(OnData, "methods", dataclasses.MISSING)
    training_sizes: tuple[int, ...] = with_default(Classes, "training_sizes", dataclasses.MISSING)
    label_noises: tuple[float, ...] = with_default(Classes, "label_noises", dataclasses.MISSING)
    batch_sizes: tuple[int, ...] = setting("samples in a step", key="batch_size", metavar="N")
    learning_rates: tuple[float, ...] = setting(
        "at the first step", key="learning_rate", positive=True, metavar="RATE"
    )
    epoch_counts: tuple[int, ...] = setting("epochs of a run", key="epochs", metavar="N")
    runs: int = with_default(OnData, "runs", dataclasses.MISSING)
    seed: int = with_default(OnData, "seed", 0)
    strengths: dict | None = with_default(OnData, "strengths", None)
    tuned: Any = with_default(OnData, "tuned", None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adversarial(Classes):
    """Of adversarial samples."""

    networks: tuple[str, ...] = with_default(OnData, "networks", ("lenet5",))
    label_noises: tuple[float, ...] = with_default(Classes, "label_noises", (0.0,))
    epsilons: tuple[float, ...] = setting(
        "how far attacks may change a pixel, as shares of its range",
        (0.05, 0.1, 0.2),
        positive=True,
        metavar="SHARE",
    )
    samples: int = setting("test samples that are attacked", metavar="N")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tune(Classes):
    """Of the search for strengths."""

    methods: tuple[str, ...] = setting("which methods", choices=tuple(STRENGTHS), **_ONE_METHOD)
    label_noises: tuple[float, ...] = with_default(Classes, "label_noises", (0.5,))
    by: str = setting(
        "validation: strengths are chosen by a fifth of the training samples, wrong labels and "
        "all; test: by the test set, as the paper does, which nobody has in earnest",
        "validation",
        choices=("validation", "test"),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class WrongLabels(Classes):
    """Of the search for wrong labels."""

    data: Any = with_default(OnData, "data", "digits")
    networks: tuple[str, ...] = with_default(OnData, "networks", ("lenet5",))
    label_noises: tuple[float, ...] = setting(
        "shares of the training labels that are made wrong; those above 0.5 uniformly alone, or "
        "most labels of a class would be of one other",
        (0.2, 0.4, 0.6),
        key="label_noise",
        positive=True,
        metavar="SHARE",
    )
    noises: tuple[str, ...] = setting(
        _NOISE, ("uniform", "pair"), key="noise", choices=NOISES, metavar="NOISE"
    )
    folds: int = setting(
        "parts of the cross-validation of the unregularised network, if it is one of the methods",
        5,
        least=2,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Zoo(Settings):
    """Of the zoo."""

    data: dict | None = setting(
        "data that must be given, such as mnist=FILE.npz keypoints=FILE.npz",
        None,
        metavar="NAME=FILE",
        parse=_file,
        collect=dict,
    )
    problems: tuple[str, ...] | None = setting(
        "which problems, by their names", None, choices=tuple(PROBLEMS), metavar="PROBLEM"
    )
    methods: tuple[str, ...] = setting(
        "which methods", ZOO_METHODS, choices=ZOO_METHODS, **_ONE_METHOD
    )
    runs: int = with_default(Trained, "runs", dataclasses.MISSING)
    noise: str = setting(_NOISE, "uniform", choices=NOISES)
    missing: float = setting(
        "share of the pixels, or of the numbers of a table or series, that are missing, drawn for "
        "each training and test sample: pixels are black, numbers the mean of their feature",
        0.0,
    )
    epochs: int | None = setting("epochs of every run, which are otherwise the problem's", None)
    seed: int = with_default(Trained, "seed", 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare(Settings):
    """Of `compare`: one network on one data set."""

    data: Any = setting(
        "digits, mnist, mnist_corrupted (which needs the network), breast_cancer, wine, diabetes, "
        "diamonds or japanese_vowels (which need the extra zoo), a FILE.npz of images, a table or "
        "series, or a FILE.csv of a table",
        "digits",
        parse=str,
    )
    target: str | None = setting(
        "the column of a .csv to learn, which makes it a table", None, metavar="COLUMN", parse=str
    )
    task: str | None = setting(
        "classification or regression: what to learn of a table or series whose target may be "
        "both; by default words, and at most 20 different whole numbers, are classes",
        None,
        choices=TASKS,
    )
    kind: str | None = setting(
        "images or series: what samples of three axes are; by default images if all values "
        "lie in [0, 1] or are whole numbers up to 255",
        None,
        choices=("images", "series"),
    )
    corruption: str | None = with_default(OnData, "corruption", None)
    network: str | None = setting(
        "the network: one of " + ", ".join(NETWORKS) + ", or a FILE.keras with one of your own, "
        "whose weights are drawn anew (default, by the data: "
        + ", ".join(f"{kind} {name}" for kind, name in NETWORK_OF.items())
        + ")",
        None,
        parse=str,
    )
    methods: tuple[str, ...] = with_default(Trained, "methods", PAPER)
    label_noise: float = setting(
        "share of the training labels that are made wrong; for regression, the standard deviation "
        "of the noise added to the training targets: of images in the targets' unit, such as "
        "pixels, of tables and series in standard deviations of the target",
        0.5,
    )
    noise: str = with_default(Zoo, "noise", "uniform")
    missing: float = with_default(Zoo, "missing", 0.0)
    training_size: int | None = setting(
        "training samples; by default 3000 of classes, 1000 of digits, all for regression",
        None,
        metavar="N",
    )
    epochs: int = setting("epochs of each run", 100)
    runs: int = setting("runs of each method, each with a seed of its own", 2)
    batch_size: int = with_default(Trained, "batch_size", 32)
    seed: int = with_default(Trained, "seed", 0)
