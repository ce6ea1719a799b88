"""Data-parallel training: which replica this is, and sums over all of them."""

import tensorflow as tf


def count():
    """How many replicas train together; 1 without a `tf.distribute` strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def index():
    """The index of the replica that runs this step, from 0."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None or count() == 1 else context.replica_id_in_sync_group


def check(model):
    """Refuse a model whose weights were not made under the strategy that it is trained under."""
    strategy = tf.distribute.get_strategy()
    if not tf.distribute.has_strategy():
        strategy = model.distribute_strategy
    for weight in model.weights:
        if not strategy.extended.variable_created_in_scope(weight.value):
            raise ValueError(
                f"Expected the weights of '{model.name}' to be made in the scope of the "
                f"{type(strategy).__name__} that it is trained under. Received: '{weight.path}', "
                "made outside of it. Make the model, wrap it and compile it in `with "
                "strategy.scope():`."
            )


def total(tensors):
    """Each tensor summed over the replicas; all of them must call it, or none."""
    if count() == 1:
        return tensors
    context = tf.distribute.get_replica_context()
    leaves = tf.nest.flatten(tensors)
    sums = list(leaves)
    for dtype in dict.fromkeys(t.dtype for t in leaves):  # TensorFlow packs them into one tensor
        places = [i for i, t in enumerate(leaves) if t.dtype == dtype]
        of_dtype = context.all_reduce(tf.distribute.ReduceOp.SUM, [leaves[i] for i in places])
        for place, reduced in zip(places, of_dtype, strict=True):
            sums[place] = reduced
    return tf.nest.pack_sequence_as(tensors, sums)
