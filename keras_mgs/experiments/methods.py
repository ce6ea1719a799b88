"""The methods that are compared: the same network, trained in different ways."""

import dataclasses
from collections.abc import Callable

import keras_mgs

# Usual values, set before the first run and the same for all data; the loss-gradient strength is
# the best of those tried once for LeNet-5 on motion-blurred MNIST.
WEIGHT_DECAY = 5e-4
DROPOUT = 0.5
LOSS_GRADIENT = 0.3


@dataclasses.dataclass(frozen=True)
class Method:
    """One way of training a network.

    Attributes:
        label: its name for people.
        options: what the network is built with.
        wrap: what is done to the network then.
    """

    label: str
    options: dict = dataclasses.field(default_factory=dict)
    wrap: Callable = lambda network: network

    def build(self, network, input_shape, outputs):
        """The network, ready to be compiled."""
        return self.wrap(network(input_shape, outputs, **self.options))


def _loss_gradient(network):
    penalty = keras_mgs.LossGradientPenalty(LOSS_GRADIENT)
    return keras_mgs.MGSModel(network, penalty=penalty)


METHODS = {
    "unregularised": Method("unregularised"),
    "weight_decay": Method("weight decay", {"weight_decay": WEIGHT_DECAY}),
    "dropout": Method("dropout", {"dropout": DROPOUT}),
    "loss_gradient": Method("loss gradient", wrap=_loss_gradient),
    "mgs": Method("MGS (tr K)", wrap=keras_mgs.MGSModel),
}
