"""What MGS adds to a loss: tr K, log det K, and the paper's rival, the loss gradient's norm."""

import abc
import contextlib
import dataclasses
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_mgs import alpha as alphas
from keras_mgs import autodiff, checks, data, norms, parts, replicas
from keras_mgs.kernel import EPSILON, as_matrix, every_row, gram, regularised_log_det
from keras_mgs.outputs import raw_outputs
from keras_mgs.sites import jacobian_blocks, record

SAMPLES = 8  # of a batch that stand for it, in a projection


@dataclasses.dataclass
class ForwardPass:
    """One recorded forward pass, which the loss and its penalty share.

    Attributes:
        model: the network.
        x, outputs: what it was given and what it returned.
        f: its raw outputs, (n, q).
        tape: the tape that recorded the pass, and the loss where a penalty needs it.
        recording: the pass's sites; None where the penalty does not need them.
        seed: an integer tensor that differs from step to step.
        part: such a pass of the first samples alone; None where the penalty is of all.
        gauge: such a pass of the first `SAMPLES`; None where that is of all.
        loss: the loss, once it is known.
    """

    model: Any
    x: Any
    outputs: Any
    f: Any
    tape: Any
    recording: Any
    seed: Any
    part: Any = None
    gauge: Any = None
    loss: Any = None

    @property
    def weights(self):
        return autodiff.values(checks.weights(self.model))


class Penalty(abc.ABC):
    """Base of the penalties: `loss + alpha * value`, on one training step in `every`.

    A penalised step weighs the penalty `every` times, so that `alpha` means the same at any
    `every`. These are the steps 0, every, 2·every, …

    Subclasses define `value`, and `gauge` if they allow `alpha="auto"` and their `value` has noise
    that depends on settings.
    """

    needs_sites = False
    needs_inputs = False
    automatic = True

    def __init__(self, alpha, every):
        self.alpha = alphas.parse(alpha, self.automatic, type(self).__name__)
        self.every = checks.count("every", every)

    @contextlib.contextmanager
    def watching(self, model, x, seed, training=True):
        """Forward passes in this context are recorded: yields a function that runs one.

        It takes what to call, the model or what wraps it, and inputs other than `x` if need be.
        """
        with contextlib.ExitStack() as stack:
            recording = None
            if self.needs_sites:
                recording = stack.enter_context(record(model, x, training))
            stack.enter_context(autodiff.twice_differentiable())
            tape = stack.enter_context(autodiff.tape())
            if self.needs_inputs:
                autodiff.watch(tape, x)

            def forward(call, x=x):
                outputs = call(x, training=training)
                f = raw_outputs(outputs, model)
                return ForwardPass(model, x, outputs, f, tape, recording, seed)

            yield forward

    @abc.abstractmethod
    def value(self, run):
        """What is penalised, a scalar, differentiable once more; `run` is a `ForwardPass`."""

    @property
    def measures_itself(self):
        """Whether alpha="auto" measures the gradient of `value` itself, or of `gauge`.

        α must not depend on how noisy an estimate the settings make of the penalty.
        """
        return True

    def gauge(self, run):
        """What stands for `value` where it does not measure itself."""
        return self.value(run)

    def get_config(self):
        return {"alpha": alphas.serialize(self.alpha), "every": self.every}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        return _call(self)


class KernelPenalty(Penalty):
    """Base of the penalties of K, which need the outputs alone, and so no more than the model."""

    @autodiff.as_written
    def __call__(self, model, x, step, training=True):
        """Run the model, and say what to add to its loss: for a training loop of your own.

        `penalty = alpha * every * value` on the steps 0, every, 2·every, …, and 0 on the others.

        Args:
            model: a built `keras.Model`.
            x: its inputs, tensors.
            step: the number of the step, such as `optimizer.iterations`. Random projections are
                drawn from it and nothing else.
            training: whether the forward pass is that of training.

        Returns:
            (outputs, penalty): what `model(x, training=training)` returns, and a scalar of the
            outputs' dtype (at least float32), which a tape around this call differentiates.

        Raises:
            TypeError, ValueError: `model` is not a built Keras model with trainable weights, `x` is
                not data for it, or `alpha` is "auto", which only `MGSModel` can keep.

        Example:

        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> optimizer, penalty = keras.optimizers.SGD(), keras_mgs.TracePenalty(1e-3)
        >>> @tf.function
        ... def train_step(x, y):
        ...     with tf.GradientTape() as tape:
        ...         outputs, extra = penalty(model, x, optimizer.iterations)
        ...         loss = keras.ops.mean((outputs - y) ** 2) + extra
        ...     gradients = tape.gradient(loss, model.trainable_weights)
        ...     optimizer.apply(gradients, model.trainable_weights)
        ...     return loss
        >>> bool(train_step(tf.ones((8, 3)), tf.ones((8, 2))) > 0)
        True

        Reference: Szolnoky et al., NeurIPS 2022, section 5.
        """
        checks.model(model)
        checks.step(step)
        step = ops.cast(step, "int32")
        alpha = alphas.at(self.alpha, step)
        x = data.inputs("x", model, x)
        with self.watching(model, x, step, training) as forward:
            run = forward(model)
        dtype = keras.backend.result_type(run.f.dtype, "float32")

        def penalty():
            value = self.value(run)
            return ops.cast(self.every * ops.cast(alpha, value.dtype) * value, dtype)

        if self.every == 1:
            return run.outputs, penalty()
        acts = ops.equal(step % self.every, 0)
        return run.outputs, tf.cond(acts, penalty, lambda: ops.zeros((), dtype))


