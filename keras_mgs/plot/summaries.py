"""K and its spectrum as images in a folder that TensorBoard reads."""

import os

import numpy as np
import tensorflow as tf

from keras_mgs.plot import axes
from keras_mgs.plot.kernels import kernel, spectrum


def folder(name, value):
    """A folder for TensorBoard, as text, if all is there that draws images and writes them."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(
            f"Expected `{name}` to be a folder for TensorBoard, such as 'logs/mgs', or None. "
            f"Received: {name}={value!r}."
        )
    if not os.fspath(value):
        raise ValueError(f"Expected `{name}` to name a folder. Received: {name}={value!r}.")
    axes.require_matplotlib()
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"`{name}` needs TensorBoard. Received: {error}. Install it: pip install tensorboard"
        ) from error
    return os.fspath(value)


def writer(name, folder):
    """A `tf.summary` writer to this folder, which is made where there is none."""
    try:
        tf.io.gfile.makedirs(folder)  # its errors are easier to read than the writer's
        return tf.summary.create_file_writer(folder)
    except tf.errors.OpError as error:
        raise ValueError(
            f"Expected `{name}` to be a folder that can be made and written to. "
            f"Received: {name}={folder!r}: {error.message}."
        ) from error


def write(writer, epoch, ending, k, values):
    """Write K and its eigenvalues as the images mgs_kernel and mgs_spectrum of this epoch."""
    images = {
        "mgs_kernel": _image((6.4, 5.2), lambda axis: kernel(k, ax=axis)),
        "mgs_spectrum": _image((6.4, 3.6), lambda axis: _spectrum(values, axis)),
    }
    # Keras' TensorBoard lets all others write at its own steps alone.
    with writer.as_default(), tf.summary.record_if(True):
        for tag, image in images.items():
            tf.summary.image(f"{tag}{ending}", image[None], step=epoch)


def _spectrum(values, axis):
    """The spectrum; in its place, words that say why there is none."""
    if 0 < values.mean() < np.inf:
        spectrum(values, axis)
        return
    reason = "no eigenvalue of K is above zero" if np.isfinite(values).all() else "K is not finite"
    axis.text(0.5, 0.5, reason, ha="center", transform=axis.transAxes)
    axis.set_axis_off()


def _image(size, draw):
    """What is drawn on an axis of this size in inches, as an array (height, width, 4)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")  # not one of pyplot's, which stay open
    canvas = FigureCanvasAgg(figure)
    draw(figure.subplots())
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
