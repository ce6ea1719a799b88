"""One call of a layer, as a rule sees it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer, given to its rule.

    Attributes:
        function: the layer's own `call`, which runs it once more.
        args, kwargs: what it was given.
        result: what it returned.
        handed: (name, tensor, result) for each time that it called its `activation` or its
            `recurrent_activation`.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    handed: list[tuple[str, Any, Any]]

    @property
    def x(self) -> tf.Tensor:
        """The layer's first input, (n, …), a dense tensor."""
        x = self.args[0] if self.args else next(iter(self.kwargs.values()))
        return tf.sparse.to_dense(x) if isinstance(x, tf.SparseTensor) else x

    @property
    def z(self) -> tf.Tensor:
        """What it handed to its activation; without one, what it returned."""
        return self.handed[0][1] if self.handed else self.result

    @property
    def training(self) -> bool:
        """Whether it ran as in training."""
        return bool(self.kwargs.get("training"))

    def named(self, name: str) -> list[tuple[str, Any, Any]]:
        """Those of `handed` that went to the activation of this name."""
        return [entry for entry in self.handed if entry[0] == name]

    @property
    def has_known_shape(self) -> bool:
        """Whether all sizes but that of the batch are known: rules count positions by them."""
        return all(None not in t.shape[1:] for t in keras.tree.flatten((self.x, self.z)))

    def repeated(self, values: list[tuple[keras.Variable, tf.Tensor]]) -> Any:
        """The result with other values of some weights, a list of (weight, tensor)."""
        with keras.StatelessScope(state_mapping=values):
            return self.function(*self.args, **self.kwargs)
