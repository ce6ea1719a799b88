"""A program that uses `keras_mgs.plot` can be checked with mypy --strict."""

from mypy import api

from keras_mgs import plot

PROGRAM = """
import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

import keras_mgs
from keras_mgs import plot
from keras_mgs.plot import compare

model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
x, y = np.zeros((4, 2)), [0, 1, 1, 0]
figure, axes = plt.subplots(1, 2)
first: Axes = axes[0]
run = {"loss": [2.0, 1.0], "mgs_trace": [3.0, None]}

panels: Axes = plot.history(run)
keras_mgs.plot.history(keras.callbacks.History(), ax=first)
plot.history(pd.DataFrame(run), first)
plot.kernel(np.eye(4), y, first).set_title("K")
plot.kernel([[1.0, 0.0], [0.0, 1.0]], y=["cat", "dog"], ax=None)
plot.spectrum([3.0, 1.0], ax=first)
plot.decision_boundary(model, x, np.array(y), ax=first)
plot.compare({"plain": run, "MGS": [run, run]}, "loss", first)
compare({1: run, 2: (run, pd.DataFrame(run))}, key="loss")
"""
WRONG = {
    'plot.spectrum([1.0], ax="first")': 'Argument "ax" to "spectrum" has incompatible type "str"',
    "plot.compare({}, key=3)": 'Argument "key" to "compare" has incompatible type "int"',
    "plot.decision_boundary(model, x)": 'Missing positional argument "y"',
    "plot.history({}).no_such_name": '"Axes" has no attribute "no_such_name"',
    "plot.draw_line": 'Module has no attribute "draw_line"',
}


def test_a_program_is_checked_with_no_error_but_its_own(tmp_path, monkeypatch, pytestconfig):
    assert all(f"plot.{name}(" in PROGRAM for name in plot.__all__)
    file = tmp_path / "program.py"
    file.write_text(PROGRAM + "\n".join(WRONG), encoding="utf-8")
    monkeypatch.chdir(pytestconfig.rootpath)  # where mypy finds keras_mgs
    cache = f"--cache-dir={pytestconfig.cache.mkdir('mypy')}"
    quiet = ("--ignore-missing-imports", "--follow-imports=silent", "--no-error-summary")
    report, trouble, _ = api.run(["--strict", *quiet, "--config-file=", cache, str(file)])
    assert not trouble
    first = PROGRAM.count("\n") + 1
    errors = report.splitlines()
    assert len(errors) == len(WRONG), report
    for line, (error, words) in enumerate(zip(errors, WRONG.values(), strict=True), first):
        assert f"{file.name}:{line}: " in error and words in error
