"""Networks of every kind on data of every kind: does the default strength of MGS suit them all?"""

import hashlib
import warnings
from pathlib import Path

import keras

from keras_mgs import checks
from keras_mgs.experiments.catalogue.problems import PROBLEMS
from keras_mgs.experiments.catalogue.settings import Zoo
from keras_mgs.experiments.data import datasets, missing, tabular
from keras_mgs.experiments.reports import gaps, tables
from keras_mgs.experiments.reports.gaps import HALVES, HELPS, SCENARIO
from keras_mgs.experiments.runs import scenarios
from keras_mgs.experiments.training import fitting
from keras_mgs.experiments.training.methods import METHODS

TITLE = (
    "final test accuracy, % (of a regression the squared error), and the gain of MGS at its "
    "defaults over that of the best fixed alpha"
)
FILES = {"mnist": "motion_blur", "keypoints": None}  # data that must be given, and their corruption
_POINTS = 50  # measurements of a run


def plan(data=None, **given):
    """The settings of every run of `settings.Zoo(data=data, **given)`, after a look at the data.

    The methods meet the same samples, label noise and first weights, which the seed alone decides.

    Args:
        data: a dict of the paths of files, as for `datasets.load`, by the names in `FILES`; None:
            there are none.
        **given: settings; without `problems` all whose data are there, and warnings name the
            others. Methods without classes leave out what needs them.

    Returns:
        A list of dicts; run by run, so that all problems have been trained once before any is
        again.

    Raises:
        TypeError, ValueError: a bad setting.
        FileNotFoundError: no such file.
        ImportError: a package that brings data along is missing.
    """
    data = data or {}
    for name in data:
        checks.choice("data", name, tuple(FILES))
    chosen = Zoo(data=data, **given)
    missing.check(chosen.missing)
    problems = _chosen(chosen.problems, data)
    tasks = {
        name: _task(problem, data.get(problem.data), chosen.seed)
        for name, problem in problems.items()
    }
    return [
        {
            "problem": name,
            "half": problem.half,
            "task": tasks[name],
            "data": problem.data,
            "file": _digest(data[problem.data]) if problem.data in FILES else None,
            "network": problem.network,
            "method": method,
            "strength": strength,
            "training_size": problem.training_size,
            "label_noise": problem.label_noise,
            **scenarios.later(
                noise=chosen.noise if tasks[name] == "classification" else "uniform",
                missing=chosen.missing,
            ),
            "optimizer": problem.optimizer,
            "learning_rate": problem.learning_rate,
            "batch_size": problem.batch_size,
            "epochs": chosen.epochs or problem.epochs,
            "points": _POINTS,
            "seed": chosen.seed + run,
        }
        for run in range(chosen.runs)
        for name, problem in problems.items()
        for method, strength in _pairs(chosen.methods, problem, tasks[name])
    ]


def _chosen(names, data):
    """The problems of these names, whose data must be there; None: all those that can be."""
    wanted = {name: PROBLEMS[name] for name in PROBLEMS if names is None or name in names}
    files = {name: p.data for name, p in wanted.items() if p.data in FILES and p.data not in data}
    if files:
        options = " ".join(f"{name}=FILE.npz" for name in dict.fromkeys(files.values()))
        words = f"{', '.join(files)} need files. Give them: `--data {options}`."
        if names is not None:
            raise ValueError(f"The problems {words} Received: data={sorted(data)}.")
        warnings.warn(f"The problems {words} They are left out.", stacklevel=3)
    packages = [name for name, p in wanted.items() if not tabular.available(p.data)]
    if names is not None:
        packages = []  # reading them says what is missing
    elif packages:
        words = 'need the extra `zoo`: pip install "keras_mgs[zoo]".'
        warnings.warn(
            f"The problems {', '.join(packages)} {words} They are left out.", stacklevel=3
        )
    return {name: p for name, p in wanted.items() if name not in files and name not in packages}


def _pairs(methods, problem, task):
    """Methods and strengths of a problem."""
    for method in methods:
        if method == "fixed":
            yield from (("mgs", alpha) for alpha in problem.alphas)
        elif METHODS[method].task in (None, task):
            yield method, METHODS[method].strength


def _digest(path):
    """What tells a file apart on every machine: its content."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:8]


def _load(data, file, **drawing):
    return datasets.load(file or data, corruption=FILES.get(data), **drawing)


def _task(problem, file, seed):
    """Of the data, which are drawn once."""
    noise = problem.label_noise
    drawing = {"training_size": problem.training_size, "label_noise": noise, "seed": seed}
    return _load(problem.data, file, **drawing).task


def train(settings, data=None):
    """The curves of one run of `plan`; `data` as there, of the same content."""
    keras.backend.clear_session()  # or a worker grows from run to run
    file = (data or {}).get(settings["data"])
    gone = settings.get("missing", 0.0)
    samples = _load(settings["data"], file, missing_share=gone, **scenarios.drawing(settings))
    return fitting.train(
        samples,
        settings["network"],
        settings["method"],
        **scenarios.options(settings),
        optimizer=settings["optimizer"],
        kernel=False,
    )


def check(settings, curves):
    """As `tables.check`; and that it is of a problem."""
    alpha = ("mgs_alpha",) if "mgs_alpha" in curves else ()
    tables.check(settings, curves, needs=(*SCENARIO, "strength", "seed"), numbers=("test", *alpha))
    scenarios.check_noise(settings)
    checks.choice("task", settings["task"], tuple(HELPS))
    checks.choice("half", settings["half"], HALVES)


table, summary, words, files = gaps.table, gaps.summary, gaps.words, gaps.files
