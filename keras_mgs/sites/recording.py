"""Watching one forward pass: which weights acted where."""

import contextlib
import dataclasses
import functools
import math
import warnings
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_mgs import autodiff, checks, data, hooks
from keras_mgs.outputs import raw_outputs
from keras_mgs.sites import pooling, registry
from keras_mgs.sites.site import OneHot, Shape

_ANNOUNCED: weakref.WeakSet = weakref.WeakSet()
_SURVEYS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_TRIAL_SIZES = (6, 10)


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer, as a rule sees it.

    Attributes:
        function: the layer's own `call`, which runs it once more.
        args, kwargs: what it was given.
        result: what it returned.
        handed: (name, tensor, result) for each time that it called its `activation` or its
            `recurrent_activation`.
    """

    function: Callable
    args: tuple
    kwargs: dict
    result: Any
    handed: list

    @property
    def x(self):
        """The layer's first input, (n, …), a dense tensor."""
        x = self.args[0] if self.args else next(iter(self.kwargs.values()))
        return tf.sparse.to_dense(x) if isinstance(x, tf.SparseTensor) else x

    @property
    def z(self):
        """What it handed to its activation; without one, what it returned."""
        return self.handed[0][1] if self.handed else self.result

    @property
    def training(self):
        """Whether it ran as in training."""
        return bool(self.kwargs.get("training"))

    def named(self, name):
        """Those of `handed` that went to the activation of this name."""
        return [entry for entry in self.handed if entry[0] == name]

    @property
    def has_known_shape(self):
        """Whether all sizes but that of the batch are known: rules count positions by them."""
        return all(None not in t.shape[1:] for t in keras.tree.flatten((self.x, self.z)))

    def repeated(self, values):
        """The result with other values of some weights, a list of (weight, tensor)."""
        with keras.StatelessScope(state_mapping=values):
            return self.function(*self.args, **self.kwargs)


class Recording:
    """What one forward pass did: the sites of every weight that rules explain completely.

    A weight that no rule explains, or that was also read outside of its own layer (tied weights),
    is left to the exact fallback.
    """

    def __init__(self, model):
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

        Leave to the fallback what its sites cannot tell apart by sample. That is a site whose first
        axis is not the samples', that lives in a loop's body, or that the tape did not see
        (gradient checkpointing).
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
                "one reverse pass per sample and output, which is slower.",
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
        self._unexplained |= {id(w) for w in own} - sites.keys()
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
        """End the watching: a function that was traced before may read a weight unseen."""
        for weight in self.weights:
            if _readers([weight]) - self._reads:
                self._unexplained.add(id(weight))

    def note_read(self, weight):
        """A weight is read: outside of its own layer's call, no rule can know what for."""
        if self._owners.get(id(weight)) not in self._active:
            self._unexplained.add(id(weight))


@contextlib.contextmanager
def record(model, x, training):
    """Record a forward pass `model(x, training=training)` that runs in this context.

    Layers and weights are watched through attributes of the instances, put back at the end.
    """
    found = survey(model, x, training)
    with _watch(model) as recording:
        recording.leave_to_fallback(found.unsound)
        recording.coupled |= found.coupled
        yield recording


def signature(model):
    """Equal for equal states of a model's structure: what is compiled for one holds for both."""
    layers = tuple(id(layer) for layer in model._flatten_layers())
    return layers, tuple(id(w) for w in checks.weights(model))


def survey(model, x, training):
    """What is known of a forward pass on data like `x` before it is run: a `Survey`, cached.

    Whether a site's first axis is the samples' may not show in a pass of unknown batch size, and
    may seem so by chance in one of a known size. So the model is traced, not run, at other sizes.
    """
    leaves = data.leaves(x)
    known = _SURVEYS.setdefault(model, {})
    n = leaves[0].shape[0]
    several = n in (None, _TRIAL_SIZES[0]) or not _declares_outputs(model)
    sizes = _TRIAL_SIZES if several else _TRIAL_SIZES[:1]
    shapes = tuple(
        t if t is None else (type(t), tuple(t.shape[1:]), str(t.dtype))
        for t in keras.tree.flatten(x)
    )
    key = (bool(training), signature(model), shapes, sizes)
    if key not in known:
        known[key] = _look(model, x, training, sizes, n)
    if not known[key].grows or n is None:
        return known[key]
    if (key, n) not in known:  # only a batch of this size tells how many outputs one has
        known[key, n] = _look(model, x, training, (n,), n)._replace(coupled=True, grows=True)
    return known[key, n]


