"""One case of the benchmark, in a process of its own, whose compilation and memory are its own.

`python -m keras_mgs.benchmark.case CASE` takes a `Case` and prints its numbers, as JSON.
"""

import contextlib
import dataclasses
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_mgs
from keras_mgs.benchmark import agreement, memory
from keras_mgs.benchmark.agreement import LOSS
from keras_mgs.callbacks import METRICS
from keras_mgs.experiments.training import networks
from keras_mgs.experiments.training.fitting import Clock
from keras_mgs.experiments.training.methods import METHODS
from keras_mgs.kernel import EPSILON
from keras_mgs.kernel import measure as metrics

NETWORKS = {
    "lenet5": (networks.lenet5, (28, 28, 1)),
    "fcn": (networks.fcn, (28, 28, 1)),
    "alexnet": (networks.alexnet, (28, 28, 1)),
    "resnet18": (networks.resnet18, (32, 32, 3)),
    "transformer": (networks.transformer, (64, 64)),
}
PENALTIES = {
    "loss_gradient": lambda: keras_mgs.LossGradientPenalty(METHODS["loss_gradient"].strength),
    "hutchinson": lambda: keras_mgs.TracePenalty(every=1),
    "hutchinson_8": keras_mgs.TracePenalty,
    "exact_trace": lambda: keras_mgs.TracePenalty(estimator="exact", every=1),
    "exact_log_det": lambda: keras_mgs.LogDetPenalty(1e-5),
    "epoch": keras_mgs.TracePenalty,
}
PEER = (("lenet5", "fcn"), ("exact_trace", "exact_log_det", "kernel"))  # that the peer can do
PLAIN = {"epoch": "plain_epoch"}  # what a first step is compared with, other than "plain"
WHAT = ("plain", *PLAIN.values(), *PENALTIES, "kernel", "metrics")
STEPS = 94  # of the epoch: 3000 samples in batches of 32
# Two ways to one number differ by the rounding of float32, 6e-8, in each of the thousands of terms
# of its sums; by the worst of those seen, some hundred times that.
TOLERANCE = 1e-4
_BLOCK = 0.05  # seconds that what is timed at a time lasts at least
_ALPHA = 1e-3  # loss and penalty weigh about the same


@dataclasses.dataclass(frozen=True)
class Case:
    """What to measure.

    Attributes:
        network, what: a key of `NETWORKS` and one of `WHAT`.
        xla: whether XLA compiles it.
        batch_size, outputs: n and q.
        widths: units of the hidden layers of "fcn", where they are others than its own.
        rounds: blocks that are timed, at most.
        seconds: the time limit, at which the parent ends the process.
        memory: gigabytes that it may take; None: three quarters of what is free.
        peer: a Python that has Neural Tangents, to compare with that; None: with a plain step.
    """

    network: str
    what: str
    xla: bool = False
    batch_size: int = 32
    outputs: int = 10
    widths: tuple | None = None
    rounds: int = 25
    seconds: float = 300.0
    memory: float | None = None
    peer: str | None = None


def measure(case):
    """Measure one case in turn with a plain training step, or epoch, of the same network.

    The learning rate is 0, so that every step finds the same weights, and its numbers can be
    compared. What is timed is the function that `fit` calls at every step, on tensors that are in
    place, so without `fit`'s own Python; of epochs it is those of `fit` itself. Beside a
    peer it is one compiled function on both sides: K, or the gradient of the loss with the penalty.

    Args:
        case: a `Case`.

    Returns:
        A dict: against, the other side; ms and other_ms (medians), ratio (the median of those of
        the pairs), each with its _spread (between the quartiles); rounds; first_s, seconds of the
        first step, which traces and compiles; memory_mb, by how much the first steps raise the
        peak of what the process holds in main memory (Linux only); difference, the largest relative
        one between the numbers and the same by plain gradients, without XLA, or by the peer.
    """
    until = time.monotonic() + 0.6 * case.seconds
    build, shape = NETWORKS[case.network]
    if case.widths:
        build = _with_widths(build, case.widths)
    rng = np.random.default_rng(0)
    size = case.batch_size * (STEPS if _is_epoch(case) else 1)
    x = tf.constant(rng.normal(size=(size, *shape)), "float32")
    y = tf.constant(rng.integers(case.outputs, size=size))
    keras.utils.set_random_seed(0)
    model = build(shape, case.outputs)
    before = memory.now()
    ours = _ours(case, model, x, y)
    first = ours.first()
    found = ours.found
    ours.prepare()
    used = np.maximum(memory.peak() - before, 0.0)  # Linux counts in steps
    batch = x[: case.batch_size], y[: case.batch_size]
    with contextlib.ExitStack() as stack:
        if case.peer:
            other = stack.enter_context(_peer(case, model, *batch))
            pairs = zip([found] if case.what == "kernel" else found, other.found, strict=True)
        else:
            network = build(shape, case.outputs)
            network.set_weights(model.get_weights())
            other = _trained(network, x, y, case)
            other.first()
            pairs = agreement.pairs(case.what, found, model, *batch)
        difference = agreement.difference(pairs)
        other.prepare()
        seconds = _in_turn((ours, other), case.rounds, until)
    return {
        "against": other.name,
        **_median("ms", 1e3 * seconds[:, 0]),
        **_median("other_ms", 1e3 * seconds[:, 1]),
        **_median("ratio", seconds[:, 0] / seconds[:, 1]),
        "rounds": len(seconds),
        "first_s": first,
        "memory_mb": used,
        "difference": difference,
    }


