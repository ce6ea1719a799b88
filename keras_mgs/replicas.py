"""Data-parallel training: which replica this is, and sums over all of them."""

import tensorflow as tf


def count():
    """How many replicas train together; 1 without a `tf.distribute` strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def index():
    """The number of the replica whose step this is, from 0."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None or count() == 1 else context.replica_id_in_sync_group


def total(tensors):
    """Each tensor summed over the replicas. Not inside a conditional: all replicas must meet."""
    if count() == 1:
        return tensors
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tensors)
