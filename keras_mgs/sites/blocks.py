"""J in blocks, one per weight, and what is made of them: J itself, tr K and K = J Jᵀ."""

import dataclasses
import functools
import math

import keras
from keras import ops

from keras_mgs import autodiff
from keras_mgs.sites.fallback import by_copies_if_right
from keras_mgs.sites.site import OneHot, Shape


class Factors:
    """The block `J[i, a] = Σ_s u[i, s]ᵀ δ[a, i, s]` of one weight, kept as its two factors.

    Several uses of one weight add before anything is squared: they are further positions.

    Args:
        u: features, (n, S, G, k), or `OneHot`.
        delta: cotangents, (r, n, S, G, c).
        arrange: as in `Site`.
    """

    def __init__(self, u, delta, arrange=None):
        self.u, self.delta, self.arrange = u, delta, arrange
        _, positions, groups, k = u.shape
        self.shape = Shape(positions, groups, k, delta.shape[-1], isinstance(u, OneHot))
        self._products = {}

    def jacobian(self):
        """(n, r, weight size)."""
        j = self._sum()
        n, groups, _, k = ops.shape(j)
        j = ops.reshape(j, (n, groups, -1, self.shape.c, k))
        j = ops.transpose(j, (0, 2, 4, 1, 3))
        if self.arrange is not None:
            j = self.arrange(j)
        return ops.reshape(j, (*ops.shape(j)[:2], self.shape.k * self.shape.groups * self.shape.c))

    def sample_traces(self):
        """`‖J[i]‖²` per sample, (n,)."""
        if self.shape.route == "outer product":
            if isinstance(self.u, OneHot):
                return self.squares
            return ops.sum(ops.square(self.u), axis=(1, 2, 3)) * self.squares
        if self.shape.route == "gram":
            dd = ops.einsum("rnsgc,rntgc->ngst", self.delta, self.delta)
            return ops.sum(self._feature_gram() * dd, axis=(1, 2, 3))
        return ops.sum(ops.square(self._sum()), axis=(1, 2, 3))

    def gram(self, other, dtype):
        """`J J'ᵀ`, (n, r, m, r'), its products in `dtype`."""
        route = self.shape.kernel_route(self.delta.shape[0])
        if route == "gram":
            return self._gram_over_positions(other, dtype)
        if route == "rows":
            return _products(_both(Factors._rows, self, other), dtype)
        return _products(_both(lambda b: b.u[:, 0], self, other), dtype) * self.products(
            other, dtype
        )

    def joined(self, r):
        """The block with the r rows of each sample as one: its outputs as further channels."""
        _, n, positions, groups, c = ops.shape(self.delta)
        delta = ops.reshape(self.delta, (-1, r, n, positions, groups, c))
        delta = ops.transpose(delta, (0, 2, 3, 4, 1, 5))
        delta = ops.reshape(delta, (-1, n, positions, groups, r * self.shape.c))
        return Factors(self.u, delta)

    @functools.cached_property
    def squares(self):
        """`‖δ[i]‖²` per sample, (n,)."""
        return ops.sum(ops.square(self.delta), axis=(0, 2, 3, 4))

    def products(self, other, dtype):
        """δ δ'ᵀ at the one position, (n, r, m, r'); kept, for a bias has the same."""
        key = id(other), dtype
        if key not in self._products:
            delta = _both(lambda b: ops.swapaxes(b.delta[:, :, 0, 0], 0, 1), self, other)
            self._products[key] = _products(delta, dtype)
        return self._products[key]

    def _gram_over_positions(self, other, dtype):
        """Σ_st (u[i, s] · u'[j, t]) (δ[a, i, s] · δ'[b, j, t]), one sample i after the other."""

        def factors(block):
            delta = ops.cast(ops.transpose(block.delta, (1, 0, 3, 2, 4)), dtype)
            if isinstance(block.u, OneHot):
                return block.u.indices[:, None], delta
            return ops.cast(ops.swapaxes(block.u, 1, 2), dtype), delta

        (u, delta), (u2, delta2) = _both(factors, self, other)
        n, r, *_ = ops.shape(delta)
        m, r2, *_ = ops.shape(delta2)
        size = math.prod(delta.shape[2:])

        def of_sample(found):
            u, delta = found
            if isinstance(self.u, OneHot):
                uu = ops.cast(u[None, :, :, None] == u2[:, :, None, :], dtype)
            else:
                uu = ops.einsum("gsk,mgtk->mgst", u, u2)
            # Σ_t (u[i, s] · u'[j, t]) δ'[b, j, t], at the positions s of sample i.
            spread = ops.reshape(ops.matmul(uu[:, None], delta2), (m * r2, size))
            return ops.matmul(ops.reshape(delta, (r, size)), ops.transpose(spread))

        return ops.reshape(autodiff.one_by_one(of_sample, (u, delta), dtype), (n, r, m, r2))

    def _rows(self):
        """J with its columns in another order, (n, r, weight size): no copy if G is 1."""
        j = self._sum()
        n, groups, _, k = ops.shape(j)
        j = ops.reshape(j, (n, groups, -1, self.shape.c * k))
        if groups != 1:
            j = ops.swapaxes(j, 1, 2)
        return ops.reshape(j, (n, -1, groups * self.shape.c * k))

    def _sum(self):
        """Σ_s δuᵀ, (n, G, r·c, k): for each sample and group one product of matrices."""
        delta = ops.transpose(self.delta, (1, 3, 0, 4, 2))
        n, groups, r, c, positions = ops.shape(delta)
        delta = ops.reshape(delta, (n, groups, r * c, positions))
        if isinstance(self.u, OneHot):
            u = ops.one_hot(self.u.indices, self.u.size, dtype=delta.dtype)[:, None]
        else:
            u = ops.swapaxes(self.u, 1, 2)
        if self.shape.k == self.shape.c == 1:
            return ops.sum(ops.swapaxes(u, 2, 3) * delta, axis=3)[..., None]
        return ops.matmul(delta, u)

    def _feature_gram(self):
        """u uᵀ over the positions, (n, G, S, S)."""
        if isinstance(self.u, OneHot):
            same = self.u.indices[:, None, :, None] == self.u.indices[:, None, None, :]
            return ops.cast(same, self.delta.dtype)
        return ops.einsum("nsgk,ntgk->ngst", self.u, self.u)


