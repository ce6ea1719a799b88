"""Which rule serves which layer class."""

_RULES: dict[type, object] = {}


def rule(*classes):
    """Decorate `rule(layer, x, z)` as the rule of these exact layer classes.

    x is the tensor that the layer was called with, z the one that it hands to its activation; the
    rule yields a `Site` for each weight. It must hold for every option of the class; where it does
    not, it returns None, and the layer is treated by the exact fallback.
    """

    def register(function):
        for cls in classes:
            _RULES[cls] = function
        return function

    return register


def find(layer):
    """The rule of a layer, or None. Subclasses may compute anything, so they do not inherit it."""
    return _RULES.get(type(layer))
