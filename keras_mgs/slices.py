"""Gradients as tensors or, of tables of which a step reads few rows, as `tf.IndexedSlices`."""

import keras
import tensorflow as tf


def each_row_once(t):
    """The values of `tf.IndexedSlices`, summed where they belong to the same row."""
    rows, place = tf.unique(t.indices)
    return tf.math.unsorted_segment_sum(t.values, place, tf.size(rows))


def plus(a, b):
    """`a + b`, sparse if `a` is: Keras' optimizers treat sparse gradients differently."""
    if not isinstance(a, tf.IndexedSlices):
        return a + tf.convert_to_tensor(b)
    if not isinstance(b, tf.IndexedSlices):
        b = tf.IndexedSlices(b, tf.range(tf.shape(b)[0], dtype=a.indices.dtype), tf.shape(b))
    values, indices = tf.concat([a.values, b.values], 0), tf.concat([a.indices, b.indices], 0)
    return tf.IndexedSlices(values, indices, a.dense_shape)


def of_values(function, t):
    """`function` of every entry; it must map 0 to 0."""
    if isinstance(t, tf.IndexedSlices):
        return tf.IndexedSlices(function(t.values), t.indices, t.dense_shape)
    return function(t)


def dense(tensors):
    """Each of `tensors` as a tensor, `tf.IndexedSlices` included."""
    return keras.tree.map_structure(tf.convert_to_tensor, tensors)