class Explicit:
    """The block of one weight as it is, (n, r, weight size)."""

    def __init__(self, j):
        self.j = j

    def jacobian(self):
        return self.j

    def sample_traces(self):
        return ops.sum(ops.square(self.j), axis=(1, 2))

    def joined(self, r):
        """The block with the r rows of each sample as one."""
        n, _, size = ops.shape(self.j)
        return Explicit(ops.reshape(self.j, (n, -1, r * size)))

    def gram(self, other, dtype):
        return _products(_both(Explicit.jacobian, self, other), dtype)


class Bias(Explicit):
    """The block of a bias beside a kernel at one position, which has the same cotangents."""

    def __init__(self, j, kernel):
        super().__init__(j)
        self.kernel = kernel

    def sample_traces(self):
        return self.kernel.squares

    def gram(self, other, dtype):
        return self.kernel.products(other.kernel, dtype)


def _both(function, one, other):
    """`function` of two things, which may be one and the same: then once."""
    found = function(one)
    return found, found if other is one else function(other)


def _products(pair, dtype):
    """Of rows (n, r, columns) and (m, r', columns) all products, (n, r, m, r')."""
    (n, r, columns), (m, r2, _) = (ops.shape(t) for t in pair)
    flat, flat2 = _both(lambda t: ops.cast(ops.reshape(t, (-1, columns)), dtype), *pair)
    found = _square(flat) if flat2 is flat else ops.matmul(flat, ops.transpose(flat2))
    return ops.reshape(found, (n, r, m, r2))


@ops.custom_gradient
def _square(rows):
    """rows rowsᵀ; the derivative as one product, where that of a product would be two."""

    def gradient(upstream):
        return ops.matmul(upstream + ops.transpose(upstream), rows)

    return ops.matmul(rows, ops.transpose(rows)), gradient


