"""Second derivatives that TensorFlow leaves out: for its registry, where each is missing."""

import contextlib

import tensorflow as tf

ops = tf.raw_ops


def _softsign(operation, upstream):
    """Of `g / (1 + |x|)²`."""
    g, x = operation.inputs
    below = 1 + tf.abs(x)
    return upstream / below**2, -2 * upstream * g * tf.sign(x) / below**3


def _resize(resize):
    """Of the transpose of a resizing, linear in g: the resizing itself."""

    def gradient(operation, upstream):
        g = operation.inputs[0]
        again = resize(
            images=upstream,
            size=tf.shape(g)[1:3],
            align_corners=operation.get_attr("align_corners"),
            half_pixel_centers=operation.get_attr("half_pixel_centers"),
        )
        return tf.cast(again, g.dtype), None

    return gradient


def _scale_and_translate(operation, upstream):
    g, _, scale, translation = operation.inputs
    again = ops.ScaleAndTranslate(
        images=upstream,
        size=tf.shape(g)[1:3],
        scale=scale,
        translation=translation,
        kernel_type=operation.get_attr("kernel_type").decode(),
        antialias=operation.get_attr("antialias"),
    )
    return again, None, None, None


def _crop_and_resize(operation, upstream):
    g, boxes, indices, _ = operation.inputs
    method = operation.get_attr("method").decode()
    again = ops.CropAndResize(
        image=upstream,
        boxes=boxes,
        box_ind=indices,
        crop_size=tf.shape(g)[1:3],
        method=method,
    )
    of_boxes = None
    if method == "bilinear":
        of_boxes = ops.CropAndResizeGradBoxes(
            grads=g, image=upstream, boxes=boxes, box_ind=indices, method=method
        )
    return again, of_boxes, None, None


def _local_response_normalization(operation, upstream):
    """Of `g s^-β − 2 α β x W(g x s^(-β-1))` with `s = bias + α W(x²)`, W summing over a window."""
    g, x, _ = operation.inputs
    radius, bias, alpha, beta = (
        operation.get_attr(name) for name in ("depth_radius", "bias", "alpha", "beta")
    )
    with tf.GradientTape() as tape:
        tape.watch([g, x])
        channels = tf.shape(x)[3]
        reach = tf.minimum(radius, channels)
        window = tf.linalg.band_part(tf.ones((channels, channels), x.dtype), reach, reach)
        s = bias + alpha * tf.tensordot(x * x, window, 1)
        inner = tf.tensordot(g * x * s ** (-beta - 1), window, 1)
        back = g * s**-beta - 2 * alpha * beta * x * inner
    return (*tape.gradient(back, [g, x], upstream), None)


_MISSING = {
    "SoftsignGrad": _softsign,
    "ResizeNearestNeighborGrad": _resize(ops.ResizeNearestNeighbor),
    "ResizeBicubicGrad": _resize(ops.ResizeBicubic),
    "ScaleAndTranslateGrad": _scale_and_translate,
    "CropAndResizeGradImage": _crop_and_resize,
    "LRNGrad": _local_response_normalization,
}
for _name, _gradient in _MISSING.items():
    with contextlib.suppress(KeyError):  # TensorFlow has it, by now
        tf.RegisterGradient(_name)(_gradient)
