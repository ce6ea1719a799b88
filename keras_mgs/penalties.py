"""What is added to a loss: tr K, log det K, and the paper's rivals, two other norms."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_mgs import alpha as alphas
from keras_mgs import autodiff, checks, norms, parts, replicas
from keras_mgs.gram import EPSILON, as_matrix, gram, regularised_log_det, regularised_norm
from keras_mgs.penalty import ForwardPass, KernelPenalty, Penalty
from keras_mgs.rows import every_row
from keras_mgs.sites import jacobian_blocks
from keras_mgs.types import Alpha, Data

SAMPLES = 8  # that a projection takes of a batch


@keras.saving.register_keras_serializable(package="keras_mgs")
class TracePenalty(KernelPenalty):
    """Penalises the trace of the MGS kernel: `loss + alpha * tr K`, tr K summed over the batch.

    `estimator="hutchinson"` draws v uniformly from {−1, +1}^(m×q) for the first m samples of a
    batch of n, and takes `n/m · ‖∇_θ Σ_ia v[i, a] f_a(x_i)‖²`, whose expectation over v and over
    shuffled batches is tr K: one more gradient, for any model and any layer. As few dominant
    eigenvalues of K make up most of its trace, m samples say nearly as much as n (docs/method.md).
    They run through the network once more, with the random masks that they have in the whole batch.
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

    def __init__(
        self,
        alpha: Alpha = "auto",
        estimator: str = "hutchinson",
        probes: int = 1,
        every: int = 8,
        samples: int | None = SAMPLES,
    ) -> None:
        super().__init__(alpha, every)
        self.estimator = checks.choice("estimator", estimator, ("hutchinson", "exact"))
        self.probes = checks.count("probes", probes)
        self.samples = samples if samples is None else checks.count("samples", samples)
        self.needs_sites = estimator == "exact"

    @contextlib.contextmanager
    def watching(
        self, model: keras.Model, x: Data, seed: tf.Tensor, training: bool = True
    ) -> Iterator[Callable[..., ForwardPass]]:
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

    def value(self, run: ForwardPass) -> tf.Tensor:
        if self.estimator == "exact":
            return sum(ops.sum(b.sample_traces()) for b in _blocks(run))
        return self._projections(run, run.part or run, self.probes)

    @property
    def measures_itself(self) -> bool:
        return (self.estimator, self.probes, self.samples) == ("hutchinson", 1, SAMPLES)

    def gauge(self, run: ForwardPass) -> tf.Tensor:
        return self._projections(run, run.gauge or run, 1)

    def _projections(self, run, part, probes):
        n, m = (ops.shape(r.f)[0] for r in (run, part))
        if part is not run and not isinstance(n, int):
            m = ops.minimum(n, m)  # further ones only fill the part up
        value = tf.add_n([_projection(part, m, i) for i in range(probes)])
        return ops.cast(n, value.dtype) / ops.cast(m * probes, value.dtype) * value

    def get_config(self) -> dict[str, Any]:
        own = {"estimator": self.estimator, "probes": self.probes, "samples": self.samples}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="keras_mgs")
