"""Replacing functions and attributes for a time, in one thread only."""

import contextlib
import functools
import threading
from typing import Any

_LOCK = threading.Lock()
_INSTALLED: dict = {}  # the hooks that some thread uses now, by (id of the thing, name)


class _Hook:
    """What takes the place of the function `name` of a thing while any thread replaces it."""

    def __init__(self, thing, name):
        self.thing, self.name = thing, name
        self.of_thing = name in vars(thing)  # or of its class
        self.original = getattr(thing, name)
        self.stacks: dict[int, list] = {}  # each thread's replacements, the last one in force

        def dispatch(*args, **kwargs):  # a function, as a class binds no other callable
            return self.current()(*args, **kwargs)

        # Keras reads the signature of a layer's `call`.
        self.dispatch = functools.update_wrapper(dispatch, self.original, (), ())

    def current(self):
        stack = self.stacks.get(threading.get_ident())
        return stack[-1] if stack else self.original

    def install(self):
        setattr(self.thing, self.name, self.dispatch)

    def remove(self):
        if self.of_thing:
            setattr(self.thing, self.name, self.original)
        else:
            delattr(self.thing, self.name)


@contextlib.contextmanager
def replaced(thing, name, make):
    """In this context, and this thread, `thing.name` is `make(original)`.

    Other threads still call the original. The last thread to leave puts it back.
    """
    key, thread = (id(thing), name), threading.get_ident()
    with _LOCK:
        hook = _INSTALLED.get(key)
        if hook is None:
            hook = _Hook(thing, name)
            hook.install()
            _INSTALLED[key] = hook
        hook.stacks.setdefault(thread, []).append(make(hook.current()))
    try:
        yield
    finally:
        with _LOCK:
            hook.stacks[thread].pop()
            if not hook.stacks[thread]:
                del hook.stacks[thread]
            if not hook.stacks:
                del _INSTALLED[key]
                hook.remove()


def is_own(thing, name):
    """Whether `thing`, not its class, has a function `name` that nothing here has put there."""
    hook = _INSTALLED.get((id(thing), name))
    return name in vars(thing) if hook is None else hook.of_thing


def with_attributes(thing, bases=(), **values):
    """A double of `thing` that shares its state, but has other values of the attributes given.

    `bases` are further base classes: they define what the class of `thing` does not.
    """

    def fixed(value):
        return property(lambda _: value)

    properties = {name: fixed(value) for name, value in values.items()}
    double: Any = object.__new__(type(type(thing).__name__, (type(thing), *bases), properties))
    object.__setattr__(double, "__dict__", vars(thing))
    return double
