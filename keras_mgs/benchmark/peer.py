"""The other side of `benchmark --against neural-tangents`, run by the Python of its environment.

It knows neither keras_mgs nor TensorFlow. `peer.py FOLDER` reads FOLDER/problem.npz, writes what it
finds to FOLDER/found.npz and prints a line of JSON about it; then, for each number of runs that it
reads, it prints the seconds that these take.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import neural_tangents as nt
import numpy as np
from jax import lax

IMPLEMENTATIONS = (1, 2, 3)  # of the kernel in Neural Tangents; 3: its structured derivatives


def lenet5(weights, x):
    """`networks.lenet5` for images of 28 × 28."""
    for padding, (kernel, bias) in zip(("SAME", "VALID"), _pairs(weights[:4]), strict=True):
        x = lax.conv_general_dilated(
            x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + bias)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return fcn(weights[4:], x)


def fcn(weights, x):
    """`networks.fcn`."""
    x = x.reshape((len(x), -1))
    *hidden, (kernel, bias) = _pairs(weights)
    for k, b in hidden:
        x = jax.nn.relu(x @ k + b)
    return x @ kernel + bias


NETWORKS = {"lenet5": lenet5, "fcn": fcn}


def problem(what, f, weights, x, y, alpha, epsilon, implementation):
    """A compiled function without arguments: K, or a penalty and the gradient of the loss with it.

    tr K, log det(K + ε I) and K are as keras_mgs defines them; log det is in float64.
    """

    def ntk(weights, **axes):
        options = {"vmap_axes": 0, "implementation": implementation, **axes}
        return nt.empirical_ntk_fn(f, **options)(x, None, weights)

    def kernel(weights):
        k = ntk(weights, trace_axes=())  # (n, n, q, q)
        return k.transpose((0, 2, 1, 3)).reshape((k.shape[0] * k.shape[2], -1))

    def trace(weights):  # Neural Tangents takes the mean over the outputs
        q = f(weights, x).shape[1]
        return q * ntk(weights, trace_axes=(1,), diagonal_axes=(0,)).sum()

    def log_det(weights):
        k = kernel(weights).astype("float64")
        shift = epsilon * jnp.trace(k) / len(k)
        factor = jnp.linalg.cholesky(k + shift * jnp.eye(len(k)))
        return 2 * jnp.log(jnp.diag(factor)).sum()

    def loss(weights):
        value = (trace if what == "exact_trace" else log_det)(weights)
        log_p = jax.nn.log_softmax(f(weights, x))
        entropy = -jnp.take_along_axis(log_p, y[:, None], 1).mean()
        return entropy + alpha * value, value

    if what == "kernel":
        function = jax.jit(kernel)
        return lambda: [function(weights)]
    function = jax.jit(jax.value_and_grad(loss, has_aux=True))

    def run():
        (_, value), gradients = function(weights)
        return [value, *gradients]

    return run


def fastest(problems):
    """The fastest of several functions: (seconds, its name, itself, its first seconds, result)."""
    tried, errors = [], []
    for name, run in problems.items():
        try:
            first, found = timed(run, 1)
            seconds = min(timed(run, 1)[0] for _ in range(3))
            tried.append((seconds, name, run, first, found))
        except Exception as error:  # out of memory, or not implemented: another may do
            errors.append(f"{type(error).__name__}: {error}".splitlines()[0])
    if not tried:
        raise RuntimeError("; ".join(errors))
    return min(tried, key=lambda one: one[0])


def timed(run, count):
    """Seconds of `count` runs, and the last result."""
    start = time.perf_counter()
    for _ in range(count):
        found = jax.block_until_ready(run())
    return time.perf_counter() - start, found


def main(folder):
    """Find, say what was found, and time whenever asked."""
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "float32")
    with np.load(f"{folder}/problem.npz", allow_pickle=False) as file:
        arrays = {name: jnp.asarray(file[name]) for name in file.files if name != "options"}
        options = json.loads(str(file["options"]))
    x, y = arrays.pop("x"), arrays.pop("y")
    options["f"] = NETWORKS[options.pop("network")]
    weights = list(arrays.values())
    try:
        _, number, run, first, found = fastest(
            {
                number: problem(weights=weights, x=x, y=y, implementation=number, **options)
                for number in IMPLEMENTATIONS
            }
        )
    except RuntimeError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    np.savez(f"{folder}/found.npz", *found)
    print(json.dumps({"implementation": number, "first_s": first}), flush=True)
    for line in sys.stdin:
        print(timed(run, int(line))[0], flush=True)


def _pairs(weights):
    return list(zip(weights[::2], weights[1::2], strict=True))


if __name__ == "__main__":
    if sys.argv[1:]:
        main(sys.argv[1])
    else:
        print(f"Neural Tangents {nt.__version__}, JAX {jax.__version__}")
