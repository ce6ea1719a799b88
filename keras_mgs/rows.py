"""Which rows of J are computed at a time."""

from typing import Any, NamedTuple

import tensorflow as tf


class Rows(NamedTuple):
    """Rows of J, as the vectors v of the vector-Jacobian products vᵀ ∂f/∂θ that they are.

    Attributes:
        vectors: (r, q) where samples are independent: each sample has these r rows. (m·r, n, q)
            where they are coupled: each vector is one for the outputs of the whole batch.
        coupled: whether a sample's outputs depend on other samples.
        samples: m, the number of samples that the rows of a coupled batch belong to.
    """

    vectors: Any
    coupled: bool
    samples: int = 1

    def counts(self, n):
        """The number of samples, of n, that have rows here, and how many each of them has."""
        r = self.vectors.shape[0]
        return (self.samples, r // self.samples) if self.coupled else (n, r)


def every_row(f, coupled):
    """All rows of J: for every output of f, (n, q), or of the coupled batch, a unit vector."""
    if not coupled:
        return Rows(tf.eye(tf.shape(f)[1], dtype=f.dtype), coupled)
    units = tf.eye(tf.size(f), dtype=f.dtype)
    return Rows(tf.reshape(units, (-1, *tf.unstack(tf.shape(f)))), coupled)
