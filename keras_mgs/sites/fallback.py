"""J of the weights that no rule explains, exact for any model.

Each way is a function of `(tape, f, recording, weights, rows)`, a recorded pass and the `Rows` to
compute, which returns `vᵀ ∂f/∂w` for each weight w: (n, r, *w.shape), or (1, r, *w.shape) where
samples are coupled.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_mgs import autodiff, data
from keras_mgs.outputs import raw_outputs
from keras_mgs.second_order import twice_differentiable

_SEED = (20, 11)


def by_passes(tape, f, recording, weights, rows):
    """A reverse pass through the batch for each row of J."""
    return autodiff.row_jacobian(tape, f, autodiff.values(weights), rows)


class ByCopies:
    """r reverse passes through a pass in which every sample has its own copies of the weights.

    A sample's copies have its own gradients. They are J unless a layer mixes samples or draws
    random numbers, which only the result shows. Where the samples are known to be coupled, or the
    model cannot be run so, J is found `by_passes`.

    Attributes:
        right: whether what was found is J: True, or a boolean tensor. `vᵀ J` is compared with one
            reverse pass through the batch, for a random v, in which no error cancels.
    """

    def __init__(self):
        self.right = True

    def __call__(self, tape, f, recording, weights, rows):
        found = None if rows.coupled else _by_copies(recording, weights, rows)
        if found is None:
            return by_passes(tape, f, recording, weights, rows)
        self.right = tf.logical_and(self.right, _is_jacobian(found, tape, f, weights, rows))
        return found


def by_copies_if_right(tape, f, recording, weights, rows):
    """`ByCopies` if that is right, and `by_passes` if not: a graph holds both.

    XLA takes `by_passes`: in the derivative of a conditional it wants shapes to be constants.
    """
    if autodiff.is_compiled_by_xla():
        return by_passes(tape, f, recording, weights, rows)
    way = ByCopies()
    found = way(tape, f, recording, weights, rows)
    if way.right is True:
        return found
    return tf.cond(way.right, lambda: found, lambda: by_passes(tape, f, recording, weights, rows))


def _by_copies(recording, weights, rows):
    """(n, r, *shape) for each weight; None where the model cannot be run sample by sample."""
    model, x, training = recording.model, recording.x, recording.training
    leaves = data.leaves(x)

    def of_sample(inputs):
        sample, own = inputs
        given = iter(sample)
        one = keras.tree.map_structure(lambda t: t if t is None else next(given)[None], x)
        with keras.StatelessScope(state_mapping=list(zip(weights, own, strict=True))):
            return raw_outputs(model(one, training=training), model)[0]

    try:
        n = tf.shape(leaves[0])[0]
        copies = [tf.broadcast_to(w.value, (n, *w.shape)) for w in weights]
        with twice_differentiable(), autodiff.tape() as tape:
            autodiff.watch(tape, copies)
            f = autodiff.vectorised(of_sample, (leaves, copies))
        found = autodiff.cotangents(tape, f, copies, rows)
    except Exception:  # of any type: it comes from the user's code, run in an unusual way
        return None
    return [ops.swapaxes(j, 0, 1) for j in found]


def _is_jacobian(found, tape, f, weights, rows):
    """Whether `vᵀ J` is that of one reverse pass, for a random v."""
    shape = tf.shape(f)[0], tf.shape(rows.vectors)[0]
    c = tf.random.stateless_normal(shape, _SEED, dtype=f.dtype)
    expected = autodiff.gradient(tape, f, autodiff.values(weights), c @ rows.vectors)
    # Far above rounding, far below J. Half precision rounds more, and is left to the passes.
    tolerance = np.finfo(keras.backend.result_type(f.dtype, "float32")).eps ** (2 / 3)

    def agree(j, expected):
        error = tf.tensordot(tf.cast(c, j.dtype), j, [[0, 1], [0, 1]]) - tf.cast(expected, j.dtype)
        return tf.nn.l2_loss(error) <= tolerance**2 * tf.nn.l2_loss(j)  # the mean of ‖vᵀ J‖² / 2

    return tf.reduce_all([agree(j, e) for j, e in zip(found, expected, strict=True)])
