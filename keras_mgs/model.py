"""MGSModel: any Keras model, trained with an MGS penalty."""

import inspect
import math

import keras
import tensorflow as tf
from keras import ops

from keras_mgs import alpha as alphas
from keras_mgs import autodiff, checks, epochs, parts, penalties, replicas, slices, wrapped
from keras_mgs.data import number_of_samples, training_data


@keras.saving.register_keras_serializable(package="keras_mgs")
class MGSModel(keras.Model):
    """A Keras model whose training step adds an MGS penalty to the loss.

    `loss + alpha * tr K` (or `alpha * log det K`), K = J Jᵀ being the MGS kernel of the batch: the
    network is made to learn samples in groups instead of one by one. Compile it and fit it as any
    Keras model. It wraps `model`, which stays what it was: `mgs.model` is what to deploy.

    History gains two training metrics: `mgs_penalty`, α·tr K (or α·log det K), the mean over the
    epoch's penalised steps, and `mgs_alpha`. `loss` is the loss without the penalty. A penalty
    without a finite gradient leaves a plain step: `mgs_skipped` counts these, if there are any.

    What `model` has of its own of `compute_loss`, `compute_metrics`, metrics, `test_step`,
    `predict_step`, `fit`, `evaluate`, `predict` and `compile` is used.

    Under a `tf.distribute` strategy each replica penalises its own part of the batch, and the
    penalties add up: tr K is that of the whole batch, log det K the sum of those of the parts.

    Args:
        model: a built `keras.Model` with trainable weights.
        penalty: "trace", "log_det", or a `TracePenalty`, `LogDetPenalty`, `LossGradientPenalty`.
        alpha: the penalty's weight, a number ≥ 0, taken as it is; or a
            `keras.optimizers.schedules` object, asked at every step; or "auto", the default:
            0 until the network has begun to learn, then 0.4 · e / (e + 3) · ‖∇ loss‖ / ‖∇ penalty‖
            after e epochs, averaged over the steps (see `keras_mgs.alpha.rule`). A penalised step
            whose gradient is over twice as long as they have been on average is then shortened to
            that, so that no single step undoes the learning. "log_det" needs a number or a
            schedule.
            A callback may set `mgs.alpha`, which makes it a number.
        **kwargs: as for `keras.Model`: `name`, …; `dtype` is that of `model`.

    Raises:
        TypeError, ValueError: an argument is none of these, or `model` has a `train_step` of its
            own.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> mgs = keras_mgs.MGSModel(model)
    >>> mgs.compile("sgd", "mse")
    >>> history = mgs.fit(np.ones((8, 3)), np.ones((8, 2)), verbose=0)
    >>> sorted(history.history)
    ['loss', 'mgs_alpha', 'mgs_penalty']

    Reference: Szolnoky et al., NeurIPS 2022, section 5.
    """

    def __init__(self, model, penalty="trace", alpha=None, **kwargs):
        checks.built(model)  # layers may be frozen, and freed again before `fit`
        wrapped.check(model)
        # Inputs reach the network as they are; it casts them itself.
        super().__init__(**{"dtype": model.dtype_policy, "autocast": False, **kwargs})
        self.model = model
        self.penalty = penalties.get(penalty, alpha)
        self._alpha = alphas.of(self.penalty.alpha, self.add_weight)
        # The optimizer's own counter misses steps that it skips or accumulates.
        self._steps = self.add_weight(
            name="steps", shape=(), dtype="int32", initializer="zeros", trainable=False
        )
        self._last = self.add_weight(
            name="penalty",
            shape=(),
            dtype="float64",
            initializer=keras.initializers.Constant(math.nan),
            trainable=False,
            autocast=False,
        )
        self._penalty_tracker = _LastMean(self._last, name="mgs_penalty")
        self._alpha_tracker = _Reading(self._alpha.now, name="mgs_alpha")
        wrapped.take_over(self, model)
        self.built = True

    @property
    def alpha(self):
        """The penalty's weight in the last step, a float.

        Until a step has set it, "auto" and schedules are what was given.
        """
        return self._alpha.current

    @alpha.setter
    def alpha(self, value):
        alpha = checks.number("alpha", value)
        if alpha < 0:
            raise ValueError(f"Expected `alpha` to be at least 0. Received: alpha={value!r}.")
        self._alpha.set(alpha)

    @property
    def output_names(self):
        """The names by which `compile` may give losses and metrics; None if there are none."""
        return getattr(self.model, "output_names", None)

    def call(self, inputs, training=None):
        return self.model(inputs, training=training)

    @property
    def metrics(self):
        found = super().metrics
        model = getattr(self, "model", None)  # not yet there while Keras sets this one up
        return found if model is None else wrapped.metrics(self, model, found)

    def fit(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.fit`, after a look at data that come as arrays.

        NaN and infinity, inputs that do not fit the model, and lengths that differ raise a
        ValueError.
        """
        checks.model(self.model)
        replicas.check(self)
        given = inspect.signature(keras.Model.fit).bind(self, x, y, *args, **kwargs)
        weight = given.arguments.get("sample_weight")
        own_loss = "compute_loss" in vars(self)  # that of the model, of which nothing is known
        loss = None if own_loss else getattr(self, "loss", None)
        training_data(self.model, loss, x, y, weight)
        with epochs.followed(self, given.arguments.get("callbacks")) as callbacks:
            given.arguments["callbacks"] = callbacks
            return super().fit(*given.args[1:], **given.kwargs)

    def train_step(self, data):
        if tf.distribute.has_strategy():  # there Keras has made all variables before
            return self._step(data)
        with tf.variable_creator_scope(_outside):
            if not self.optimizer.built:  # first, or the loss scale would be traced as a constant
                with tf.init_scope():  # some start from constants, which must not be traced
                    self.optimizer.build(self.trainable_variables)
            return self._step(data)

    def _step(self, data):
        step = ops.cast(self._steps, "int32")
        self._alpha.begin(step)
        if self.penalty.every == 1:
            gradients, logs = self._penalised_step(data, step)
        else:
            gradients, logs = self._either_step(data, step)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        # Where only reading the data shows that they have ended, all that does not wait for data
        # would run once more.
        with autodiff.after(gradients):
            self._steps.assign(step + 1)
        return logs

    def _either_step(self, data, step):
        """Gradients and logs of a plain or of a penalised step, as the count of steps says."""
        acts = ops.equal(step % self.penalty.every, 0)

        # Each branch has a forward pass of its own: what the penalty needs of one, and where
        # TensorFlow therefore cannot fuse operations, would slow down the plain steps.
        if replicas.count() == 1:
            penalised = _apart(lambda: self._penalised_step(data, step))
            return tf.cond(acts, penalised, lambda: self._plain_step(data))

        # Replicas can only speak to each other outside of a conditional.
        def plain():
            gradients, *results = self._plain_gradients(data)
            return self._of_loss_alone(slices.dense(gradients)), *results

        penalised = _apart(lambda: self._gradients(data, step))
        found, *results = tf.cond(acts, penalised, plain)
        found = replicas.total(found)
        gradients = tf.cond(acts, lambda: self._balance(found), lambda: found.loss)
        return [g / replicas.count() for g in gradients], self._logs(data, *results)

    def _plain_step(self, data):
        """Gradients and logs of a step without the penalty."""
        gradients, *results = self._plain_gradients(data)
        return gradients, self._logs(data, *results)

    def _plain_gradients(self, data):
        """The gradients, the outputs and the loss of a step without the penalty."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with autodiff.tape() as tape:
            outputs = self(x, training=True)
            loss = self.compute_loss(x, y, outputs, sample_weight, training=True)
            scaled = self.optimizer.scale_loss(loss)
        weights = autodiff.values(self.trainable_weights)
        return autodiff.gradient(tape, scaled, weights, dense=False), outputs, loss

    def _penalised_step(self, data, step):
        """Gradients and logs of a step with it."""
        found, *results = self._gradients(data, step)
        gradients = self._balance(replicas.total(found))
        # The optimizer adds up the gradients of all replicas, after this, once more.
        gradients = [slices.of_values(lambda t: t / replicas.count(), g) for g in gradients]
        return gradients, self._logs(data, *results)

    def _gradients(self, data, step):
        """`alpha.Gradients`, the outputs and the loss of a penalised step."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        scale, penalty = self.optimizer.scale_loss, self.penalty
        weight = self._alpha.weight(scale(1.0))
        with autodiff.tape() as tape:
            with penalty.watching(self, x, step) as forward:
                run = forward(self)
                loss = self.compute_loss(x, y, run.outputs, sample_weight, training=True)
                run.loss = ops.sum(loss)  # a loss without a reduction is one per sample
            scaled = scale(run.loss)
            value = penalty.value(run)
            weighted = ops.cast(weight, value.dtype) * value
            measured = None
            if self._alpha.measures and not penalty.measures_itself:
                gauge = penalty.gauge(run)
                measured = ops.cast(weight, gauge.dtype) * gauge

        def gradient(target, weights):
            found = autodiff.gradient(tape, target, autodiff.values(weights), dense=False)
            return found if replicas.count() == 1 else slices.dense(found)

        learned = checks.weights(self.model)
        found = alphas.Gradients(
            loss=gradient(scaled, self.trainable_weights),
            penalty=gradient(weighted, learned),
            measured=[] if measured is None else gradient(measured, learned),
            value=ops.cast(value, "float64"),
            losses=self._label_losses(data, run) if self._alpha.measures else [],
        )
        return found, run.outputs, loss

    def _of_loss_alone(self, gradients):
        """`alpha.Gradients` of a plain step, in the structure of a penalised one's."""
        learned, _ = self._split(gradients)
        none, zero = [ops.zeros_like(g) for g in learned], ops.zeros((), "float64")
        measured = self._alpha.measures and not self.penalty.measures_itself
        losses = [zero] * 3 if self._alpha.measures else []
        return alphas.Gradients(gradients, none, none if measured else [], zero, losses)

    def _split(self, gradients):
        """Those of the weights that are learned, and those of weights that take their place."""
        overwritten = [checks.is_overwritten(w) for w in self.trainable_weights]
        pairs = list(zip(gradients, overwritten, strict=True))
        return [g for g, other in pairs if not other], [g for g, other in pairs if other]

    def _balance(self, found):
        """The gradients of a penalised step, of all replicas."""
        learned, others = self._split(found.loss)
        scale = self.optimizer.scale_loss(1.0)
        gradients = self._alpha.gradients(found._replace(loss=learned), self.penalty.every, scale)
        with autodiff.after(gradients):
            penalty = self._alpha.now() * found.value
            self._penalty_tracker.update_state(ops.where(ops.isfinite(penalty), penalty, 0.0))
        sources = {False: iter(gradients), True: iter(others)}
        return [next(sources[checks.is_overwritten(w)]) for w in self.trainable_weights]

    def _label_losses(self, data, run):
        """The loss, and without regularisers: that of the labels, and of labels dealt anew."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        loss = ops.cast(run.loss, "float64")
        if not _can_be_dealt(y):
            alphas.warn_unlabelled()
            return [loss, loss, loss]
        added = self.losses
        with keras.StatelessScope(collect_losses=True) as scope:  # metrics shall not see it
            scope.losses.extend(added)
            dealt = self.compute_loss(
                x, parts.dealt(y), run.outputs, parts.dealt(sample_weight), training=True
            )
        dealt = ops.cast(ops.sum(dealt), loss.dtype)
        rest = sum(ops.cast(ops.sum(a), loss.dtype) for a in added) / replicas.count()
        return [loss, loss - rest, dealt - rest]

    def _logs(self, data, outputs, loss):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        size = number_of_samples(x)
        # Each replica's loss is its share of the mean over the whole batch.
        self._loss_tracker.update_state(loss * replicas.count(), sample_weight=size)
        logs = self.compute_metrics(x, y, outputs, sample_weight=sample_weight)
        own = (self._penalty_tracker, self._alpha_tracker)
        return {**logs, **{metric.name: metric.result() for metric in own}}

    def test_step(self, data):
        logs = super().test_step(data)
        # A penalty belongs to training: `val_mgs_penalty` would say something that nobody measured.
        return {k: v for k, v in logs.items() if k not in ("mgs_penalty", "mgs_alpha")}

    def evaluate(self, *args, **kwargs):
        """As `keras.Model.evaluate`: numbers, which older versions of Keras leave to it."""
        found = super().evaluate(*args, **kwargs)
        return keras.tree.map_structure(lambda v: float(v) if tf.is_tensor(v) else v, found)

    def export(self, *args, **kwargs):
        """As `keras.Model.export`: of the network alone, which is what to deploy."""
        return self.model.export(*args, **kwargs)

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "model": keras.saving.serialize_keras_object(self.model),
            "penalty": keras.saving.serialize_keras_object(self.penalty),
            "alpha": self._alpha.number,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for key in ("model", "penalty"):
            config[key] = keras.saving.deserialize_keras_object(
                config[key], custom_objects=custom_objects
            )
        alpha = config.pop("alpha")
        model = cls(**config)
        if alpha is not None:
            model.alpha = alpha
        return model


def _can_be_dealt(y):
    """Whether there are labels, in tensors that can be rolled."""
    leaves = keras.tree.flatten(y)
    return bool(leaves) and all(isinstance(leaf, tf.Tensor) for leaf in leaves)


def _apart(step):
    """`step` as a function that TensorFlow leaves one, and does not write out where it is called.

    In a branch that is not taken, every operation costs time.
    """

    @tf.function(autograph=False, experimental_attributes={"_noinline": True})
    def run():
        with tf.variable_creator_scope(_outside):
            return step()

    return run


def _outside(create, initial_value=None, **options):
    """Create a variable outside of the function that is being traced.

    Those of optimizer and metrics are made in the first step, and a function that creates some of
    its own is traced a second time.
    """
    if tf.is_symbolic_tensor(initial_value):  # known inside of it alone
        return create(initial_value=initial_value, **options)
    options["experimental_enable_variable_lifting"] = False
    with tf.init_scope():
        return create(initial_value=initial_value, **options)


class _LastMean(keras.metrics.Mean):
    """A mean that, in an epoch without an update, is still that of the last epoch that had one.

    `last`, a variable of the model, keeps it when the model is saved.
    """

    def __init__(self, last, **kwargs):
        super().__init__(**kwargs)
        self._last = lambda: last  # not one of the metric's own variables

    def update_state(self, *args, **kwargs):
        super().update_state(*args, **kwargs)
        self._last().assign(super().result())

    def result(self):
        mean = super().result()
        return ops.where(self.count > 0, mean, ops.cast(self._last(), mean.dtype))


class _Reading(keras.metrics.Metric):
    """A number that the model has anyway, as a metric, so that it reaches History."""

    def __init__(self, read, **kwargs):
        super().__init__(**kwargs)
        self._read = read

    def update_state(self, *args, **kwargs):
        pass

    def result(self):
        return self._read()

    def reset_state(self):
        pass