def _block(sites, deltas):
    """The block of J that belongs to the one weight of `sites`, given δ of each."""
    kinds = {(type(s.u), None if s.u is None else tuple(s.u.shape[2:])) for s in sites}
    if len(kinds) > 1 or sites[0].linear is not None:
        return Explicit(sum(_rows(s, d) for s, d in zip(sites, deltas, strict=True)))
    if sites[0].u is None:
        j = ops.swapaxes(sum(ops.sum(d, axis=2) for d in deltas), 0, 1)
        return Explicit(ops.reshape(j, (*ops.shape(j)[:2], math.prod(j.shape[2:]))))
    u, delta = sites[0].u, deltas[0]
    if sites[1:]:
        delta = ops.concatenate(deltas, 2)
        if isinstance(u, OneHot):
            u = OneHot(ops.concatenate([s.u.indices for s in sites], 1), u.size)
        else:
            u = ops.concatenate([s.u for s in sites], 1)
    return Factors(u, delta, sites[0].arrange)


def _rows(site, delta):
    """One site's part of J, (n, r, weight size)."""
    j = _block([dataclasses.replace(site, linear=None)], [delta]).jacobian()
    return j if site.linear is None else site.linear(j)


def _as_one_sample(site, delta):
    """The batch as a single sample, whose positions are those of all of them."""
    u = site.u
    if isinstance(u, OneHot):
        u = OneHot(ops.reshape(u.indices, (1, -1)), u.size)
    elif u is not None:
        u = ops.reshape(u, (1, -1, *u.shape[2:]))
    rows = ops.shape(delta)[0]
    return dataclasses.replace(site, u=u), ops.reshape(delta, (rows, 1, -1, *delta.shape[3:]))


def _adds_to_one_position(kernel, bias):
    """Whether a bias is added to all that a single kernel, at one position, makes."""
    if not (kernel and bias) or len(kernel) + len(bias) > 2:
        return False
    (kernel,), (bias,) = kernel, bias
    if kernel.u is None or bias.u is not None or isinstance(kernel.u, OneHot):
        return False
    return (
        tuple(kernel.u.shape[1:3]) == (1, 1)
        and kernel.linear is None
        and kernel.z is bias.z
        and math.prod(kernel.z.shape[1:]) == math.prod(bias.weight.shape)
    )


def jacobian_blocks(tape, f, recording, rows, fallback=by_copies_if_right):
    """The blocks of J = ∂f/∂weights, in the order of the weights, of a recorded forward pass.

    Args:
        tape: the tape that recorded it.
        f: the raw outputs, (n, q).
        recording: a `Recording` of the same pass.
        rows: the `Rows` to compute. Blocks have (n, r) rows, or (1, r) where samples are coupled.
        fallback: how to find those of weights that no rule explains, as in `fallback.py`.
    """
    recording.check(tape, f)
    recording.announce()
    sites = [recording.sites(w) for w in recording.weights]
    # Weights that share a z, as a kernel and its bias do, share its cotangent.
    z = {id(t): t for group in sites for s in group or () for t in s.tensors}
    found = autodiff.cotangents(tape, f, list(z.values()), rows) if z else []
    deltas = dict(zip(z, found, strict=True))
    rest = [w for w, group in zip(recording.weights, sites, strict=True) if group is None]
    jacobians = iter(fallback(tape, f, recording, rest, rows) if rest else ())
    shape = (1 if rows.coupled else ops.shape(f)[0], ops.shape(rows.vectors)[0])
    # Layers may compute in dtypes of their own; half precision is too coarse for sums of squares.
    dtype = keras.backend.result_type(f.dtype, "float32")

    def block(weight, group):
        if not group:
            # Only the fallback knows it, or it took no part in this pass.
            j = next(jacobians) if group is None else ops.zeros((*shape, *weight.shape), dtype)
            return Explicit(ops.cast(ops.reshape(j, (*shape, math.prod(weight.shape))), dtype))
        pairs = [(s, s.delta(*(ops.cast(deltas[id(t)], dtype) for t in s.tensors))) for s in group]
        with autodiff.after([d for _, d in pairs]):  # else all layers' features are in memory
            pairs = [(s.cast(dtype), d) for s, d in pairs]
        if rows.coupled:
            pairs = [_as_one_sample(s, d) for s, d in pairs]
        return _block([s for s, _ in pairs], [d for _, d in pairs])

    blocks: list = []
    for weight, group, before in zip(recording.weights, sites, [None, *sites], strict=False):
        found = block(weight, group)
        added = not rows.coupled and _adds_to_one_position(before, group)
        blocks.append(Bias(found.jacobian(), blocks[-1]) if added else found)
    return blocks
