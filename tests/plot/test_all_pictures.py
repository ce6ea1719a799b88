"""What every public function of `keras_mgs.plot` does alike."""

import subprocess
import sys

import matplotlib.pyplot
import pytest
from examples import RUN, K, X, Y
from matplotlib.figure import Figure

from keras_mgs import plot


def calls(model):
    return {
        "history": lambda ax: plot.history(RUN, ax),
        "kernel": lambda ax: plot.kernel(K, [0, 1], ax),
        "spectrum": lambda ax: plot.spectrum([3.0, 1.0, 0.0], ax),
        "decision_boundary": lambda ax: plot.decision_boundary(model, X, Y, ax),
        "compare": lambda ax: plot.compare({"a": RUN, "b": RUN}, "mgs_trace", ax),
    }


NAMES = list(calls(None))


@pytest.mark.parametrize("name", NAMES)
def test_the_axis_given_is_the_axis_returned(name, axis, linear):
    assert calls(linear)[name](axis) is axis
    assert not matplotlib.pyplot.get_fignums()  # no other figure was made


@pytest.mark.parametrize("name", NAMES)
def test_without_an_axis_there_is_a_new_figure(name, linear):
    draw = calls(linear)[name]
    assert draw(None).figure is not draw(None).figure


@pytest.mark.parametrize("name", NAMES)
def test_every_axis_has_labels_and_its_quantity_a_unit(name, axis, linear):
    calls(linear)[name](axis)
    for panel in axis.figure.axes + axis.child_axes:
        assert "(" in panel.get_ylabel()
        assert panel.get_xlabel() or panel in axis.child_axes  # a colour bar has one side


@pytest.mark.parametrize("name", NAMES)
def test_no_legend_lies_over_any_data_and_nothing_is_cut_off(name, axis, linear):
    calls(linear)[name](axis)
    axis.figure.draw_without_rendering()
    panels, whole = axis.figure.axes, axis.figure.bbox
    for panel in panels:
        legend = panel.get_legend()
        if legend is not None:
            box = legend.get_window_extent()
            assert not any(box.overlaps(other.bbox) for other in panels)
            assert box.x1 <= whole.x1 and box.y0 >= whole.y0
        for label in (panel.xaxis.label, panel.yaxis.label):
            box = label.get_window_extent()
            assert box.x0 >= whole.x0 - 1 and box.y0 >= whole.y0 - 1 and box.y1 <= whole.y1 + 1


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_matplotlib_names_the_extra(name, monkeypatch, linear):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'Received: .*pip install "keras_mgs\[plot\]"'):
        calls(linear)[name](None)


def test_the_module_can_be_imported_without_matplotlib():
    code = "import sys; sys.modules['matplotlib'] = None; import keras_mgs; keras_mgs.plot.history"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("name", NAMES)
def test_an_array_of_axes_is_refused_in_a_sentence(name, linear):
    with pytest.raises(TypeError, match="one matplotlib axis.*Received: ndarray.*axes\\[0\\]"):
        calls(linear)[name](Figure().subplots(2))
