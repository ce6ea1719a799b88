"""J, tr K and K of a batch, in pieces of samples and of rows of J that fit into memory."""

import contextlib
import dataclasses
import functools
import itertools
import math
import weakref

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_mgs import autodiff, checks, data
from keras_mgs.compiled import compiled
from keras_mgs.gram import as_matrix, gram
from keras_mgs.outputs import raw_outputs
from keras_mgs.rows import Rows
from keras_mgs.second_order import twice_differentiable
from keras_mgs.sites import ByCopies, by_passes, jacobian_blocks, record, signature, survey

CHUNK = 32  # samples at a time, unless told otherwise
_NUMBERS = 2**26  # the most that the cotangents of one piece may hold
# The states of models, by `signature`, in which copies of weights for each sample are wrong.
_MIXING: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class Pieces:
    """A batch in pieces.

    Attributes:
        groups: for each group of samples a list of pieces, each the inputs x of a forward pass and
            the `Rows` to compute of it. All have equal sizes, so that one compiled function serves
            them all: at the end of the rows, and of the samples of a coupled batch, there may be
            rows of zeros, to be cut off.
        n: the number of samples in the batch, None if it is not known yet.
        q: the number of outputs per sample.
    """

    groups: list
    n: int | None
    q: int

    @property
    def rows(self):
        """How many rows of a sample are in one piece."""
        return self.groups[0][0][1].counts(self.n)[1]

    def indices(self):
        """(group, piece) of every piece."""
        return [(i, a) for i, group in enumerate(self.groups) for a in range(len(group))]


def samples(model, x, training, batch_size=None, name="x"):
    """The samples as tensors, after a check of all arguments."""
    checks.model(model)
    checks.flag("training", training)
    checks.batch_size(batch_size)
    return data.inputs(name, model, x)


def jacobian(model, x, training, batch_size):
    """J, (n, q, p)."""
    pieces = cut(model, x, training, batch_size)
    run = _runner(model, pieces, training, _jacobian)
    groups = [_join([run(*piece) for piece in group], 1)[:, : pieces.q] for group in pieces.groups]
    return _join(groups, 0)[: pieces.n]


def sample_traces(model, x, training, batch_size):
    """`‖J[i]‖²` of each sample, (n,)."""
    pieces = cut(model, x, training, batch_size, one_sample=True)
    run = _runner(model, pieces, training, _sample_traces)
    return _join([sum(run(*piece) for piece in group) for group in pieces.groups], 0)[: pieces.n]


def kernel(model, x, x2, training, batch_size, dtype=None):
    """K, (n*q, m*q), of `x` and `x2` (None: `x` once more), in `dtype` (None: J's own)."""
    first = cut(model, x, training, batch_size)
    second = first if x2 is None else cut(model, x2, training, batch_size, "x2")
    dtype = dtype or survey(model, first.groups[0][0][0], training).dtype
    run = _runner(model, first, training, _tile, dtype)
    tiles: dict = {}
    for row, column in itertools.product(first.indices(), second.indices()):
        if x2 is None and (column, row) in tiles:
            tiles[row, column] = ops.transpose(tiles[column, row], (2, 3, 0, 1))
        else:
            (i, a), (j, b) = row, column
            other = () if x2 is None and row == column else second.groups[j][b]
            tiles[row, column] = run(*first.groups[i][a], *other)

    def joined(i, j):
        """The part of K that belongs to two groups of samples."""
        lines = [
            _join([tiles[(i, a), (j, b)] for b in range(len(second.groups[j]))], 3)
            for a in range(len(first.groups[i]))
        ]
        return _join(lines, 1)[:, : first.q, :, : second.q]

    if len(tiles) == 1:  # as for any small batch: nothing was padded
        return as_matrix(next(iter(tiles.values())))
    lines = [
        _join([joined(i, j) for j in range(len(second.groups))], 2)[:, :, : second.n]
        for i in range(len(first.groups))
    ]
    return as_matrix(_join(lines, 0)[: first.n])


def sample_kernel(model, x, x2, training, batch_size):
    """`Σ_a J[i, a] · J2[j, a]`, (n, m), of `x` and `x2` (None: `x` once more).

    No more of K is computed than its blocks' diagonals, which is as if J had one row per sample.
    """
    first = cut(model, x, training, batch_size)
    second = first
    if x2 is not None:  # which must be cut between the same rows
        second = cut(model, x2, training, batch_size, "x2", most=first.rows)
        first = cut(model, x, training, batch_size, most=second.rows)
    dtype = survey(model, first.groups[0][0][0], training).dtype
    run = _runner(model, first, training, _sample_tile, dtype)
    tiles: dict = {}
    for i, j in itertools.product(range(len(first.groups)), range(len(second.groups))):
        if x2 is None and (j, i) in tiles:
            tiles[i, j] = ops.transpose(tiles[j, i])
        else:
            pairs = zip(first.groups[i], second.groups[j], strict=True)
            same = x2 is None and i == j
            tiles[i, j] = sum(run(*a, *(() if same else b)) for a, b in pairs)
    lines = [
        _join([tiles[i, j] for j in range(len(second.groups))], 1)[:, : second.n]
        for i in range(len(first.groups))
    ]
    return _join(lines, 0)[: first.n]


