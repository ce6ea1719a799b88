"""Methods with a training step of their own: models that wrap a network, as `MGSModel` does."""

import keras
from keras import ops

from keras_mgs import autodiff, norms


class _Wrapper(keras.Model):
    """A network, kept as `model`, and the strength of the method that trains it."""

    def __init__(self, model, strength):
        super().__init__(dtype=model.dtype_policy, autocast=False)
        self.model, self.strength = model, strength
        self.built = True

    def call(self, inputs, training=None):
        return self.model(inputs, training=training)

    def loss_of(self, x, y):
        """The outputs for a batch, and what is minimised."""
        outputs = self(x, training=True)
        return outputs, self.compute_loss(x, y, outputs, training=True)

    def gradients(self, x, y):
        """The outputs, the loss and its gradients by the weights."""
        with autodiff.tape() as tape:
            outputs, loss = self.loss_of(x, y)
        return outputs, loss, autodiff.gradient(tape, loss, autodiff.values(self.trainable_weights))

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        outputs, loss, gradients = self.gradients(x, y)
        self.optimizer.apply(gradients, self.trainable_weights)
        self._loss_tracker.update_state(loss, sample_weight=ops.shape(x)[0])
        return self.compute_metrics(x, y, outputs)


class Mixup(_Wrapper):
    """Trains on weighted means of pairs of samples, for whose two targets the losses are weighted.

    The weight of a batch is drawn from Beta(strength, strength).

    Args:
        model: a built `keras.Model` with one input and one output.
        strength: positive; above 1, most means lie in the middle.

    Reference: Zhang et al., ICLR 2018.
    """

    def __init__(self, model, strength):
        super().__init__(model, strength)
        self.seed = keras.random.SeedGenerator()

    def loss_of(self, x, y):
        order = keras.random.shuffle(ops.arange(ops.shape(x)[0]), seed=self.seed)
        share = keras.random.beta((), self.strength, self.strength, x.dtype, seed=self.seed)
        outputs = self(share * x + (1 - share) * ops.take(x, order, axis=0), training=True)
        losses = [
            self.compute_loss(x, targets, outputs, training=True)
            for targets in (y, ops.take(y, order, axis=0))
        ]
        return outputs, share * losses[0] + (1 - share) * losses[1]


class SAM(_Wrapper):
    """Sharpness-aware minimisation: steps by the gradient at the worst weights nearby.

    To first order these lie `strength` away, in the direction of the gradient.

    Args:
        model: a built `keras.Model`.
        strength: the distance, positive; ρ of the reference.

    Reference: Foret et al., ICLR 2021.
    """

    def gradients(self, x, y):
        outputs, loss, ascent = super().gradients(x, y)
        scale = ops.divide_no_nan(self.strength, ops.sqrt(norms.squared(ascent)))
        before = [ops.copy(weight) for weight in self.trainable_weights]
        for weight, gradient in zip(self.trainable_weights, ascent, strict=True):
            weight.assign_add(scale * gradient)
        gradients = super().gradients(x, y)[-1]
        for weight, value in zip(self.trainable_weights, before, strict=True):
            weight.assign(value)
        return outputs, loss, gradients


class ForwardCorrection(_Wrapper):
    """Minimises the cross-entropy of wrong labels as the noise makes them of the outputs.

    That is −log Σ_i T[i, y] p_i, p being the softmax of the outputs, and T the noise matrix.

    Args:
        model: a built `keras.Model` with raw outputs for classes.
        matrix: T (q, q): how likely a sample of class i is called j. Nobody has it in earnest.

    Reference: Patrini et al., CVPR 2017.
    """

    def __init__(self, model, matrix):
        super().__init__(model, None)
        self.matrix = matrix

    def loss_of(self, x, y):
        outputs = self(x, training=True)
        matrix = ops.convert_to_tensor(self.matrix, outputs.dtype)
        likely = ops.transpose(ops.take(matrix, y, axis=1))  # (n, q): y of each class
        log_p = ops.log_softmax(outputs) + ops.log(likely)
        return outputs, sum(self.losses) - ops.mean(ops.logsumexp(log_p, axis=1))


class ELR(_Wrapper):
    """Early-learning regularisation: holds a sample's outputs near what they were at first.

    The loss is the cross-entropy and strength · mean log(1 − ⟨p, t⟩). p is the softmax of the
    outputs, clipped to [1e-4, 1 − 1e-4]; t, the target of a sample, begins at zero and becomes
    β t + (1 − β) p / Σ p before each step, with β = 0.7.

    Args:
        model: a built `keras.Model` with raw outputs for classes.
        strength: positive; λ of the reference.
        samples: how many it is trained on. `fit` takes pairs of their classes and indices for y.

    Reference: Liu et al., NeurIPS 2020.
    """

    memory = 0.7  # β

    def __init__(self, model, strength, samples):
        super().__init__(model, strength)
        self.targets = self.add_weight(
            (samples, model.output_shape[-1]), "zeros", trainable=False, name="targets"
        )

    def loss_of(self, x, y):
        y, index = y
        outputs, loss = super().loss_of(x, y)
        p = ops.clip(ops.softmax(outputs), 1e-4, 1 - 1e-4)
        new = ops.stop_gradient(p / ops.sum(p, axis=1, keepdims=True))
        new = self.memory * ops.take(self.targets, index, axis=0) + (1 - self.memory) * new
        self.targets.assign(ops.scatter_update(self.targets, index[:, None], new))
        return outputs, loss + self.strength * ops.mean(ops.log(1 - ops.sum(p * new, axis=1)))

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, y[0], y_pred, sample_weight)


class CoTeaching(_Wrapper):
    """Two networks, each taught by the samples of a batch that the other has the least loss of.

    In the epoch e, counted from 0, share · min(1, e / strength) of the samples of a batch teach
    neither. The predictions are those of the first network, the loss is the sum of both.

    Args:
        model: a built `keras.Model` with raw outputs for classes; the other network is like it,
            with first weights of its own.
        strength: epochs until the share of wrong labels is left out; T_k of the reference.
        share: of the labels that are wrong. Nobody has it in earnest.

    Reference: Han et al., NeurIPS 2018.
    """

    def __init__(self, model, strength, share):
        super().__init__(model, strength)
        self.other, self.share = keras.models.clone_model(model), share
        self.epoch = self.add_weight((), "zeros", trainable=False, name="epoch")

    def loss_of(self, x, y):
        outputs = [network(x, training=True) for network in (self.model, self.other)]
        losses = [
            keras.losses.sparse_categorical_crossentropy(y, f, from_logits=True) for f in outputs
        ]
        forgotten = self.share * ops.minimum(self.epoch / self.strength, 1)
        size = ops.cast(ops.shape(x)[0], self.epoch.dtype)
        kept = ops.maximum(ops.floor((1 - forgotten) * size), 1)
        ranks = [ops.cast(ops.argsort(ops.argsort(loss)), kept.dtype) for loss in losses]
        taught = [
            ops.sum(ops.where(rank < kept, loss, 0)) / kept
            for loss, rank in zip(losses, reversed(ranks), strict=True)
        ]
        return outputs[0], sum(taught) + sum(self.losses)


class Epochs(keras.callbacks.Callback):
    """Tells a model that has an `epoch` which it is in, counted from 0."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.epoch.assign(epoch)
