"""What is tested, done the slow and obvious way. Nothing here looks into keras_mgs."""

import contextlib
import math

import keras
import numpy as np
import tensorflow as tf

from keras_mgs.autodiff import random_signs  # documented: a function of [step, probe] alone

EPSILON = 1e-6
SAMPLES = 3  # of a batch, that the tests' projections are of


def flat(outputs):
    """f, (n, q), of a model that returns its raw outputs."""
    parts = [tf.reshape(y, (y.shape[0], -1)) for y in keras.tree.flatten(outputs)]
    return tf.concat(parts, 1)


def has_batch_statistics(model):
    layers = model._flatten_layers()
    return any(isinstance(v, keras.layers.BatchNormalization) and v.trainable for v in layers)


def variables(model):
    return [w.value for w in model.trainable_weights]


def jacobian(model, x, training=False, f=flat):
    """(n, q, p) by `tape.jacobian` of the weights, in a plain loop."""
    with tf.GradientTape(persistent=True) as tape, keras.StatelessScope():
        outputs = f(model(x, training=training))
    blocks = tape.jacobian(
        outputs,
        variables(model),
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
        experimental_use_pfor=False,
    )
    n, q = outputs.shape
    return np.concatenate([np.reshape(b, (n, q, -1)) for b in blocks], axis=2)


def finite_differences(function, weights, step=1e-5):
    """d function() / d weights, the weights last, by perturbing each of them."""
    columns = []
    for w in weights:
        value = np.array(w)
        for index in np.ndindex(*value.shape):
            sides = []
            for sign in (1, -1):
                moved = value.copy()
                moved[index] += sign * step
                w.assign(moved)
                sides.append(np.array(function()))
            columns.append((sides[0] - sides[1]) / (2 * step))
        w.assign(value)
    return np.stack(columns, axis=-1)


def jacobian_by_differences(model, x, training=False):
    x = keras.tree.map_structure(tf.convert_to_tensor, x)

    @tf.function(autograph=False)
    def forward():
        with keras.StatelessScope():
            return flat(model(x, training=training))

    return finite_differences(forward, model.trainable_weights)


def kernel(j, j2=None):
    rows = j.reshape(-1, j.shape[2])
    return rows @ (rows if j2 is None else j2.reshape(-1, j2.shape[2])).T


def log_det(k, epsilon=EPSILON):
    shifted = k + epsilon * np.trace(k) / len(k) * np.eye(len(k))
    return np.linalg.slogdet(shifted)[1]


@contextlib.contextmanager
def exact_moments():
    """`tf.nn.moments` stops the gradient to the mean: its second derivatives are wrong."""

    def moments(x, axes, keepdims=False):
        mean = tf.reduce_mean(x, axes, keepdims=True)
        variance = tf.reduce_mean((x - mean) ** 2, axes, keepdims=keepdims)
        return (mean if keepdims else tf.squeeze(mean, axes)), variance

    original, tf.nn.moments = tf.nn.moments, moments
    try:
        yield
    finally:
        tf.nn.moments = original


def penalty(kind, f, weights, step=0, probes=1, epsilon=EPSILON, first=0, samples=None):
    """The penalty of raw outputs `f`, a function without arguments that computes them.

    kind: "hutchinson", "exact", "log_det", or "rkhs", whose K is a constant unless it is called
    "rkhs, K too". Differentiable in the weights.
    first: the number of the first probe in this step.
    samples: "hutchinson" is of that many rows of `f`, and stands for all; None: of all.
    """
    with tf.GradientTape(persistent=True) as tape, exact_moments():
        outputs = f()
        entries = tf.unstack(tf.reshape(outputs, (-1,)))
        some = outputs[:samples]
        projections = [
            tf.reduce_sum(random_signs(some.shape, some.dtype, tf.constant([step, probe])) * some)
            for probe in range(first, first + probes)
        ]
    if kind == "hutchinson":
        scale = len(outputs) / len(some) / probes
        return outputs, scale * sum(_norm(_row(tape, p, weights)) for p in projections)
    j = tf.stack([_row(tape, entry, weights) for entry in entries])
    if kind == "exact":
        return outputs, _norm(j)
    k = j @ tf.transpose(j)
    k += epsilon * tf.linalg.trace(k) / len(entries) * tf.eye(len(entries), dtype=k.dtype)
    if kind == "log_det":
        return outputs, tf.linalg.slogdet(k)[1]
    f = tf.reshape(outputs - tf.reduce_mean(outputs, 0), (-1, 1))
    k = k if kind == "rkhs, K too" else tf.stop_gradient(k)
    return outputs, tf.reduce_sum(f * tf.linalg.solve(k, f))