def cut(model, x, training, batch_size, name="x", one_sample=False, most=None):
    """The `Pieces` of a batch.

    Args:
        model, x, training, batch_size: as for `keras_mgs.jacobian`.
        name: what to call `x` in an error.
        one_sample: whether a group of a coupled batch may have one sample only.
        most: how many rows of a sample a piece may have; None: as memory allows.
    """
    x = samples(model, x, training, batch_size, name)
    found, n = survey(model, x, training), data.leaves(x)[0].shape[0]
    if found.outputs is None:
        raise ValueError(
            "MGS must know how many outputs a sample has. "
            f"Received: `{name}`, for which '{model.name}' does not tell. "
            "Give inputs whose shape, but for the batch, is fixed."
        )
    if found.coupled and (n is None or batch_size is not None):
        raise ValueError(
            "The samples of this model depend on each other, by batch normalisation as in "
            "training or because their outputs grow with the batch, so they cannot be computed in "
            "pieces, and their number must be known. "
            f"Received: batch_size={batch_size}, and {n} samples in `{name}`. "
            "Leave batch_size out, or use training=False if it is batch normalisation."
        )
    size = n if found.coupled else min(batch_size or CHUNK, n or CHUNK)
    chunks = [x]
    if n is not None and n > size:
        chunks = [data.samples(x, start, start + size) for start in range(0, n, size)]
    q, allowed = found.outputs, rows_at_a_time(found, size)
    count = math.ceil(q / min(allowed, most or q))
    r = math.ceil(q / count)
    vectors = np.eye(count * r, q).reshape(count, r, q)
    if not found.coupled:
        return Pieces([[(c, Rows(v, False)) for v in vectors] for c in chunks], n, q)
    m = 1 if one_sample else min(n, max(1, allowed // q))
    units = np.eye(math.ceil(n / m) * m, n).reshape(-1, m, n)
    of_batch = np.einsum("gin,erq->geirnq", units, vectors).reshape(len(units), count, m * r, n, q)
    return Pieces([[(x, Rows(v, True, m)) for v in group] for group in of_batch], n, q)


def rows_at_a_time(survey, n):
    """How many rows of J are computed at once for each of n samples: as memory allows."""
    return max(1, _NUMBERS // survey.numbers(n))


def _join(parts, axis):
    return ops.concatenate(parts, axis) if parts[1:] else parts[0]


def _runner(model, pieces, training, function, *options):
    """`function(blocks, *options, *piece)`, compiled; `blocks(x, rows)` are those of J.

    Copies of weights are taken where there are weights that no rule explains, until a result says
    that this is wrong.
    """
    run_by_passes = compiled(model, _by_passes, training, function, *options)
    x = pieces.groups[0][0][0]
    found, mixing = survey(model, x, training), _MIXING.setdefault(model, set())
    key = bool(training), signature(model)
    if not found.slow or found.coupled or not tf.executing_eagerly():
        return run_by_passes
    run_by_copies = compiled(model, _by_copies, training, function, *options)

    def run(*piece):
        if key not in mixing:
            result, right = run_by_copies(*piece)
            if right:
                return result
            mixing.add(key)
        return run_by_passes(*piece)

    return run


def _by_passes(model, training, function, *arguments):
    return function(functools.partial(_blocks, model, training, by_passes), *arguments)


def _by_copies(model, training, function, *arguments):
    """The result, and whether it is right."""
    fallback = ByCopies()
    result = function(functools.partial(_blocks, model, training, fallback), *arguments)
    return result, fallback.right


def _jacobian(blocks, x, rows):
    """A piece of J, (n, r, p)."""
    j = ops.concatenate([b.jacobian() for b in blocks(x, rows)], axis=2)
    return ops.reshape(j, (*_counts(x, rows), j.shape[2]))


def _sample_traces(blocks, x, rows):
    """A piece's share of the sample traces, (n,)."""
    return sum(b.sample_traces() for b in blocks(x, rows))


def _tile(blocks, dtype, x, rows, x2=None, rows2=None):
    """A piece of K, (n, r, m, r2)."""
    first, counts = blocks(x, rows), _counts(x, rows)
    second, counts2 = first, counts
    if x2 is not None:
        second, counts2 = blocks(x2, rows2), _counts(x2, rows2)
    return ops.reshape(gram(first, second, dtype), (*counts, *counts2))


def _sample_tile(blocks, dtype, x, rows, x2=None, rows2=None):
    """A piece's share of the kernel of samples, (n, m)."""

    def joined(x, rows):
        count, r = _counts(x, rows)
        return [b.joined(r) for b in blocks(x, rows)], count

    first, n = joined(x, rows)
    second, m = (first, n) if x2 is None else joined(x2, rows2)
    return ops.reshape(gram(first, second, dtype), (n, m))


def _counts(x, rows):
    return rows.counts(data.number_of_samples(x))


def _blocks(model, training, fallback, x, rows):
    """The blocks of J for one piece, of a forward pass that leaves the model's state alone."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(twice_differentiable())
        recording = stack.enter_context(record(model, x, training))
        tape = stack.enter_context(autodiff.tape())
        stack.enter_context(keras.StatelessScope())
        f = raw_outputs(model(x, training=training), model)
    rows = rows._replace(vectors=ops.cast(rows.vectors, f.dtype))
    return jacobian_blocks(tape, f, recording, rows, fallback)
