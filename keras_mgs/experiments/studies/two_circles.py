"""The paper's two noisy circles: decision boundaries, tr K and log det K of all methods."""

import keras
import numpy as np
from sklearn.datasets import make_circles

from keras_mgs import checks, outputs
from keras_mgs.experiments.catalogue.settings import TwoCircles
from keras_mgs.experiments.data.dataset import Dataset
from keras_mgs.experiments.reports import figures as draw
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.runs import scenarios
from keras_mgs.experiments.training import fitting
from keras_mgs.experiments.training.methods import METHODS

TITLE = "two circles: test accuracy, % (maximum of the mean curve), and K, at the end"
RADII = (0.5, 1.0)
_TEST_SIZE = 2000
_EXTENT = 2.0  # of the picture of a boundary, from the centre
_GRID = 81  # points of it in each direction
_FINEST = 1000  # of a record of somebody else's
# Those that are not of the size of the losses of ten classes.
_STRENGTHS = {"mgs_log_det": 3e-4}  # at 1e-3 the network learns nothing


def plan(**given):
    """The settings of every run of `settings.TwoCircles(**given)`."""
    chosen = TwoCircles(**given)
    own = {name: strength for name, strength in _STRENGTHS.items() if name in chosen.methods}
    strengths = scenarios.check_methods(chosen.methods, own | (chosen.strengths or {}))
    return [
        {
            "network": "fcn",
            "method": method,
            "strength": strength,
            "training_size": chosen.training_size,
            "noise": chosen.noise,
            "epochs": chosen.epochs,
            "batch_size": chosen.batch_size,
            "learning_rate": chosen.learning_rate,
            "points": chosen.points,
            "seed": chosen.seed + run,
        }
        for run in range(chosen.runs)
        for method, strength in strengths
    ]


def samples(settings):
    """The `Dataset` of a run: x (n, 2), and y = 1 for the inner circle."""
    n = settings["training_size"]
    state = np.random.RandomState(settings["seed"])
    x, y = zip(*(_circles(size, settings["noise"], state) for size in (n, _TEST_SIZE)), strict=True)
    return Dataset("two-circles", "classification", x[0], y[0], x[1], y[1])


def _circles(size, noise, state):
    x, y = make_circles(size, noise=noise, factor=RADII[0] / RADII[1], random_state=state)
    return x.astype("float32"), y.astype("int32")


def train(settings):
    """The curves of a run; as their attribute "lead" by how much the inner circle's output leads.

    It is that of points on a square from −2 to 2 in both directions, row by row.
    """
    keras.backend.clear_session()
    model, curves = fitting.fit(
        samples(settings),
        settings["network"],
        settings["method"],
        **scenarios.options(settings),
    )
    line = np.linspace(-_EXTENT, _EXTENT, _GRID, dtype="float32")
    points = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    f = outputs.predict(model, points, 1000)
    lead = (f[:, 1] - f[:, 0]).reshape(_GRID, _GRID)
    curves.attrs["lead"] = [[float(f"{value:.4g}") for value in row] for row in lead]
    return curves


def check(settings, curves):
    """As `tables.check`; and that the boundary can be drawn."""
    needs = ("network", "training_size", "noise", "seed")
    tables.check(settings, curves, needs=needs, numbers=tables.COLUMNS)
    checks.count("training_size", settings["training_size"], least=20)
    checks.count("seed", settings["seed"], least=0, most=2**32 - 1)
    lead = np.asarray(curves.attrs.get("lead"), "float64")
    if lead.ndim != 2 or not 2 <= lead.shape[0] == lead.shape[1] <= _FINEST:
        raise ValueError(f"its boundary is of shape {lead.shape}")


def table(records):
    """The rows of `tables.table`."""
    return tables.table(records)


def words(found):
    """What people read of them."""
    return tables.words(found, ("method", "runs", "final (best)", "tr K", "log det K"))


def files(records):
    """The boundaries of each method's first run, and the curves of all runs."""
    first: dict = {}
    for settings, curves in sorted(records, key=lambda record: record[0]["seed"]):
        first.setdefault(settings["method"], (settings, curves))
    panels = {
        METHODS[method].label: (
            samples(settings),
            curves.attrs["lead"],
            tables.final(curves["test"]),
        )
        for method in METHODS
        if method in first
        for settings, curves in [first[method]]
    }
    return {
        "boundaries.png": draw.boundaries(panels, _EXTENT, sum(RADII) / 2),
        "curves.png": draw.curves(tables.curves(records), "accuracy"),
    }
