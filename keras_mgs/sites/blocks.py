"""J in blocks, one per weight, and what is made of them: J itself, tr K and K = J Jᵀ."""

import math

import keras
from keras import ops

from keras_mgs import autodiff


class Factors:
    """The block `J[i, a] = Σ_s u[i, s]ᵀ δ[a, i, s]` of one weight, kept as its two factors.

    Several uses of one weight add before anything is squared: they are further positions.

    Args:
        u: features, (n, S, G, k).
        delta: cotangents, (q, n, S, G, c).
    """

    def __init__(self, u, delta):
        self.u, self.delta = u, delta
        _, self.positions, self.groups, self.k = u.shape
        self.c = delta.shape[-1]

    @property
    def is_outer_product(self):
        """Whether each row of J is one uᵀδ, so that sums of squares factorise."""
        return self.positions == 1 and self.groups == 1

    def jacobian(self):
        """(n, q, weight size)."""
        j = ops.einsum("nsgk,qnsgc->nqkgc", self.u, self.delta)
        return ops.reshape(j, (-1, self.delta.shape[0], self.k * self.groups * self.c))

    def sample_traces(self):
        """`‖J[i]‖²` per sample, (n,)."""
        if self.is_outer_product:
            features = ops.sum(ops.square(self.u), axis=(1, 2, 3))
            return features * ops.sum(ops.square(self.delta), axis=(0, 2, 3, 4))
        if self.positions * (self.k + self.c) < self.k * self.c:  # Gram over positions: no J
            uu = ops.einsum("nsgk,ntgk->ngst", self.u, self.u)
            dd = ops.einsum("qnsgc,qntgc->ngst", self.delta, self.delta)
            return ops.sum(uu * dd, axis=(1, 2, 3))
        j = ops.einsum("nsgk,qnsgc->nqgkc", self.u, self.delta)
        return ops.sum(ops.square(j), axis=(1, 2, 3, 4))

    def gram(self, other):
        """`J J'ᵀ`, (n, q, m, q')."""
        if not self.is_outer_product:
            return _gram(self.jacobian(), other.jacobian())
        uu = ops.matmul(self.u[:, 0, 0], ops.transpose(other.u[:, 0, 0]))
        dd = ops.einsum("anc,bmc->namb", self.delta[:, :, 0, 0], other.delta[:, :, 0, 0])
        return uu[:, None, :, None] * dd

    def cast(self, dtype):
        return Factors(ops.cast(self.u, dtype), ops.cast(self.delta, dtype))


class Explicit:
    """The block of one weight as it is, (n, q, weight size)."""

    def __init__(self, j):
        self.j = j

    def jacobian(self):
        return self.j

    def sample_traces(self):
        return ops.sum(ops.square(self.j), axis=(1, 2))

    def gram(self, other):
        return _gram(self.j, other.j)

    def cast(self, dtype):
        return Explicit(ops.cast(self.j, dtype))


def _gram(j, j2):
    n, q, _ = ops.shape(j)
    m, q2, _ = ops.shape(j2)
    flat = ops.matmul(
        ops.reshape(j, (-1, j.shape[2])), ops.transpose(ops.reshape(j2, (-1, j2.shape[2])))
    )
    return ops.reshape(flat, (n, q, m, q2))


def _block(sites, deltas):
    """The block of J that belongs to the one weight of `sites`, given ∂f/∂z of each."""
    deltas = [s.channels_last(d) for s, d in zip(sites, deltas, strict=True)]
    if sites[0].u is None:  # a bias: u is 1 at every position
        j = sum(ops.sum(d, axis=2) for d in deltas)
        return Explicit(
            ops.reshape(ops.swapaxes(j, 0, 1), (-1, j.shape[0], math.prod(j.shape[2:])))
        )
    if not sites[1:]:
        return Factors(sites[0].u, deltas[0])
    return Factors(ops.concatenate([s.u for s in sites], 1), ops.concatenate(deltas, 2))


def jacobian_blocks(tape, f, recording, coupled=False):
    """The blocks of J = ∂f/∂weights, in the order of the weights, of a recorded forward pass.

    Args:
        tape: the tape that recorded it.
        f: the raw outputs, (n, q).
        recording: a `Recording` of the same pass.
        coupled: whether a sample's output depends on the other samples; the vectorised pass over
            the q outputs is then wrong, and every weight takes the fallback.
    """
    recording.check(tape, f)
    if coupled:
        recording.leave_to_fallback(id(w) for w in recording.weights)
    recording.announce()
    sites = [recording.sites(w) for w in recording.weights]
    # Weights that share a z, as a kernel and its bias do, share its cotangent.
    z = {id(s.z): s.z for group in sites for s in group or ()}
    deltas = dict(zip(z, autodiff.cotangents(tape, f, list(z.values())), strict=True)) if z else {}
    rest = [w for w, group in zip(recording.weights, sites, strict=True) if group is None]
    jacobians = iter(autodiff.row_jacobian(tape, f, autodiff.values(rest)) if rest else ())

    def block(weight, group):
        if group is None:
            j = next(jacobians)
        elif not group:  # the weight took no part in this pass
            j = ops.zeros((*ops.shape(f), *weight.shape), f.dtype)
        else:
            return _block(group, [deltas[id(s.z)] for s in group])
        return Explicit(ops.reshape(j, (*ops.shape(f), math.prod(weight.shape))))

    # Layers may compute in dtypes of their own; half precision is too coarse for sums of squares.
    dtype = keras.backend.result_type(f.dtype, "float32")
    pairs = zip(recording.weights, sites, strict=True)
    return [block(w, group).cast(dtype) for w, group in pairs]