class _Timed:
    """`run`, timed in blocks of `cycle` runs or a multiple; `found` is what it returned last."""

    name = "plain"

    def __init__(self, run, cycle=1):
        self.run, self.cycle, self.found = run, cycle, None

    def first(self):
        """Seconds of the first run."""
        return self.block(1)

    def prepare(self):
        """Choose how many runs are a block."""
        self.count = self.cycle * math.ceil(_BLOCK / self.block(self.cycle))

    def block(self, count):
        """Seconds of `count` runs."""
        start = time.perf_counter()
        for _ in range(count):
            self.found = self.run()
        np.asarray(keras.tree.flatten(self.found)[0])  # waits for a device that runs ahead
        return time.perf_counter() - start


class _Epochs(_Timed):
    """`fit`, timed in epochs, without what it does once."""

    def __init__(self, model, x, y, batch_size):
        super().__init__(self._fit)
        self.model, self.data, self.batch_size = model, (x, y), batch_size

    def _fit(self, epochs=1, size=None):
        x, y = (d[:size] for d in self.data)
        clock = Clock()
        options = {"batch_size": self.batch_size, "epochs": epochs, "verbose": 0}
        self.found = self.model.fit(x, y, callbacks=[clock], **options).history
        return sum(clock.seconds)

    def first(self):
        return self._fit(size=self.batch_size)

    def block(self, count):
        return self._fit(count)


class _Peer(_Timed):
    """Neural Tangents, which runs when it is asked to."""

    def __init__(self, process, folder):
        super().__init__(None)
        self.process = process
        said = json.loads(self.process.stdout.readline() or '{"error": "it ended at once"}')
        if "error" in said:
            raise RuntimeError(f"Neural Tangents: {said['error']}")
        self.name = f"neural-tangents (implementation {said['implementation']})"
        with np.load(folder / "found.npz", allow_pickle=False) as file:
            self.found = [file[name] for name in file.files]

    def block(self, count):
        print(count, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


@contextlib.contextmanager
def _peer(case, model, x, y):
    """The peer, on the weights and data that are given."""
    options = {"network": case.network, "what": case.what, "alpha": _ALPHA, "epsilon": EPSILON}
    arrays = {f"w{i}": w for i, w in enumerate(model.get_weights())}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        np.savez(folder / "problem.npz", x=x, y=y, options=json.dumps(options), **arrays)
        command = [case.peer, "-I", str(Path(__file__).with_name("peer.py")), place]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            try:
                yield _Peer(process, folder)
            finally:
                process.kill()


def _gradient(case, model, x, y):
    """The penalty, and the gradient of the loss with it, as a function compiled by itself."""
    penalty = {
        "exact_trace": keras_mgs.TracePenalty(_ALPHA, "exact", every=1),
        "exact_log_det": keras_mgs.LogDetPenalty(_ALPHA),
    }[case.what]

    @tf.function(autograph=False, jit_compile=case.xla)
    def run():
        with tf.GradientTape() as tape:
            outputs, extra = penalty(model, x, 0)
            loss = LOSS(y, outputs) + extra
        return [extra / _ALPHA, *tape.gradient(loss, [w.value for w in model.trainable_weights])]

    return _Timed(run)


def _is_epoch(case):
    return case.what.endswith("epoch")


def _with_widths(build, widths):
    return lambda shape, outputs: build(shape, outputs, widths=widths)


def _ours(case, model, x, y):
    """What is measured."""
    if case.peer and case.what != "kernel":
        return _gradient(case, model, x, y)
    if case.what in PENALTIES:
        penalty = PENALTIES[case.what]()
        mgs = keras_mgs.MGSModel(model, penalty)
        if penalty.alpha == "auto" and case.what != "epoch":
            mgs.alpha = _ALPHA  # or the penalty would wait, and could not be held against anything
        return _trained(mgs, x, y, case, penalty.every)
    if case.what == "kernel":
        run = lambda: keras_mgs.kernel(model, x)  # noqa: E731
        return _Timed(tf.function(run, autograph=False, jit_compile=True) if case.xla else run)
    if case.what == "metrics":
        return _Timed(lambda: metrics(model, x, METRICS, False, case.batch_size))
    return _trained(model, x, y, case)


def _trained(model, x, y, case, cycle=1):
    """Training steps, or epochs."""
    model.compile(keras.optimizers.SGD(0.0), LOSS, jit_compile=case.xla)
    if _is_epoch(case):
        return _Epochs(model, x, y, case.batch_size)
    model.make_train_function()
    return _Timed(lambda: model.train_function([(x, y)]), cycle)


def _in_turn(sides, rounds, until):
    """Seconds of a run of each side, (rounds, sides); who goes first changes with every round.

    After `until` no more than three rounds are made.
    """
    seconds: list[list[float]] = []
    while len(seconds) < rounds and (len(seconds) < 3 or time.monotonic() < until):
        order = sides if len(seconds) % 2 else sides[::-1]
        blocks = {side: side.block(side.count) / side.count for side in order}
        seconds.append([blocks[side] for side in sides])
    return np.array(seconds)


def _median(name, values):
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {name: middle, f"{name}_spread": high - low}


def main(argument):
    """Measure the case that the argument describes; print its numbers, or why there are none."""
    case = Case(**json.loads(argument))
    memory.keep_to(case.memory)
    try:
        row = measure(case)
    except Exception as error:  # whatever TensorFlow raises, and it has much to say
        row = {"note": f"{type(error).__name__}: {error}".strip().splitlines()[0]}
    print(json.dumps(row))


if __name__ == "__main__":
    main(sys.argv[1])