class LogDetPenalty(KernelPenalty):
    """Penalises the log determinant of the MGS kernel: `loss + alpha * log det(K + ε I)`, exactly.

    ε is `epsilon * tr K / (n*q)`; K is that of the batch, (n*q, n*q), in float64.

    Args:
        alpha: the penalty's weight, a number ≥ 0, or a `keras.optimizers.schedules` object. There
            is no "auto": by the rule of `TracePenalty`, with the gradient of log det K in place of
            that of tr K, a network died (docs/guide/alpha.md). Small numbers first.
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

    def __init__(self, alpha: Alpha, epsilon: float = EPSILON, every: int = 1) -> None:
        super().__init__(alpha, every)
        self.epsilon = checks.positive("epsilon", epsilon)

    def value(self, run: ForwardPass) -> tf.Tensor:
        return regularised_log_det(_kernel_of(run), self.epsilon)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="keras_mgs")
class RKHSPenalty(KernelPenalty):
    """Penalises the network's norm in its kernel's space: `loss + alpha * fᵀ (K + ε I)⁻¹ f`.

    f are the raw outputs of the batch, (n*q,), sample by sample, less each output's mean over the
    batch; ε is `epsilon * tr K / (n*q)`; K is that of the batch, (n*q, n*q). All of it is exact, in
    float64. The norm in the reproducing kernel Hilbert space (RKHS) of K measures how complex a
    function is to kernel ridge regression: small where f moves the samples as K couples them, large
    where it tells samples apart that K takes for alike. Where K is singular, as it is whenever n·q
    exceeds the number of weights, what f has in the directions that K lacks counts 1/ε times its
    square, so that `epsilon` sets the scale of the penalty.

    Args:
        alpha: the penalty's weight, a number ≥ 0, or a `keras.optimizers.schedules` object. There
            is no "auto".
        epsilon: positive; relative to the mean eigenvalue of K.
        every: the penalty acts on one step in `every`, with `every` times the weight.
        differentiate_kernel: whether K follows the weights in the penalty's gradient. If not, K is
            a constant of each step, which costs less, and the penalty moves f alone. If so, the
            penalty also shrinks by a larger K, which is what `TracePenalty` works against.

    Raises:
        TypeError, ValueError: an argument is none of these.

    Example:

    >>> keras_mgs.RKHSPenalty(1e-4)
    RKHSPenalty(alpha=0.0001, every=1, epsilon=1e-06, differentiate_kernel=False)

    Reference: Szolnoky et al., NeurIPS 2022, supplement A.5, which gives no formula and found such
    penalties too costly to run; Bietti et al., "A kernel perspective for regularizing deep neural
    networks", ICML 2019.
    """

    needs_sites = True
    automatic = False

    def __init__(
        self,
        alpha: Alpha,
        epsilon: float = EPSILON,
        every: int = 1,
        differentiate_kernel: bool = False,
    ) -> None:
        super().__init__(alpha, every)
        self.epsilon = checks.positive("epsilon", epsilon)
        self.differentiate_kernel = checks.flag("differentiate_kernel", differentiate_kernel)

    def value(self, run: ForwardPass) -> tf.Tensor:
        k = _kernel_of(run)
        f = ops.cast(run.f, k.dtype)
        f = ops.reshape(f - ops.mean(f, axis=0), (-1,))
        if not self.differentiate_kernel:
            k = ops.stop_gradient(k)
        return regularised_norm(k, f, self.epsilon)

    def get_config(self) -> dict[str, Any]:
        own = {"epsilon": self.epsilon, "differentiate_kernel": self.differentiate_kernel}
        return {**super().get_config(), **own}


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

    def __init__(self, alpha: Alpha, wrt: str = "weights", every: int = 1) -> None:
        super().__init__(alpha, every)
        self.wrt = checks.choice("wrt", wrt, ("weights", "inputs"))
        self.needs_inputs = wrt == "inputs"

    @contextlib.contextmanager
    def watching(
        self, model: keras.Model, x: Data, seed: tf.Tensor, training: bool = True
    ) -> Iterator[Callable[..., ForwardPass]]:
        dtypes = {keras.backend.standardize_dtype(t.dtype) for t in keras.tree.flatten(x)}
        if self.needs_inputs and any("float" not in dtype for dtype in dtypes):
            raise TypeError(
                'LossGradientPenalty(wrt="inputs") needs inputs that a gradient can be taken of, '
                f"so floating-point ones. Received: inputs of dtype {', '.join(sorted(dtypes))}. "
                'Convert them, or use wrt="weights".'
            )
        with super().watching(model, x, seed, training) as forward:
            yield forward

    def value(self, run: ForwardPass) -> tf.Tensor:
        sources = run.weights if self.wrt == "weights" else keras.tree.flatten(run.x)
        return norms.of_products(autodiff.gradient(run.tape, run.loss, sources, dense=False))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "wrt": self.wrt}


def _projection(run, samples, index):
    """`‖∇_θ Σ_ia v[i, a] f[i, a]‖²` for random signs v: tr K in expectation.

    i counts the first `samples`, an integer, or a tensor where a graph does not know it.
    """
    index = index * replicas.count() + replicas.index()  # each replica draws its own
    signs = autodiff.random_signs(ops.shape(run.f), run.f.dtype, ops.stack([run.seed, index]))
    if run.f.shape[0] is not None and not isinstance(samples, int):
        counts = ops.arange(run.f.shape[0], dtype="int32") < samples
        signs *= ops.cast(counts, signs.dtype)[:, None]
    gradient = autodiff.gradient(run.tape, run.f, run.weights, signs, dense=False)
    return norms.of_products(gradient)


def _blocks(run):
    rows = every_row(run.f, run.recording.coupled)
    return jacobian_blocks(run.tape, run.f, run.recording, rows)


def _kernel_of(run):
    """K of the batch, (n*q, n*q), in double precision."""
    blocks = _blocks(run)
    return as_matrix(gram(blocks, blocks, "float64"))


def get(penalty, alpha=None):
    """A `Penalty`, by name ("trace", "log_det", "rkhs") or as it is."""
    if isinstance(penalty, Penalty):
        if alpha is not None:
            raise ValueError(
                "Expected `alpha` in the penalty object or as an argument, not both. "
                f"Received: penalty={penalty!r}, alpha={alpha!r}."
            )
        return penalty
    names = {"trace": TracePenalty, "log_det": LogDetPenalty, "rkhs": RKHSPenalty}
    if not isinstance(penalty, str) or penalty not in names:
        raise ValueError(
            "Expected `penalty` to be 'trace', 'log_det', 'rkhs' or a keras_mgs penalty object. "
            f"Received: penalty={penalty!r}."
        )
    return names[penalty]("auto" if alpha is None else alpha)
