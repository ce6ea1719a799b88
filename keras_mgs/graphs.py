"""How the graph of a training step is built: functions in its branches, and variables."""

import tensorflow as tf


def not_inlined(step, jit_compile=None):
    """`step` as a function of the graph that TensorFlow does not inline where it is called.

    In a branch that is not taken, every operation costs time.
    """
    attributes = {"_noinline": True}

    @tf.function(autograph=False, jit_compile=jit_compile, experimental_attributes=attributes)
    def run():
        with lifted_variables():
            return step()

    return run


def lifted_variables():
    """Let variables in this context be made outside of the function that is being traced.

    Optimizer and metrics make theirs in the first step. TensorFlow would trace a function that
    makes variables a second time.
    """
    return tf.variable_creator_scope(_create_lifted)


def _create_lifted(create, initial_value=None, **options):
    if tf.is_symbolic_tensor(initial_value):  # which exists inside of the function alone
        return create(initial_value=initial_value, **options)
    options["experimental_enable_variable_lifting"] = False
    with tf.init_scope():
        return create(initial_value=initial_value, **options)
