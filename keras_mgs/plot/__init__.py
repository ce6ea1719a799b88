"""Pictures of what this package measures; needs matplotlib: `pip install "keras_mgs[plot]"`.

Every function draws on the matplotlib axis that it is given, or on a new one, and returns it.
All pictures can be read in greyscale: lines also differ in style, points in marker, and heat maps
and regions in lightness. Legends stand to the right of the axis;
`plt.subplots(layout="constrained")` makes room for them. A missing value (NaN) is a gap.

Example:

>>> keras_mgs.plot.spectrum([4, 2, 1]).get_ylabel()
'eigenvalue of K (squared gradient)'
"""

from keras_mgs.plot.boundaries import decision_boundary
from keras_mgs.plot.curves import compare, history
from keras_mgs.plot.kernels import kernel, spectrum

__all__ = ["compare", "decision_boundary", "history", "kernel", "spectrum"]
