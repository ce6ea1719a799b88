"""MGSModel: any Keras model, trained with an MGS penalty."""

import math
from collections.abc import Callable

import keras
import tensorflow as tf
from keras import ops

from keras_mgs import autodiff, checks, norms, penalties, replicas

_UNSET = math.nan  # α while "auto" has not chosen it yet
# Under alpha="auto", how much longer a penalised step's gradient may be than the running mean.
_LONGEST = 2.0


@keras.saving.register_keras_serializable(package="keras_mgs")
class MGSModel(keras.Model):
    """A Keras model whose training step adds an MGS penalty to the loss.

    `loss + alpha * tr K` (or `alpha * log det K`), K = J Jᵀ being the MGS kernel of the batch: the
    network is made to learn samples in groups instead of one by one. Compile it and fit it as any
    Keras model. It wraps `model`, which stays what it was: `mgs.model` is what to deploy.

    History gains two training metrics: `mgs_penalty`, α·tr K (or α·log det K), the mean over the
    epoch's penalised steps, and `mgs_alpha`. `loss` is the loss without the penalty.

    Under a `tf.distribute` strategy each replica penalises its own part of the batch, and the
    penalties add up: tr K is that of the whole batch, log det K the sum of those of the parts.

    Args:
        model: a built `keras.Model` with trainable weights.
        penalty: "trace", "log_det", or a `TracePenalty`, `LogDetPenalty`, `LossGradientPenalty`.
        alpha: the penalty's weight, a number ≥ 0, taken as it is; or a
            `keras.optimizers.schedules` object, asked at every step; or "auto", the default: chosen
            at the first step as a fixed share of loss / tr K (see `TracePenalty`), then kept, also
            when the model is saved. A penalised step whose gradient is over twice as long as they
            have been on average is then shortened to that, so that no single step undoes the
            learning. "log_det" needs a number or a schedule. A callback may set `mgs.alpha`.
        **kwargs: as for `keras.Model`: `name`, …; `dtype` is that of `model`.

    Raises:
        TypeError, ValueError: an argument is none of these.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> mgs = keras_mgs.MGSModel(model)
    >>> mgs.compile("sgd", "mse")
    >>> history = mgs.fit(np.ones((8, 3)), np.ones((8, 2)), verbose=0)
    >>> sorted(history.history)
    ['loss', 'mgs_alpha', 'mgs_penalty']

    Reference: Szolnoky et al., NeurIPS 2022, section 5.
    """

    train_function: Callable | None  # which Keras does not say

    def __init__(self, model, penalty="trace", alpha=None, **kwargs):
        checks.built(model)  # layers may be frozen, and freed again before `fit`
        # Inputs reach the network as they are; it casts them itself.
        super().__init__(**{"dtype": model.dtype_policy, "autocast": False, **kwargs})
        self.model = model
        self.penalty = penalties.get(penalty, alpha)
        self._alpha = self.add_weight(
            name="alpha",
            shape=(),
            dtype="float64",  # a number that is given is taken as it is
            initializer="zeros",
            trainable=False,
            autocast=False,
        )
        given = self.penalty.alpha
        self._alpha.assign(given if isinstance(given, float) else _UNSET)
        self._length = self.add_weight(
            name="length", shape=(), dtype="float32", initializer="zeros", trainable=False
        )
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
        self._alpha_tracker = _Reading(self._alpha, name="mgs_alpha")
        self.built = True

    @property
    def alpha(self):
        """The penalty's weight: a float, that of the last step if it follows a schedule.

        Until the first training step, "auto" and schedules are what was given.
        """
        alpha = float(self._alpha.numpy())
        return self.penalty.alpha if math.isnan(alpha) else alpha

    @alpha.setter
    def alpha(self, value):
        if callable(self.penalty.alpha):
            raise TypeError(
                f"Expected `alpha` to be left to its schedule, {self.penalty.alpha!r}. "
                f"Received: alpha={value!r}. Give MGSModel a number if a callback is to set it."
            )
        alpha = checks.number("alpha", value)
        if alpha < 0:
            raise ValueError(f"Expected `alpha` to be at least 0. Received: alpha={value!r}.")
        self._alpha.assign(alpha)

    @property
    def output_names(self):
        """The names by which `compile` may give losses and metrics; None if there are none."""
        return getattr(self.model, "output_names", None)

    def call(self, inputs, training=None):
        return self.model(inputs, training=training)

    def fit(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.fit`, after a look at data that come as arrays.

        NaN and infinity, inputs that do not fit the model, and lengths that differ raise a
        ValueError.
        """
        checks.model(self.model)
        checks.training_data(
            self.model, getattr(self, "loss", None), x, y, kwargs.get("sample_weight")
        )
        return super().fit(x, y, *args, **kwargs)

    def make_train_function(self, force=False):
        """As `keras.Model.make_train_function`, but plain and penalised steps are compiled apart.

        In one function for both, TensorFlow would pass through all operations of the branch that
        is not taken, and hold what choosing α needs beside what the penalty does.
        """
        replicated = self.distribute_strategy.num_replicas_in_sync > 1
        overridden = getattr(self.train_step, "__func__", None) is not MGSModel.train_step
        if self.steps_per_execution > 1 or replicated or overridden:
            super().make_train_function(force)
        elif self.train_function is None or force:
            self.train_function = _InTurn(self)
        elif isinstance(self.train_function, _InTurn):  # weights, the count among them, may be new
            self.train_function.plain_left = 0

    def train_step(self, data):
        return self._with_variables(self._step, data)

    def _with_variables(self, step, data):
        """`step(data)`, after the optimizer has made its variables."""
        if tf.distribute.has_strategy():  # there Keras has made all variables before
            return step(data)
        with tf.variable_creator_scope(_outside):
            if not self.optimizer.built:  # first, or the loss scale would be traced as a constant
                with tf.init_scope():  # some start from constants, which must not be traced
                    self.optimizer.build(self.trainable_variables)
            return step(data)

    def _step(self, data, penalised=None):
        """A training step; where it is not known to be penalised or plain, a graph of both."""
        step = ops.cast(self._steps, "int32")
        alpha, every = self.penalty.alpha, self.penalty.every
        if isinstance(alpha, float):  # weights may have been loaded of a model without one
            self._alpha.assign(ops.where(ops.isnan(self._alpha), alpha, self._alpha))
        elif callable(alpha):
            self._alpha.assign(alpha(step))
        elif replicas.count() > 1:  # that can only speak to each other outside of a conditional
            self._choose_alpha_if_unset(data)
        acts = ops.equal(step % every, 0)

        def penalised_step():
            if penalised is None and alpha == "auto" and replicas.count() == 1:
                self._choose_alpha_if_unset(data)  # else whoever knows the kind has seen to it
            return self._penalised_step(data, step)

        if penalised or every == 1:
            gradients, logs = penalised_step()
        elif penalised is False:
            gradients, logs = self._plain_step(data)
        else:
            # Each branch has a forward pass of its own: what the penalty needs of one, and where
            # TensorFlow therefore cannot fuse operations, would slow down the plain steps.
            gradients, logs = tf.cond(acts, _apart(penalised_step), lambda: self._plain_step(data))
        if alpha == "auto" and replicas.count() > 1:
            # The optimizer adds up the gradients of all replicas, after this, once more.
            whole = [g / replicas.count() for g in replicas.total(gradients)]
            gradients = tf.cond(acts, lambda: self._shorten(whole), lambda: whole)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        # Where only reading the data shows that they have ended, all that does not wait for data
        # would run once more.
        with autodiff.after(gradients):
            self._steps.assign(step + 1)
        return logs

    def _choose_alpha_if_unset(self, data):
        unset = ops.isnan(self._alpha)
        zero = ops.zeros((), self._alpha.dtype)
        loss, unit = tf.cond(unset, lambda: self._loss_and_unit(data), lambda: (zero, zero))
        loss, unit = replicas.total([loss, unit])
        self._alpha.assign(ops.where(unset, _share(loss, unit), self._alpha))

    def _choose_alpha(self, data):
        self._alpha.assign(_share(*self._loss_and_unit(data)))

    def _loss_and_unit(self, data):
        """What α is chosen by, of a forward pass that leaves no trace in the model's state."""
        step, dtype = ops.cast(self._steps, "int32"), self._alpha.dtype
        with keras.StatelessScope(collect_losses=True):
            run = self._recorded_pass(data, step, whole=True)
            unit = self.penalty.unit(run)
        return ops.cast(run.loss, dtype), ops.cast(unit, dtype)

    def _recorded_pass(self, data, step, whole=False):
        """A forward pass and its loss, recorded as the penalty needs them."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with self.penalty.watching(self, x, step, whole=whole) as forward:
            run = forward(self)
            run.loss = self.compute_loss(x, y, run.outputs, sample_weight, training=True)
        return run

    def _plain_step(self, data):
        """Gradients and logs of a step without the penalty."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with autodiff.tape() as tape:
            outputs = self(x, training=True)
            loss = self.compute_loss(x, y, outputs, sample_weight, training=True)
            scaled = self.optimizer.scale_loss(loss)
        gradients = autodiff.gradient(tape, scaled, autodiff.values(self.trainable_weights))
        return gradients, self._logs(data, outputs, loss)

    def _penalised_step(self, data, step):
        """Gradients and logs of a step with it."""
        with autodiff.tape() as tape:
            run = self._recorded_pass(data, step)
            value = self.penalty.value(run)
            alpha = ops.where(ops.isnan(self._alpha), 0.0, self._alpha)  # none chosen yet
            penalty = alpha * ops.cast(value, alpha.dtype)
            total = run.loss + ops.cast(self.penalty.every * penalty, run.loss.dtype)
            scaled = self.optimizer.scale_loss(total)
        gradients = autodiff.gradient(tape, scaled, autodiff.values(self.trainable_weights))
        if self.penalty.alpha == "auto" and replicas.count() == 1:
            gradients = self._shorten(gradients)
        with autodiff.after([penalty]):
            self._penalty_tracker.update_state(penalty * replicas.count())
        return gradients, self._logs(data, run.outputs, run.loss)

    def _logs(self, data, outputs, loss):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        size = ops.shape(next(t for t in keras.tree.flatten(x) if t is not None))[0]
        # Each replica's loss is its share of the mean over the whole batch.
        self._loss_tracker.update_state(loss * replicas.count(), sample_weight=size)
        return self.compute_metrics(x, y, outputs, sample_weight=sample_weight)

    def _shorten(self, gradients):
        """Keep one penalised step from overshooting, by the lengths of those before it.

        Its weight is `every` times α. While tr K shoots up in the first epochs, one step can then
        push it so far down that the network never recovers.
        """
        scale = self.optimizer.scale_loss(1.0)  # before squaring: it may be very large
        length = ops.sqrt(norms.squared([g / ops.cast(scale, g.dtype) for g in gradients]))
        mean = ops.cast(self._length, length.dtype)
        allowed = ops.where(mean > 0, ops.minimum(length, _LONGEST * mean), length)
        known = ops.isfinite(length)  # the optimizer skips a step that overflows
        following = ops.where(mean > 0, 0.8 * mean + 0.2 * allowed, length)
        self._length.assign(ops.where(known, following, mean))
        share = ops.where(known, ops.divide_no_nan(allowed, length), 1.0)
        return [g * ops.cast(share, g.dtype) for g in gradients]

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
        alpha = self.alpha  # also what "auto" has chosen
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "model": keras.saving.serialize_keras_object(self.model),
            "penalty": keras.saving.serialize_keras_object(self.penalty),
            "alpha": alpha if isinstance(alpha, float) else None,
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
            model._alpha.assign(alpha)
        return model


class _InTurn:
    """A train function: the compiled plain step, or the penalised one, as the count of steps says.

    The count is looked up before each penalised step only, and so is whether α has been chosen.
    """

    def __init__(self, mgs):
        def compiled(step):
            mgs.train_step = lambda data: mgs._with_variables(step, data)
            keras.Model.make_train_function(mgs, force=True)
            del mgs.train_step
            return mgs.train_function

        self.mgs = mgs
        self.plain = compiled(lambda data: mgs._step(data, penalised=False))
        self.penalised = compiled(lambda data: mgs._step(data, penalised=True))
        self.choose_alpha = compiled(mgs._choose_alpha)
        self.plain_left = 0  # how many come before the next penalised step; 0: the count tells

    def __call__(self, iterator):
        penalty = self.mgs.penalty
        if self.plain_left == 0:
            self.plain_left = -int(self.mgs._steps.value) % penalty.every
        if self.plain_left > 0:
            logs = self.plain(iterator)
            self.plain_left -= 1
            return logs
        batch = [next(iter(iterator))]
        if penalty.alpha == "auto" and math.isnan(float(self.mgs._alpha.value)):
            self.choose_alpha(batch)
        logs = self.penalised(batch)
        self.plain_left = penalty.every - 1
        return logs


def _share(loss, unit):
    """α, by the rule of "auto"; unset where a batch tells nothing, without weight or too large."""
    alpha = penalties.SHARE * ops.abs(loss) / unit
    return ops.where(ops.logical_and(alpha > 0, ops.isfinite(alpha)), alpha, _UNSET)


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
    """The value of a variable, as a metric, so that it reaches History."""

    def __init__(self, variable, **kwargs):
        super().__init__(**kwargs)
        self._read = lambda: tf.convert_to_tensor(variable.value)

    def update_state(self, *args, **kwargs):
        pass

    def result(self):
        return self._read()

    def reset_state(self):
        pass