def _look(model, x, training, sizes, n):
    """The `Survey` of passes of some sizes."""
    found, unsound = [], set()

    def trial(x):
        with (
            autodiff.twice_differentiable(),
            autodiff.tape() as tape,
            _watch(model) as recording,
            keras.StatelessScope(),
        ):
            f = raw_outputs(model(x, training=training), model)
        recording.check(tape, f)
        unsound.update(recording.unexplained())
        dtype = keras.backend.result_type(f.dtype, "float32")
        facts = (recording.coupled, recording.width(), recording.shapes())
        found.append((f.shape[1], dtype, *facts))

    for size in sizes:
        try:
            autodiff.trace(trial, x, size)
        except Exception:  # a model for one batch size only; any error of its own comes again
            unsound.update(id(w) for w in checks.weights(model))
    if not found:
        autodiff.trace(trial, x, n)
    slow = sum(math.prod(w.shape) for w in checks.weights(model) if id(w) in unsound)
    grows = len({facts[0] for facts in found}) > 1
    q, dtype, coupled, width, shapes = found[0]
    return Survey(frozenset(unsound), slow, q, dtype, coupled or grows, width, shapes, grows)


def _declares_outputs(model):
    """Whether a model says how many outputs a sample has, so that they cannot grow with it."""
    outputs = getattr(model, "outputs", None)
    return bool(outputs) and all(None not in t.shape[1:] for t in keras.tree.flatten(outputs))


class Survey(NamedTuple):
    """What tracing a model tells.

    Attributes:
        unsound: the ids of the weights that are left to the fallback.
        slow: how many numbers these weights are.
        outputs: q.
        dtype: that of J.
        coupled: whether a sample's outputs depend on the others: by batch statistics, or because
            they are as many as the batch has samples.
        width: how many numbers a sample's cotangents at all sites are.
        shapes: the `Shape` of each weight that has features, by its id.
        grows: whether q depends on the number of samples.
    """

    unsound: frozenset
    slow: int
    outputs: int
    dtype: str
    coupled: bool
    width: int
    shapes: dict[int, Shape]
    grows: bool

    def numbers(self, n):
        """How many numbers n samples' cotangents, and slow rows of J, are for one output."""
        fast = n * self.width
        return max(1, fast + (n * (fast + self.slow) if self.slow else 0))


@contextlib.contextmanager
def _watch(model):
    recording = Recording(model)

    def watched(layer):
        return lambda call: lambda *args, **kwargs: recording.run(layer, call, *args, **kwargs)

    def pooled(layer):
        return lambda call: lambda x: recording.pool(layer, call, x)

    def noted(weight):
        return lambda autocast: lambda value: recording.note_read(weight) or autocast(value)

    def unrolled(layer):
        """Steps that run in a loop's body cannot be seen."""

        def run(sequences, *args, **kwargs):
            # Keras 3.15 unrolls this case into something else: it forgets to reverse the mask.
            reversed_mask = (
                kwargs.get("mask") is not None
                and layer.go_backwards
                and getattr(layer, "zero_output_for_mask", False)
            )
            known = sequences.shape[1] is not None and not reversed_mask
            double = hooks.with_attributes(layer, unroll=layer.unroll or known)
            return type(layer).call(double, sequences, *args, **kwargs)

        return lambda _: run

    def coupling(layer):
        """A user may ask for batch statistics in any pass."""

        def make(call):
            def run(*args, **kwargs):
                recording.coupled |= bool(kwargs.get("training")) and layer.trainable
                return call(*args, **kwargs)

            return run

        return make

    layers = model._flatten_layers()
    watching = [
        *((v, coupling(v)) for v in layers if isinstance(v, keras.layers.BatchNormalization)),
        *((v, pooled(v)) for v in layers if isinstance(v, pooling.POOLS)),
        *((v, watched(v)) for v in recording.ruled),
        *(
            (v, unrolled(v))
            for v in layers
            if isinstance(v, keras.layers.RNN) and not hooks.is_own(v, "call")
        ),
    ]
    with contextlib.ExitStack() as stack:
        for layer, make in watching:
            stack.enter_context(hooks.replaced(layer, "call", make))
        for weight in recording.weights:
            # Every way of reading a `keras.Variable` passes through this method.
            stack.enter_context(hooks.replaced(weight, "_maybe_autocast", noted(weight)))
        yield recording
    recording.leave_what_others_read()


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
