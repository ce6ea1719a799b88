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
