"""A site: one place where a weight acts in a forward pass."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops


@dataclasses.dataclass(frozen=True)
class Site:
    """One use of `weight` in a forward pass: `z[i, s, g, :] = u[i, s, g, :] @ W[:, g, :] + …`.

    i counts samples, s positions (pixels, time steps), g groups (1 but for grouped convolutions
    and weights that act element by element). With δ the cotangent of z, the weight's rows of J are
    `J[i, a] = Σ_s u[i, s]ᵀ δ[a, i, s]`, (k, G, c).

    Attributes:
        weight: the `keras.Variable`.
        u: the features, (n, S, G, k); a `OneHot` of (n, S) indices; `Deferred`; None where they
            are 1.
        z: what the weight acts on, a tensor (n, …) or a tuple of them: their cotangents are what
            is needed of the network.
        delta: makes δ, (r, n, S, G, c), of the cotangents of z, (r, n, …) each.
        arrange: makes (…, *weight.shape) of (…, k, G, c); None: in C order that is it already.
        linear: a further map, from those rows flattened, (n, r, k·G·c), to (n, r, weight size), for
            weights that act through another one (LoRA).
    """

    weight: Any
    u: Any
    z: Any
    delta: Callable[..., Any]
    arrange: Callable[[Any], Any] | None = None
    linear: Callable[[Any], Any] | None = None

    @property
    def tensors(self) -> tuple[Any, ...]:
        """z as a tuple."""
        return self.z if isinstance(self.z, tuple) else (self.z,)

    def cast(self, dtype: str) -> "Site":
        """With features in `dtype`, written out."""
        u = written_out(self.u)
        u = u if u is None or isinstance(u, OneHot) else ops.cast(u, dtype)
        return dataclasses.replace(self, u=u)


@dataclasses.dataclass(frozen=True)
class OneHot:
    """Features that are 1 at one index and 0 elsewhere, as a table's are; never written out."""

    indices: Any
    size: int

    @property
    def shape(self) -> tuple[Any, ...]:
        return (*self.indices.shape, 1, self.size)


class Deferred(NamedTuple):
    """Features that are made when they are needed, such as patches, which overlap."""

    shape: tuple
    make: Callable


def written_out(u):
    """Features that are `Deferred`, made; all others as they are."""
    return u.make() if isinstance(u, Deferred) else u


class Shape(NamedTuple):
    """The sizes of a weight's factors: features (S, G, k) and cotangents (S, G, c) of a sample."""

    positions: int
    groups: int
    k: int
    c: int
    one_hot: bool = False

    @property
    def route(self):
        """The cheapest way to ‖J[i]‖².

        "outer product": each row of J is one uᵀδ, so the sum factorises; "gram": over the
        positions, without J; "rows": by the rows of J.
        """
        if self.positions == self.groups == 1:
            return "outer product"
        if self.positions is None:  # of a batch of unknown size, taken as one sample
            return "rows"
        pair = (1 if self.one_hot else self.k) + self.c
        return "gram" if self.positions * pair < self.k * self.c else "rows"

    def kernel_route(self, rows):
        """The cheapest way to `J[i] J[j]ᵀ` for two samples of `rows` rows of J each.

        The ways are those of `route`, but a table's one-hot rows are "gram" at one position, too.
        """
        if self.positions == self.groups == 1 and not self.one_hot:
            return "outer product"
        if self.positions is None or rows is None:
            return "rows"
        pair = (1 if self.one_hot else self.k) + rows * self.c
        over_positions = self.positions**2 * pair + rows**2 * self.positions * self.c
        return "gram" if over_positions < rows**2 * self.k * self.c else "rows"


def matrix(weight: keras.Variable, x: tf.Tensor, z: tf.Tensor) -> Site:
    """The site of `z = x @ weight`, x (n, …, k) and z (n, …, c)."""
    positions = math.prod(z.shape[1:-1])
    u = ops.reshape(x, (-1, positions, 1, x.shape[-1]))
    return Site(weight, u, z, lambda d: _reshape(d, (positions, 1, z.shape[-1])))


def elementwise(
    weight: keras.Variable,
    u: tf.Tensor | None,
    z: tf.Tensor,
    shape: tuple[int, ...] | None = None,
) -> Site:
    """The site of `z = u * weight`, or of `z = … + weight` where `u` is None.

    Args:
        shape: the weight's, as it broadcasts against a sample of z; None: against its last axes.
    """
    sample = z.shape[1:]
    shape = shape or (1,) * (len(sample) - len(weight.shape)) + tuple(weight.shape)
    kept = [i for i, size in enumerate(shape) if size != 1]
    summed = [i for i, size in enumerate(shape) if size == 1]

    def arrange(t):
        lead = len(t.shape) - len(sample)
        t = ops.transpose(t, [*range(lead), *(lead + i for i in (*summed, *kept))])
        sizes = [math.prod(sample[i] for i in axes) for axes in (summed, kept)]
        return _reshape(t, (*sizes, 1), lead)

    if u is not None:
        u = arrange(ops.broadcast_to(u, ops.shape(z)))
    return Site(weight, u, z, arrange)


def _reshape(t, sample, lead=2):
    return ops.reshape(t, (*ops.shape(t)[:lead], *sample))
