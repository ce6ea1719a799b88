"""Which rule serves which layer class."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras

from keras_mgs.sites.call import Call
from keras_mgs.sites.site import Site

Rule: TypeAlias = Callable[[Any, Call], "Sequence[Site] | None"]
_RULES: dict[type, Rule] = {}


def rule(*classes: type) -> Callable[[Rule], Rule]:
    """Decorate `rule(layer, call)` as the rule of these exact layer classes.

    It is given each call of the layer, a `keras_mgs.sites.Call`, and returns a `Site` for every
    weight that it explains; weights without one are left to the exact fallback, and so are all of
    the layer's if it returns None. Subclasses, which may compute anything, do not inherit it.

    Example:

    >>> from keras_mgs.sites import elementwise, rule
    >>> class Scale(keras.layers.Layer):
    ...     def build(self, shape):
    ...         self.scale = self.add_weight(shape=(shape[-1],), name="scale")
    ...     def call(self, x):
    ...         return x * self.scale
    >>> @rule(Scale)
    ... def scale(layer, call):
    ...     return [elementwise(layer.scale, call.x, call.z)]
    """

    def register(function: Rule) -> Rule:
        for cls in classes:
            _RULES[cls] = function
        return function

    return register


def find(layer: keras.layers.Layer) -> Any:
    """The rule of a layer, or None."""
    return _RULES.get(type(layer))
