"""Reverse passes: what the library asks `tf.GradientTape` for."""

import contextlib
import re
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

from keras_mgs import hooks

Function = TypeVar("Function", bound=Callable[..., Any])
_VECTORISING = sys.modules[tf.vectorized_map.__module__]


def as_written(function: Function) -> Function:
    """Keep the AutoGraph of a tf.function of the user's from translating this function of ours."""
    return tf.autograph.experimental.do_not_convert(function)


def tape():
    """A tape that answers several questions about one forward pass."""
    return tf.GradientTape(persistent=True)


def watch(tape, tensors):
    """Make `tape` follow tensors that are not variables, such as a model's inputs."""
    tape.watch(tf.nest.flatten(tensors))


def values(weights):
    """The TensorFlow variables behind Keras variables: what a tape takes as sources."""
    return [w.value for w in weights]


def trace(function, x, size):
    """Trace, without running it, `function` of a batch like `x` of `size` samples."""

    def spec(t):
        if t is None:
            return None
        kind = tf.SparseTensorSpec if isinstance(t, tf.SparseTensor) else tf.TensorSpec
        return kind((size, *t.shape[1:]), t.dtype)

    specs = tf.nest.map_structure(spec, x)
    tf.function(function, autograph=False).get_concrete_function(specs)


def connected(tape, target, sources):
    """Whether `target` depends on each source, as far as the tape has seen."""
    return [g is not None for g in tape.gradient(target, sources)]


def gradient(tape, target, sources, cotangent=None, dense=True):
    """`cotangentᵀ ∂target/∂sources`, a tensor per source; zeros where unconnected.

    Where `dense` is false, those of tables may be `tf.IndexedSlices`.
    """
    try:
        gradients = tape.gradient(
            target,
            sources,
            output_gradients=cotangent,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
    except LookupError as error:
        raise _without_derivative(error, target) from error
    return [tf.convert_to_tensor(g) for g in gradients] if dense else gradients


def _without_derivative(error, target):
    """The error that says which operation, of which layer, TensorFlow cannot differentiate."""
    kind = next(iter(re.findall(r"no entry for: (\w+)", str(error))), None)
    if kind is None:
        return error
    names = []
    if tf.is_symbolic_tensor(target):
        names = [o.name for o in target.graph.get_operations() if o.type == kind]
    paths = sorted({re.sub(r"^(gradient_tape/)+|/[^/]*$", "", name) for name in names})
    where = f", of {', '.join(repr(p) for p in paths)}" if paths else ""
    return NotImplementedError(
        f"MGS needs a derivative that TensorFlow does not have: that of '{kind}'{where}. An "
        "operation that ends in Grad is the derivative of another one, which the penalties "
        "differentiate twice. Replace it by one that is made of others, or train without a penalty."
    )


def cotangents(tape, f, tensors, rows):
    """δ of each tensor, `δ[r] = vᵀ ∂f/∂tensor` for the r-th vector v of `rows`: (r, n, …).

    It takes one vectorised reverse pass. A v of (q,) is that of every sample.
    """
    f = tf.convert_to_tensor(f)

    def one_row(v):
        return gradient(tape, f, tensors, tf.broadcast_to(v, tf.shape(f)))

    found = _map_rows(one_row, rows.vectors)
    for delta, tensor in zip(found, tensors, strict=True):
        if tf.is_symbolic_tensor(delta) and tensor.shape.rank is not None:
            delta.set_shape((None, *tensor.shape))  # which a tf.py_function does not know
    return found


def row_jacobian(tape, f, sources, rows):
    """`vᵀ ∂f/∂source` for each vector v of `rows`, by a reverse pass per row.

    A tensor (n, r, *source.shape) per source; (1, r, *source.shape) where samples are coupled.
    """
    f, vectors = tf.convert_to_tensor(f), rows.vectors
    shape = [1, tf.shape(vectors)[0]]
    if not rows.coupled:
        n, shape = tf.shape(f)[0], [tf.shape(f)[0], tf.shape(vectors)[0]]
        one_sample = tf.eye(n, dtype=f.dtype)[:, None, :, None] * vectors[None, :, None, :]
        vectors = tf.reshape(one_sample, (shape[0] * shape[1], *tf.unstack(tf.shape(f))))
    found = _map_rows(lambda v: gradient(tape, f, sources, v), vectors)
    return [tf.reshape(j, [*shape, *tf.unstack(tf.shape(j))[1:]]) for j in found]


def is_compiled_by_xla():
    """Whether XLA compiles the graph that is being built."""
    return getattr(_VECTORISING, "_is_under_xla_context", lambda: False)()


def vectorised(function, tensors):
    """`function` of each slice of `tensors` along their first axes.

    Within a function that XLA compiles, TensorFlow would make this one of its own. In a derivative
    the inner one would then hand on shapes, XLA would take all inputs of both for constants, and
    compile them anew for each batch.
    """
    with contextlib.ExitStack() as stack:
        if hasattr(_VECTORISING, "_is_under_xla_context"):
            never = hooks.replaced(_VECTORISING, "_is_under_xla_context", lambda _: lambda: False)
            stack.enter_context(never)
        stack.enter_context(_unlogged())
        return tf.vectorized_map(function, tensors)


def _map_rows(function, vectors):
    """`function` over the first axis: vectorised, or in a loop where TensorFlow cannot."""
    try:
        return vectorised(function, vectors)
    except (ValueError, NotImplementedError, tf.errors.OpError):  # e.g. through LSTM and GRU
        signature = tf.nest.map_structure(
            lambda t: tf.TensorSpec(t.shape, t.dtype), function(vectors[0])
        )
        return tf.map_fn(function, vectors, fn_output_signature=signature)


@contextlib.contextmanager
def _unlogged():
    """Keep TensorFlow from logging this thread's errors, for which there is another way."""
    thread = threading.get_ident()

    def kept(record):
        return record.thread != thread

    logger = tf.get_logger()
    logger.addFilter(kept)
    try:
        yield
    finally:
        logger.removeFilter(kept)


def after(tensors):
    """Operations built in this context wait until `tensors` are known."""
    return tf.control_dependencies(tensors)


def one_by_one(function, tensors, dtype):
    """`function` over the first axis, one call after the other, to need little memory."""
    return tf.map_fn(function, tensors, fn_output_signature=dtype, parallel_iterations=1)


def random_signs(shape, dtype, seed):
    """Uniform on {−1, +1}, a function of `seed`, two integers, alone."""
    bits = tf.random.stateless_uniform(shape, seed, 0, 2, tf.int32)
    return tf.cast(2 * bits - 1, dtype)
