"""Pictures are drawn in memory; every test has an axis, and a model with two inputs."""

import keras
import matplotlib
import matplotlib.pyplot
import numpy as np
import pytest
from matplotlib.figure import Figure


@pytest.fixture(autouse=True)
def agg():
    backend = matplotlib.get_backend()
    matplotlib.use("agg")
    matplotlib.pyplot.close("all")  # other tests in this process may have left some open
    yield
    matplotlib.pyplot.close("all")
    matplotlib.use(backend)


@pytest.fixture
def axis():
    return Figure(layout="constrained").subplots()


@pytest.fixture
def linear():
    """Three classes of two inputs; the first output is largest where x[0] is, and so on."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.set_weights([np.array([[1.0, 0, -1], [0, 1, -1]]), np.zeros(3)])
    return model