@keras.saving.register_keras_serializable(package="keras_mgs")
class TracePenalty(KernelPenalty):
    """Penalises the trace of the MGS kernel: `loss + alpha * tr K`, tr K summed over the batch.

    `estimator="hutchinson"` draws v uniformly from {−1, +1}^(m×q) for the first m samples of a
    batch of n, and takes `n/m · ‖∇_θ Σ_ia v[i, a] f_a(x_i)‖²`, whose expectation over v and over
    shuffled batches is tr K: one more gradient, for any model and any layer. As few dominant
    eigenvalues of K make up most of its trace, m samples say nearly as much as n (README). They
    run through the network once more, with the random masks that they have in the whole batch.
    `"exact"` computes tr K itself.

    Args:
        alpha: the penalty's weight, a number ≥ 0; a `keras.optimizers.schedules` object; or "auto":
            chosen in training, so that the penalty's gradient balances the loss's (see `MGSModel`).
            tr K grows with the batch, so a number of your own belongs to a batch size.
        estimator: "hutchinson" or "exact".
        probes: projections averaged in one step ("hutchinson" only).
        every: the penalty acts on one step in `every`, with `every` times the weight.
        samples: m ("hutchinson" only); None: all. A network with batch statistics to differentiate,
            with Gaussian noise, or made for one batch size takes all. A layer of your own that
            mixes samples cannot be noticed, and batches in an order of their own (by class, say)
            are no shuffled ones: None is right there.

    Raises:
        TypeError, ValueError: an argument is none of these.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> mgs = keras_mgs.MGSModel(model, penalty=keras_mgs.TracePenalty(1e-5, probes=2))
    >>> mgs.penalty
    TracePenalty(alpha=1e-05, every=8, estimator='hutchinson', probes=2, samples=8)

    Reference: Szolnoky et al., NeurIPS 2022, section 5.
    """

    def __init__(self, alpha="auto", estimator="hutchinson", probes=1, every=8, samples=SAMPLES):
        super().__init__(alpha, every)
        self.estimator = checks.choice("estimator", estimator, ("hutchinson", "exact"))
        self.probes = checks.count("probes", probes)
        self.samples = samples if samples is None else checks.count("samples", samples)
        self.needs_sites = estimator == "exact"

    @contextlib.contextmanager
    def watching(self, model, x, seed, training=True):
        def separable(samples):
            return parts.separable(model, x, samples, training)

        noisy = self.estimator == "hutchinson"
        part = self.samples if noisy and self.samples and separable(self.samples) else None
        gauge = SAMPLES if self.alpha == alphas.AUTO and separable(SAMPLES) else None
        with super().watching(model, x, seed, training) as forward:

            def with_parts(call):
                passes: dict = {None: None}
                # First, and without a trace: the whole batch draws the same masks.
                for size in {part, gauge} - {None}:
                    with keras.StatelessScope():
                        passes[size] = forward(call, parts.first(x, size))
                run = forward(call)
                return dataclasses.replace(run, part=passes[part], gauge=passes[gauge])

            yield with_parts

    def value(self, run):
        if self.estimator == "exact":
            return sum(ops.sum(b.sample_traces()) for b in _blocks(run))
        return self._projections(run, run.part or run, self.probes)

    @property
    def measures_itself(self):
        return (self.estimator, self.probes, self.samples) == ("hutchinson", 1, SAMPLES)

    def gauge(self, run):
        return self._projections(run, run.gauge or run, 1)

    def _projections(self, run, part, probes):
        value = sum(_projection(part, i) for i in range(probes)) / probes
        n, m = (ops.cast(ops.shape(r.f)[0], value.dtype) for r in (run, part))
        return n / m * value

    def get_config(self):
        own = {"estimator": self.estimator, "probes": self.probes, "samples": self.samples}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="keras_mgs")