def _row(tape, target, weights):
    gradients = tape.gradient(target, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return tf.concat([tf.reshape(g, (-1,)) for g in gradients], 0)


def _norm(t):
    return tf.reduce_sum(tf.square(t))


class AutomaticAlpha:
    """The rule of alpha="auto", written as one would tell it."""

    def __init__(self, every):
        self.every = every
        self.count, self.loss, self.own, self.dealt, self.first = 0, 0.0, 0.0, 0.0, 0.0
        self.fast, self.slow, self.ratio, self.told, self.length = 0.0, 0.0, None, False, None
        self.since, self.peak = None, 0.0

    def after(self, losses, loss_length, penalty_length, epochs=0):
        """α of a penalised step, by its loss, that of own and of dealt labels, and two lengths."""
        numbers = [*map(float, losses), float(loss_length), float(penalty_length)]
        if all(map(math.isfinite, numbers)) and numbers[3] > 0 and numbers[4] > 0:
            self._learn(*numbers[:3], math.log(numbers[3]) - math.log(numbers[4]))
        if self.ratio is None:
            return 0.0
        seen = max(epochs, self.count * self.every / 500)
        share = 0.6 * seen / (seen + 3)
        yielding = max(0, self._learnt() / self.peak) ** 4
        high, low = self._compared()
        left = 1 if low < 0 else min(1, low / high) if high > 0 else 0
        return share * math.exp(self.ratio) * yielding * math.sqrt(left)

    def _learn(self, loss, own, dealt, r):
        self.count += 1

        def weight(memory):
            return max(1 - math.exp(-self.every / memory), 1 / self.count)

        self.loss += weight(80) * (loss - self.loss)
        self.own += weight(80) * (own - self.own)
        self.dealt += weight(80) * (dealt - self.dealt)
        self.fast += weight(50) * (r - self.fast)
        self.slow += weight(160) * (r - self.slow)
        started = self.count * self.every >= 32
        if self.count * self.every <= 32:
            self.first = self.loss
        self.told = self.told or own != dealt
        if self.ratio is not None:
            so_far = self.count * self.every
            memory = max(so_far / 2, 50) if self.fast > self.ratio else 1500
            self.ratio += (1 - math.exp(-self.every / memory)) * (self.fast - self.ratio)
        elif started and self._learnt() > 0.05:
            self.since = self.since or self.count
            if abs(self.fast - self.slow) < 0.1 or self.count >= 2 * self.since:
                self.ratio = self.fast + math.log(1.7)
        if self.ratio is not None:
            self.peak = max(self.peak, self._learnt())

    def _compared(self):
        return (self.dealt, self.own) if self.told else (self.first, self.loss)

    def _learnt(self):
        high, low = self._compared()
        largest = max(abs(high), abs(low))
        return (high - low) / largest if largest else 0.0

    def shortened(self, gradient):
        """A penalised step's gradient, at most twice as long as they have been on average."""
        length = math.sqrt(sum(float(tf.reduce_sum(g**2)) for g in gradient))
        mean = self.length
        allowed = length if mean is None else min(length, 2 * mean)
        self.length = length if mean is None else 0.8 * mean + 0.2 * allowed
        return [g * (allowed / length) for g in gradient]


def train_automatically(model, loss, optimizer, batches, kind, every, steps):
    """As `train`, with alpha="auto": the values of α, 0 on the steps without a penalty.

    `steps`: of an epoch.
    """
    rule, found = AutomaticAlpha(every), []
    for step, (x, y) in enumerate(batches):
        weights = variables(model)
        with tf.GradientTape(persistent=True) as tape:
            f = lambda x=x: flat(model(x, training=True))  # noqa: E731
            outputs, value = penalty(kind, f, weights, step, samples=SAMPLES)
            mean_loss = loss(y, outputs)
        gradient = tape.gradient(mean_loss, weights)
        found.append(0.0)
        if step % every == 0:
            other = tape.gradient(value, weights)
            other = [
                tf.zeros_like(w) if g is None else g for g, w in zip(other, weights, strict=True)
            ]
            dealt = loss(tf.roll(y, len(y) // 2, 0), outputs)
            lengths = (
                math.sqrt(sum(float(tf.reduce_sum(g**2)) for g in s)) for s in (gradient, other)
            )
            found[-1] = rule.after([mean_loss, mean_loss, dealt], *lengths, step // steps)
            gradient = [g + every * found[-1] * h for g, h in zip(gradient, other, strict=True)]
            gradient = rule.shortened(gradient)
        optimizer.apply_gradients(zip(gradient, model.trainable_weights, strict=True))
    return found


def train(model, loss, optimizer, batches, kind, alpha, every=1, probes=1, epsilon=EPSILON):
    """Eager training of `model`, which returns raw outputs, with `loss(y, outputs)` + penalty.

    There is one forward pass in a step. Returns the losses and the penalties (α included) of the
    penalised steps.
    """
    losses, penalties = [], []
    samples = None if has_batch_statistics(model) else SAMPLES
    for step, (x, y) in enumerate(batches):
        weights = variables(model)
        with tf.GradientTape() as tape:
            if step % every == 0:
                f = lambda x=x: flat(model(x, training=True))  # noqa: E731
                outputs, value = penalty(kind, f, weights, step, probes, epsilon, samples=samples)
                total = loss(y, outputs) + alpha * every * value
                penalties.append(alpha * float(value))
            else:
                outputs = flat(model(x, training=True))
                total = loss(y, outputs)
        losses.append(float(loss(y, outputs)))
        gradients = tape.gradient(total, weights)
        optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
    return losses, penalties
