"""What one forward pass did: which weights acted where, and which of them rules explain."""

import functools
import math
import warnings
import weakref

import tensorflow as tf

from keras_mgs import autodiff, checks, hooks
from keras_mgs.sites import pooling, registry
from keras_mgs.sites.call import Call
from keras_mgs.sites.site import OneHot, Shape

_ANNOUNCED: weakref.WeakSet = weakref.WeakSet()


class Recording:
    """What one forward pass did: the sites of every weight that rules explain completely.

    A weight that no rule explains, or that was also read outside of its own layer (tied weights),
    is left to the exact fallback.
    """

    def __init__(self, model):
        self.model, self.x, self.training = model, None, None  # what ran, where that is known
        self.weights = checks.weights(model)
        self._sites: dict[int, list] = {id(w): [] for w in self.weights}
        self._owners = {
            id(v): layer
            for layer in model._flatten_layers()
            for v in layer._trainable_variables
            if id(v) in self._sites
        }
        # An instance whose `call` somebody replaced computes what no rule knows.
        self.ruled = [
            layer
            for layer in dict.fromkeys(self._owners.values())
            if registry.find(layer) is not None and not hooks.is_own(layer, "call")
        ]
        self._unexplained = {i for i in self._sites if self._owners.get(i) not in self.ruled}
        self._active = []  # layers whose own call is running
        self._noted = set()  # the ids of weights that their own layers were seen to read
        self._results = {}  # what a layer returned: (layer, its sites, the result), by id
        self._pools = []  # (such a result, how many operations read it, pooling layer, output)
        # The operations that read weights before, or as part of their own layer's call.
        self._reads = _readers(self.weights)
        self.coupled = False  # whether batch statistics make the samples depend on each other

    def sites(self, weight):
        """The sites of a weight; None: only the fallback knows its Jacobian."""
        return None if id(weight) in self._unexplained else self._sites[id(weight)]

    def leave_to_fallback(self, weights):
        """Leave weights, given by their ids, to the fallback."""
        self._unexplained |= set(weights)

    def check(self, tape, f):
        """End the recording of a pass, once f is there.

        A weight is left to the fallback if the first axis of one of its sites is not that of the
        samples, if the site is in the body of a loop, or if the tape did not see it (gradient
        checkpointing).
        """
        self._look_through_pools()
        seen = [(i, t) for i, group in self._sites.items() for s in group for t in s.tensors]
        connected = autodiff.connected(tape, f, [t for _, t in seen])
        for (weight, z), known in zip(seen, connected, strict=True):
            rows = {z.shape[0], f.shape[0]} - {None}
            if len(rows) > 1 or not known or _graph(z) is not _graph(f):
                self._unexplained.add(weight)

    def width(self):
        """How many numbers a sample's cotangents are."""
        found = {id(t): t for group in self._sites.values() for s in group for t in s.tensors}
        return sum(math.prod(t.shape[1:]) for t in found.values())

    def shapes(self):
        """The `Shape` of each weight that has features, by its id."""
        found = {}
        for weight in self.weights:
            group = [s for s in self._sites[id(weight)] if s.u is not None]
            if group:
                site = group[0]
                _, positions, groups, k = site.u.shape
                c = math.prod(weight.shape) // (groups * k)
                if site.linear is not None:
                    c = sum(math.prod(t.shape[1:]) for t in site.tensors) // (positions * groups)
                positions = sum(s.u.shape[1] for s in group)
                found[id(weight)] = Shape(positions, groups, k, c, isinstance(site.u, OneHot))
        return found

    def unexplained(self):
        """The ids of the weights that are left to the fallback."""
        return frozenset(self._unexplained)

    def announce(self):
        """Say once, by name, which layers take the slower way."""
        slow = {self._owners[i] for i in self._unexplained if i in self._owners} - set(_ANNOUNCED)
        if slow:
            _ANNOUNCED.update(slow)
            names = ", ".join(sorted(f"{layer.name} ({type(layer).__name__})" for layer in slow))
            warnings.warn(
                f"keras_mgs has no fast rule for: {names}. The result is exact all the same, by "
                "copies of their weights for each sample or, where layers mix samples, by a "
                "reverse pass per sample and output, which is slower.",
                stacklevel=2,
            )

    def run(self, layer, call, *args, **kwargs):
        """Run a layer, noting what it hands to its activations, and ask its rule for the sites."""
        handed: list = []
        names = [n for n in ("activation", "recurrent_activation") if hasattr(layer, n)]
        running = call
        if names:
            noting = {name: _noting(name, getattr(layer, name), handed) for name in names}
            running = functools.partial(type(layer).call, hooks.with_attributes(layer, **noting))
        own = [w for w in self.weights if self._owners.get(id(w)) is layer]
        read_before = _readers(own)
        self._active.append(layer)
        try:
            result = running(*args, **kwargs)
            noted = Call(call, args, kwargs, result, handed)
            sites = registry.find(layer)(layer, noted) if noted.has_known_shape else None
        finally:
            self._active.pop()
        sites = {id(s.weight): s for s in sites or () if id(s.weight) in self._sites}
        for weight, site in sites.items():
            self._sites[weight].append(site)
        self._results[id(result)] = layer, list(sites.values()), result
        # A weight that was not seen being read here may be read elsewhere without being seen.
        self._unexplained |= {id(w) for w in own} - (sites.keys() & self._noted)
        self._reads |= _readers(own) - read_before
        return result

    def pool(self, layer, call, x):
        """Run a pooling layer, noting what it reads."""
        first = id(x) in self._results and _graph(x) is not None and not x.consumers()
        y = call(x)
        if first:
            self._pools.append((x, len(x.consumers()), layer, y))
        return y

    def _look_through_pools(self):
        """Take cotangents after max-pooling where nothing else reads what it pools."""
        for x, readers, layer, y in self._pools:
            owner, sites, _ = self._results[id(x)]
            if len(x.consumers()) > readers:
                continue
            for site, better in zip(sites, pooling.pooled(owner, sites, x, layer, y), strict=True):
                group = self._sites[id(site.weight)]
                group[[s is site for s in group].index(True)] = better
        self._pools.clear()

    def leave_what_others_read(self):
        """Leave weights to the fallback that others read, such as a function traced before."""
        for weight in self.weights:
            if _readers([weight]) - self._reads:
                self._unexplained.add(id(weight))

    def note_read(self, weight):
        """A weight is read: outside of its own layer's call, no rule can know what for."""
        if self._owners.get(id(weight)) in self._active:
            self._noted.add(id(weight))
        else:
            self._unexplained.add(id(weight))


def _noting(name, activation, handed):
    def note(t):
        result = t if activation is None else activation(t)
        handed.append((name, t, result))
        return result

    return note


def _readers(weights):
    """The operations of this graph that take what weights hold: those of a function called, too."""
    if tf.executing_eagerly():  # the survey, which is a graph, has looked
        return set()
    captures = getattr(tf.compat.v1.get_default_graph(), "captures", ())
    inside = {id(outer): inner for outer, inner in captures}
    handles = [inside.get(id(getattr(w._value, "handle", None))) for w in weights]
    found = [o for t in handles if t is not None for o in t.consumers()]
    return {o.name for o in found if "Assign" not in o.type and o.type != "VariableShape"}


def _graph(tensor):
    """The graph that a tensor belongs to; None for an eager one."""
    return getattr(tensor, "graph", None)
