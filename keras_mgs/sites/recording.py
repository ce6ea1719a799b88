"""Watching one forward pass: which weights acted where."""

import contextlib
import warnings
import weakref

import keras

import keras_mgs.sites.convolution
import keras_mgs.sites.dense  # noqa: F401  (a family registers its rules when imported)
from keras_mgs import autodiff
from keras_mgs.outputs import raw_outputs
from keras_mgs.sites import registry

_ANNOUNCED: weakref.WeakSet = weakref.WeakSet()
_SOUND: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_TRIAL_SIZES = (6, 10)


class Recording:
    """What one forward pass did: the sites of every weight that rules explain completely.

    A weight that no rule explains, or that was also read outside of its own layer (tied weights),
    is left to the exact fallback.
    """

    def __init__(self, model):
        self.weights = list(model.trainable_weights)
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
            if registry.find(layer) is not None and "call" not in vars(layer)
        ]
        self._unexplained = {i for i in self._sites if self._owners.get(i) not in self.ruled}
        self._active = []  # layers whose own call is running

    def sites(self, weight):
        """The sites of a weight; None: only the fallback knows its Jacobian."""
        return None if id(weight) in self._unexplained else self._sites[id(weight)]

    def leave_to_fallback(self, weights):
        """Leave weights, given by their ids, to the fallback."""
        self._unexplained |= set(weights)

    def check(self, tape, f):
        """Leave to the fallback what the sites of this pass cannot tell apart by sample.

        That is a site whose first axis is not the samples', that lives in a loop's body, or that
        the tape did not see (gradient checkpointing).
        """
        sites = [(i, s) for i, group in self._sites.items() for s in group]
        connected = autodiff.connected(tape, f, [s.z for _, s in sites])
        for (weight, site), seen in zip(sites, connected, strict=True):
            rows = {site.z.shape[0], f.shape[0]} - {None}
            if len(rows) > 1 or not seen or _graph(site.z) is not _graph(f):
                self._unexplained.add(weight)

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
        """Run a layer with its activation replaced by one that notes what it is given."""
        activation, z = layer.activation, []

        def note(t):
            z.append(t)
            return t if activation is None else activation(t)

        layer.activation = note
        self._active.append(layer)
        try:
            result = call(*args, **kwargs)
            x = args[0] if args else kwargs["inputs"]
            sites = registry.find(layer)(layer, x, *z) or ()
        finally:
            self._active.pop()
            layer.activation = activation
        sites = {id(s.weight): s for s in sites if id(s.weight) in self._sites}
        for weight, site in sites.items():
            self._sites[weight].append(site)
        own = {i for i, owner in self._owners.items() if owner is layer}
        self._unexplained |= own - sites.keys()
        return result

    def note_read(self, weight):
        """A weight is read: outside of its own layer's call, no rule can know what for."""
        if self._owners.get(id(weight)) not in self._active:
            self._unexplained.add(id(weight))


@contextlib.contextmanager
def record(model, x, training):
    """Record a forward pass `model(x, training=training)` that runs in this context.

    Layers and weights are watched through attributes of the instances, put back at the end.
    """
    unsound = _unsound_weights(model, x, training)
    with _watch(model) as recording:
        recording.leave_to_fallback(unsound)
        yield recording


def couples_samples(model, training):
    """Whether a sample's output depends on the others: batch statistics in training."""
    return bool(training) and any(
        isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        for layer in model._flatten_layers()
    )


def signature(model):
    """Equal for equal states of a model's structure: what is compiled for one holds for both."""
    layers = tuple(id(layer) for layer in model._flatten_layers())
    return layers, tuple(id(w) for w in model.trainable_weights)


def _unsound_weights(model, x, training):
    """The ids of the weights whose sites do not hold for every batch size.

    Whether a site's first axis is the samples' may not show in a pass of unknown batch size, and
    may seem so by chance in one of a known size. So the model is traced, not run, at other sizes.
    """
    leaves = keras.tree.flatten(x)
    known = _SOUND.setdefault(model, {})
    key = (bool(training), signature(model), tuple((tuple(t.shape), str(t.dtype)) for t in leaves))
    if key not in known:
        sizes = [n for n in _TRIAL_SIZES if n != leaves[0].shape[0]]
        sizes = sizes if leaves[0].shape[0] is None else sizes[:1]
        found = set()

        def trial(x):
            with autodiff.tape() as tape, _watch(model) as recording, keras.StatelessScope():
                f = raw_outputs(model(x, training=training))
            recording.check(tape, f)
            found.update(recording.unexplained())

        for size in sizes:
            try:
                autodiff.trace(trial, x, size)
            except Exception:  # a model for one batch size only; any error of its own comes again
                found.update(id(w) for w in model.trainable_weights)
        known[key] = frozenset(found)
    return known[key]


@contextlib.contextmanager
def _watch(model):
    recording = Recording(model)

    def watched(layer, call):
        return lambda *args, **kwargs: recording.run(layer, call, *args, **kwargs)

    def noted(weight, autocast):
        return lambda value: recording.note_read(weight) or autocast(value)

    with contextlib.ExitStack() as stack:
        for layer in recording.ruled:
            stack.enter_context(_replaced(layer, "call", watched(layer, layer.call)))
        for weight in recording.weights:
            # Every way of reading a `keras.Variable` passes through this method.
            reader = noted(weight, weight._maybe_autocast)
            stack.enter_context(_replaced(weight, "_maybe_autocast", reader))
        yield recording


@contextlib.contextmanager
def _replaced(thing, name, value):
    before = vars(thing).get(name)
    setattr(thing, name, value)
    try:
        yield
    finally:
        delattr(thing, name)
        if before is not None:
            setattr(thing, name, before)


def _graph(tensor):
    """The graph that a tensor belongs to; None for an eager one."""
    return getattr(tensor, "graph", None)