class LogDetPenalty(KernelPenalty):
    """Penalises the log determinant of the MGS kernel: `loss + alpha * log det(K + ε I)`, exactly.

    ε is `epsilon * tr K / (n*q)`; K is that of the batch, (n*q, n*q), in float64.

    Args:
        alpha: the penalty's weight, a number ≥ 0, or a `keras.optimizers.schedules` object. There
            is no "auto": by the rule of `TracePenalty`, with the gradient of log det K in place of
            that of tr K, a network died (README). Small numbers first.
        epsilon: positive; relative to the mean eigenvalue of K.
        every: the penalty acts on one step in `every`, with `every` times the weight.

    Raises:
        TypeError, ValueError: an argument is none of these.

    Example:

    >>> keras_mgs.LogDetPenalty(1e-4)
    LogDetPenalty(alpha=0.0001, every=1, epsilon=1e-06)

    Reference: Szolnoky et al., NeurIPS 2022, section 5.
    """

    needs_sites = True
    automatic = False

    def __init__(self, alpha, epsilon=EPSILON, every=1):
        super().__init__(alpha, every)
        self.epsilon = checks.positive("epsilon", epsilon)

    def value(self, run):
        blocks = _blocks(run)
        return regularised_log_det(as_matrix(gram(blocks, blocks, "float64")), self.epsilon)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="keras_mgs")
class LossGradientPenalty(Penalty):
    """Penalises the squared norm of the loss's gradient: `loss + alpha * ‖∇ loss‖²`.

    The rival that the paper compares with (double back-propagation; Drucker and LeCun, 1991).

    Args:
        alpha: the penalty's weight, a number ≥ 0, or a `keras.optimizers.schedules` object.
        wrt: "weights": the gradient with respect to the trainable weights; "inputs": that with
            respect to the model's inputs.
        every: the penalty acts on one step in `every`, with `every` times the weight.

    Raises:
        TypeError, ValueError: an argument is none of these.

    Example:

    >>> keras_mgs.LossGradientPenalty(0.3)
    LossGradientPenalty(alpha=0.3, every=1, wrt='weights')

    Reference: Szolnoky et al., NeurIPS 2022, sections 2 and 6.
    """

    automatic = False

    def __init__(self, alpha, wrt="weights", every=1):
        super().__init__(alpha, every)
        self.wrt = checks.choice("wrt", wrt, ("weights", "inputs"))
        self.needs_inputs = wrt == "inputs"

    @contextlib.contextmanager
    def watching(self, model, x, seed, training=True):
        dtypes = {keras.backend.standardize_dtype(t.dtype) for t in keras.tree.flatten(x)}
        if self.needs_inputs and any("float" not in dtype for dtype in dtypes):
            raise TypeError(
                'LossGradientPenalty(wrt="inputs") needs inputs that a gradient can be taken of, '
                f"so floating-point ones. Received: inputs of dtype {', '.join(sorted(dtypes))}. "
                'Convert them, or use wrt="weights".'
            )
        with super().watching(model, x, seed, training) as forward:
            yield forward

    def value(self, run):
        sources = run.weights if self.wrt == "weights" else keras.tree.flatten(run.x)
        return norms.of_products(autodiff.gradient(run.tape, run.loss, sources, dense=False))

    def get_config(self):
        return {**super().get_config(), "wrt": self.wrt}


def _projection(run, index):
    """`‖∇_θ Σ_ia v[i, a] f[i, a]‖²` for random signs v: tr K in expectation."""
    index = index * replicas.count() + replicas.index()  # each replica draws its own
    signs = autodiff.random_signs(ops.shape(run.f), run.f.dtype, ops.stack([run.seed, index]))
    gradient = autodiff.gradient(run.tape, run.f, run.weights, signs, dense=False)
    return norms.of_products(gradient)


def _call(configured):
    """The call that makes an object, from its configuration."""
    options = {k: getattr(configured, k, v) for k, v in configured.get_config().items()}
    words = (f"{k}={_call(v) if callable(v) else repr(v)}" for k, v in options.items())
    return f"{type(configured).__name__}({', '.join(words)})"


def _blocks(run):
    rows = every_row(run.f, run.recording.coupled)
    return jacobian_blocks(run.tape, run.f, run.recording, rows)


def get(penalty, alpha=None):
    """A `Penalty`, by name ("trace", "log_det") or as it is."""
    if isinstance(penalty, Penalty):
        if alpha is not None:
            raise ValueError(
                "Expected `alpha` in the penalty object or as an argument, not both. "
                f"Received: penalty={penalty!r}, alpha={alpha!r}."
            )
        return penalty
    names = {"trace": TracePenalty, "log_det": LogDetPenalty}
    if not isinstance(penalty, str) or penalty not in names:
        raise ValueError(
            "Expected `penalty` to be 'trace', 'log_det' or a keras_mgs penalty object. "
            f"Received: penalty={penalty!r}."
        )
    return names[penalty]("auto" if alpha is None else alpha)
