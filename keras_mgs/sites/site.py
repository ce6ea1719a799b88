"""A site: one place where a weight acts in a forward pass."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Site:
    """One use of `weight` in a forward pass: `z[i, s, g, :] = u[i, s, g, :] @ W[:, g, :] + …`.

    i counts samples, s positions (pixels, time steps), g groups (1 but for grouped convolutions).

    Attributes:
        weight: the `keras.Variable`; in C order its elements are W[k, g, c].
        u: the input features, (n, S, G, k); None where they are 1, as for a bias.
        z: the tensor that the weight acts on; its cotangent is what is needed of the network.
        channels_last: a function from a tensor (…, *z.shape[1:]) to (…, S, G, c).
    """

    weight: Any
    u: Any
    z: Any
    channels_last: Any
