"""MGSModel: any Keras model, trained with an MGS penalty."""

import keras
import tensorflow as tf
from keras import ops

from keras_mgs import autodiff, checks, penalties

_UNSET = -1.0  # α while "auto" has not chosen it yet
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

    Args:
        model: a built `keras.Model` with trainable weights.
        penalty: "trace", "log_det", or a `TracePenalty`, `LogDetPenalty`, `LossGradientPenalty`.
        alpha: the penalty's weight, a number ≥ 0, taken as it is; or "auto", the default: chosen
            at the first step as a fixed share of loss / tr K (see `TracePenalty`), then kept, also
            when the model is saved. A penalised step whose gradient is over twice as long as they
            have been on average is then shortened to that, so that no single step undoes the
            learning. "log_det" needs a number.
        **kwargs: as for `keras.Model`: `name`, …

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

    def __init__(self, model, penalty="trace", alpha=None, **kwargs):
        checks.model(model)
        super().__init__(**kwargs)
        self.model = model
        self.penalty = penalties.get(penalty, alpha)
        chosen = self.penalty.alpha
        self._alpha = self.add_weight(
            name="alpha",
            shape=(),
            dtype="float64",  # a number that is given is taken as it is
            initializer="zeros",
            trainable=False,
            autocast=False,
        )
        self._alpha.assign(_UNSET if chosen == "auto" else chosen)
        self._length = self.add_weight(
            name="length", shape=(), dtype="float32", initializer="zeros", trainable=False
        )
        self._penalty_tracker = _LastMean(name="mgs_penalty")
        self._alpha_tracker = _Reading(self._alpha, name="mgs_alpha")
        self.built = True

    @property
    def alpha(self):
        """The penalty's weight: a float, or "auto" until the first training step chooses it."""
        alpha = float(self._alpha.numpy())
        return "auto" if alpha == _UNSET else alpha

    @alpha.setter
    def alpha(self, value):
        alpha = checks.number("alpha", value)
        if alpha < 0:
            raise ValueError(f"Expected `alpha` to be at least 0. Received: alpha={value!r}.")
        self._alpha.assign(alpha)

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

    def train_step(self, data):
        step = ops.cast(self.optimizer.iterations, "int32")
        if self.penalty.every == 1:
            gradients, logs = self._penalised_step(data, step)
        else:
            # Each branch has a forward pass of its own: what the penalty needs of one, and where
            # TensorFlow therefore cannot fuse operations, would slow down the plain steps.
            gradients, logs = ops.cond(
                step % self.penalty.every == 0,
                lambda: self._penalised_step(data, step),
                lambda: self._plain_step(data),
            )
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return logs

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
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with autodiff.tape() as tape, self.penalty.watching(self, x, step) as forward:
            run = forward(self)
            run.loss = self.compute_loss(x, y, run.outputs, sample_weight, training=True)
        with tape:
            value = self.penalty.value(run)
        alpha = self._choose_alpha(run, value)
        with tape:
            penalty = alpha * ops.cast(value, alpha.dtype)
            total = run.loss + ops.cast(self.penalty.every * penalty, run.loss.dtype)
            scaled = self.optimizer.scale_loss(total)
        gradients = autodiff.gradient(tape, scaled, autodiff.values(self.trainable_weights))
        if self.penalty.alpha == "auto":
            gradients = self._shorten(gradients)
        self._penalty_tracker.update_state(penalty)
        return gradients, self._logs(data, run.outputs, run.loss)

    def _logs(self, data, outputs, loss):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        size = ops.shape(next(t for t in keras.tree.flatten(x) if t is not None))[0]
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self._loss_tracker.update_state(loss * replicas, sample_weight=size)
        return self.compute_metrics(x, y, outputs, sample_weight=sample_weight)

    def _choose_alpha(self, run, value):
        """α, which "auto" fixes at the first penalised step."""
        if self.penalty.alpha != "auto":
            return ops.convert_to_tensor(self._alpha)

        def choose():
            share = penalties.SHARE * ops.cast(ops.abs(run.loss), self._alpha.dtype)
            unit = ops.cast(self.penalty.unit(run, value), self._alpha.dtype)
            self._alpha.assign(ops.divide_no_nan(share, unit))
            return ops.convert_to_tensor(self._alpha)

        return ops.cond(
            ops.equal(self._alpha, _UNSET), choose, lambda: ops.convert_to_tensor(self._alpha)
        )

    def _shorten(self, gradients):
        """Keep one penalised step from overshooting, by the lengths of those before it.

        Its weight is `every` times α. While tr K shoots up in the first epochs, one step can then
        push it so far down that the network never recovers.
        """
        length = ops.sqrt(penalties.squared_norm(gradients))
        mean = ops.cast(self._length, length.dtype)
        allowed = ops.where(mean > 0, ops.minimum(length, _LONGEST * mean), length)
        self._length.assign(ops.where(mean > 0, 0.8 * mean + 0.2 * allowed, length))
        share = ops.divide_no_nan(allowed, length)
        return [g * ops.cast(share, g.dtype) for g in gradients]

    def test_step(self, data):
        logs = super().test_step(data)
        # A penalty belongs to training: `val_mgs_penalty` would say something that nobody measured.
        return {k: v for k, v in logs.items() if k not in ("mgs_penalty", "mgs_alpha")}

    def export(self, *args, **kwargs):
        """As `keras.Model.export`: of the network alone, which is what to deploy."""
        return self.model.export(*args, **kwargs)

    def get_config(self):
        return {
            "name": self.name,
            "model": keras.saving.serialize_keras_object(self.model),
            "penalty": keras.saving.serialize_keras_object(self.penalty),
            "alpha": self.alpha,  # also what "auto" has chosen
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
        if alpha != "auto":
            model.alpha = alpha
        return model


class _LastMean(keras.metrics.Mean):
    """A mean that, in an epoch without an update, is still that of the last epoch that had one."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._last = self.add_variable((), keras.initializers.Constant(float("nan")), name="last")

    def reset_state(self):
        self._last.assign(self.result())
        super().reset_state()

    def result(self):
        return ops.where(self.count > 0, super().result(), self._last)


class _Reading(keras.metrics.Metric):
    """The value of a variable, as a metric, so that it reaches History."""

    def __init__(self, variable, **kwargs):
        super().__init__(**kwargs)
        self._read = lambda: ops.convert_to_tensor(variable)

    def update_state(self, *args, **kwargs):
        pass

    def result(self):
        return self._read()

    def reset_state(self):
        pass
