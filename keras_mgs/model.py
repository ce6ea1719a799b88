"""MGSModel: any Keras model, trained with an MGS penalty."""

import functools
import inspect
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_mgs import alpha as alphas
from keras_mgs import (
    autodiff,
    checks,
    epochs,
    graphs,
    parts,
    penalties,
    replicas,
    slices,
    trackers,
    wrapped,
)
from keras_mgs.data import number_of_samples, training_data


@keras.saving.register_keras_serializable(package="keras_mgs")
class MGSModel(keras.Model):
    """A Keras model whose training step adds an MGS penalty to the loss.

    The training loss is `loss + alpha * tr K` (or `alpha * log det K`), where K = J Jᵀ is the MGS
    kernel of the batch. It makes the network learn samples in groups instead of one by one. Compile
    and fit it as any Keras model. It wraps `model`, whose class and configuration stay as they are:
    `mgs.model` is what to deploy.

    History gains two training metrics: `mgs_penalty`, α·tr K (or α·log det K), the mean over the
    epoch's penalised steps, and `mgs_alpha`. `loss` is the loss without the penalty. A step whose
    penalty has no finite gradient is made without it; if there are any, `mgs_skipped` counts them.

    Where `model` has its own `compute_loss`, `compute_metrics`, metrics, `test_step`,
    `predict_step`, `fit`, `evaluate`, `predict` or `compile`, these are used.

    Under a `tf.distribute` strategy each replica penalises its own part of the batch, and the
    penalties add up: tr K is that of the whole batch, log det K the sum of those of the parts.

    Args:
        model: a built `keras.Model` with trainable weights.
        penalty: "trace", "log_det", "rkhs", or a `TracePenalty`, `LogDetPenalty`, `RKHSPenalty`,
            `LossGradientPenalty`.
        alpha: the penalty's weight. A number ≥ 0 is taken as it is. A `keras.optimizers.schedules`
            object is asked at every step. "auto", the default, is 0 until the network has begun to
            learn, and then a share of ‖∇ loss‖ / ‖∇ penalty‖, averaged over the steps, that grows
            with the epochs to at most 0.6 (see `keras_mgs.alpha.rule`). "auto" also shortens the
            gradient of a penalised step to twice the average length of those before, so that no
            single step undoes the learning. "log_det" and "rkhs" need a number or a schedule. A
            callback may set `mgs.alpha`, which makes it a number.
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

    train_function: Any  # Keras does not type these
    jit_compile: Any

    def __init__(
        self,
        model: keras.Model,
        penalty: str | penalties.Penalty = "trace",
        alpha: float | str | keras.optimizers.schedules.LearningRateSchedule | None = None,
        **kwargs: Any,
    ) -> None:
        checks.built(model)  # layers may be frozen, and freed again before `fit`
        wrapped.check(model)
        # Inputs reach the network as they are; it casts them itself.
        super().__init__(**{"dtype": model.dtype_policy, "autocast": False, **kwargs})
        self.model = model
        self.penalty = penalties.get(penalty, alpha)
        self._alpha = alphas.of(self.penalty.alpha, self.add_weight)
        # tf.train.Checkpoint finds the variables that attributes of a model hold.
        self._alpha_value, self._alpha_state = self._alpha.value, self._alpha.state
        self._epochs, self._skipped = self._alpha.epochs, self._alpha.skipped
        # The optimizer's own counter misses steps that it skips or accumulates.
        self._steps = self.add_weight(
            name="steps", shape=(), dtype="int32", initializer="zeros", trainable=False
        )
        self._penalty_tracker = trackers.LastMean(self.add_weight, name="mgs_penalty")
        self._alpha_tracker = trackers.Reading(self._alpha.now, name="mgs_alpha")
        self._steps_use_xla = False
        wrapped.take_over(self, model)
        self.built = True

    @property
    def alpha(self) -> float | str | keras.optimizers.schedules.LearningRateSchedule:
        """The penalty's weight in the last step, a float; before the first step, what was given."""
        return self._alpha.current

    @alpha.setter
    def alpha(self, value: float) -> None:
        alpha = checks.number("alpha", value)
        if alpha < 0:
            raise ValueError(f"Expected `alpha` to be at least 0. Received: alpha={value!r}.")
        self._alpha.set(alpha)

    @property
    def output_names(self) -> list[str] | None:
        """The names by which `compile` may give losses and metrics; None if there are none."""
        return getattr(self.model, "output_names", None)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.model(inputs, training=training)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        of_keras = super().metrics
        model = getattr(self, "model", None)  # None while Keras sets this model up
        return of_keras if model is None else wrapped.metrics(self, model, of_keras)

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`, after a check of data that are arrays.

        Raises:
            ValueError: the data hold NaN or infinity, do not fit the model, or differ in length.
        """
        checks.model(self.model)
        replicas.check(self)
        bound = inspect.signature(keras.Model.fit).bind(self, x, y, *args, **kwargs)
        weight = bound.arguments.get("sample_weight")
        own_loss = "compute_loss" in vars(self)  # the wrapped model's, which may take any labels
        loss = None if own_loss else getattr(self, "loss", None)
        training_data(self.model, loss, x, y, weight)
        with epochs.followed(self, bound.arguments.get("callbacks")) as callbacks:
            bound.arguments["callbacks"] = callbacks
            return super().fit(*bound.args[1:], **bound.kwargs)

    def make_train_function(self, force: bool = False) -> None:
        """As `keras.Model.make_train_function`, but XLA compiles plain and penalised steps apart.

        On a CPU, XLA's convolutions are over twice as slow in a branch.
        """
        if self.train_function is not None and not force:
            return
        with_xla, self.jit_compile = self.jit_compile, False
        super().make_train_function(force)
        self.jit_compile = with_xla
        execute = self.train_function

        def train_function(iterator):
            self._steps_use_xla = with_xla
            try:
                return execute(iterator)
            finally:
                self._steps_use_xla = False

        self.train_function = train_function

    def train_step(self, data: Any) -> dict[str, Any]:
        if tf.distribute.has_strategy():  # where Keras has made all variables before

            def on_all_replicas(strategy, data):
                return self._step(lambda step: strategy.run(step, args=(data,)))

            return tf.distribute.get_replica_context().merge_call(on_all_replicas, args=(data,))
        with graphs.lifted_variables():
            if not self.optimizer.built:  # first, or the loss scale would be traced as a constant
                with tf.init_scope():  # some start from constants, which must not be traced
                    self.optimizer.build(self.trainable_variables)
            return self._step(lambda step: step(data))

    def _step(self, run):
        """A training step, penalised once in `every`; `run(step)` calls `step(data)`."""
        steps = self._plain_step, self._penalised_step
        plain, penalised = (functools.partial(run, step) for step in steps)
        if self._steps_use_xla:
            plain, penalised = (graphs.not_inlined(f, jit_compile=True) for f in (plain, penalised))
        elif not tf.distribute.has_strategy():  # such a function cannot span several devices
            penalised = graphs.not_inlined(penalised)
        if self.penalty.every == 1:
            return penalised()
        # Around the whole step: within it, replicas could not exchange tensors, and XLA does not
        # return `tf.IndexedSlices` from a conditional.
        is_penalised = ops.equal(self._steps % self.penalty.every, 0)
        return tf.cond(is_penalised, penalised, plain)

    def _plain_step(self, data):
        """Update the weights without the penalty; return the logs."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self._alpha.begin(ops.cast(self._steps, "int32"))
        with autodiff.tape() as tape:
            outputs = self(x, training=True)
            loss = self.compute_loss(x, y, outputs, sample_weight, training=True)
            scaled = self.optimizer.scale_loss(loss)
        weights = autodiff.values(self.trainable_weights)
        gradients = autodiff.gradient(tape, scaled, weights, dense=False)
        return self._apply(gradients, data, outputs, loss)

    def _penalised_step(self, data):
        """Update the weights with the penalty; return the logs."""
        step = ops.cast(self._steps, "int32")
        self._alpha.begin(step)
        computed, outputs, loss = self._gradients(data, step)
        gradients = self._balance(replicas.total(computed))
        if replicas.count() > 1:  # these are sums over them, and the optimizer sums once more
            gradients = [g / replicas.count() for g in gradients]
        return self._apply(gradients, data, outputs, loss)

    def _apply(self, gradients, data, outputs, loss):
        """Update metrics, weights and the count of steps; return the logs."""
        logs = self._logs(data, outputs, loss)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        # Where only reading the data shows that they have ended, all that does not wait for data
        # would run once more.
        with autodiff.after(gradients):
            self._steps.assign(self._steps + 1)
        return logs

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
            gradients = autodiff.gradient(tape, target, autodiff.values(weights), dense=False)
            return gradients if replicas.count() == 1 else slices.dense(gradients)

        learned = checks.weights(self.model)
        computed = alphas.Gradients(
            loss=gradient(scaled, self.trainable_weights),
            penalty=gradient(weighted, learned),
            measured=[] if measured is None else gradient(measured, learned),
            value=ops.cast(value, "float64"),
            losses=self._label_losses(data, run) if self._alpha.measures else [],
        )
        return computed, run.outputs, loss

    def _split(self, gradients):
        """The gradients of the weights that the penalty sees, and those of overwritten weights."""
        overwritten = [checks.is_overwritten(w) for w in self.trainable_weights]
        pairs = list(zip(gradients, overwritten, strict=True))
        return [g for g, other in pairs if not other], [g for g, other in pairs if other]

    def _balance(self, computed):
        """The gradients of loss and penalty together, summed over the replicas."""
        learned, overwritten = self._split(computed.loss)
        scale = self.optimizer.scale_loss(1.0)
        computed = computed._replace(loss=learned)
        gradients = self._alpha.gradients(computed, self.penalty.every, scale)
        with autodiff.after(gradients):
            penalty = self._alpha.now() * computed.value
            self._penalty_tracker.update_state(ops.where(ops.isfinite(penalty), penalty, 0.0))
        sources = {False: iter(gradients), True: iter(overwritten)}
        return [next(sources[checks.is_overwritten(w)]) for w in self.trainable_weights]

    def _label_losses(self, data, run):
        """The three `alpha.Gradients.losses`."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        loss = ops.cast(run.loss, "float64")
        if not _can_be_dealt(y):
            alphas.warn_unlabelled()
            return [loss, loss, loss]
        added = self.losses
        with keras.StatelessScope(collect_losses=True) as scope:  # metrics do not see this loss
            scope.losses.extend(added)
            dealt = self.compute_loss(
                x, parts.dealt(y), run.outputs, parts.dealt(sample_weight), training=True
            )
        dealt = ops.cast(ops.sum(dealt), loss.dtype)
        regularisers = sum(ops.cast(ops.sum(a), loss.dtype) for a in added) / replicas.count()
        return [loss, loss - regularisers, dealt - regularisers]

    def _logs(self, data, outputs, loss):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        size = number_of_samples(x)
        # Each replica's loss is its share of the mean over the whole batch.
        self._loss_tracker.update_state(loss * replicas.count(), sample_weight=size)
        logs = self.compute_metrics(x, y, outputs, sample_weight=sample_weight)
        own = (self._penalty_tracker, self._alpha_tracker)  # Keras' compute_metrics has them
        return logs | {metric.name: metric.result() for metric in own if metric.name not in logs}

    def test_step(self, data: Any) -> dict[str, Any]:
        logs = super().test_step(data)
        # The penalty is not measured here, so there is no `val_mgs_penalty`.
        return {name: value for name, value in logs.items() if name not in wrapped.OF_MGS}

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate`; it returns numbers where older versions of Keras do not."""
        results = super().evaluate(*args, **kwargs)
        return keras.tree.map_structure(lambda v: float(v) if tf.is_tensor(v) else v, results)

    def export(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.export`, of the wrapped model alone: training needs the rest."""
        return self.model.export(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "model": keras.saving.serialize_keras_object(self.model),
            "penalty": keras.saving.serialize_keras_object(self.penalty),
            "alpha": self._alpha.number,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "MGSModel":
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
    """Whether there are labels, all of them dense tensors, which can be dealt to other samples."""
    leaves = keras.tree.flatten(y)
    return bool(leaves) and all(isinstance(leaf, tf.Tensor) for leaf in leaves)
