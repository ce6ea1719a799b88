"""The methods that are compared: the same network, trained in different ways."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

import keras_mgs
from keras_mgs import checks
from keras_mgs.experiments.training import rivals

# The learning rate falls exponentially, to this share of itself by the end of training.
FINAL_LEARNING_RATE = 0.3
CYCLES = 10  # of the cyclical learning rate in a training


def label_smoothing(y, f, strength):
    """Each sample's cross-entropy where `strength` of its label is spread over all classes.

    Args:
        y: classes (n,).
        f: raw outputs (n, q).
        strength: a share, from 0 to 1.

    Reference: Szegedy et al., CVPR 2016.
    """
    y = ops.one_hot(ops.reshape(y, (-1,)), f.shape[-1], dtype=f.dtype)
    return keras.losses.categorical_crossentropy(y, f, from_logits=True, label_smoothing=strength)


def generalised_cross_entropy(y, f, strength):
    """Each sample's (1 − p^strength) / strength, p being the probability of its class.

    Computed from log p: Keras' own loss of this name wants p, whose derivative is NaN where p
    has vanished.

    Args:
        y: classes (n,).
        f: raw outputs (n, q).
        strength: q of the reference, from 0 (the cross-entropy) to 1 (the absolute error).

    Reference: Zhang and Sabuncu, NeurIPS 2018.
    """
    log_p = -keras.losses.sparse_categorical_crossentropy(y, f, from_logits=True)
    return -ops.expm1(strength * log_p) / strength


def bootstrapping(y, f, strength):
    """Each sample's cross-entropy where `strength` of its label is moved to the likeliest class.

    It is that of the network at this step: the reference's bootstrapping of the hard kind.

    Args:
        y: classes (n,).
        f: raw outputs (n, q).
        strength: 1 − β of the reference, from 0 (the cross-entropy) to 1.

    Reference: Reed et al., ICLR workshop 2015.
    """
    given, likeliest = (
        keras.losses.sparse_categorical_crossentropy(classes, f, from_logits=True)
        for classes in (y, ops.argmax(f, axis=-1))
    )
    return (1 - strength) * given + strength * likeliest


class Triangular(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises and falls linearly, `CYCLES` times in a training.

    Args:
        rate: the highest.
        steps: of the training.
        ratio: of the highest rate to the lowest.

    Reference: Smith, WACV 2017.
    """

    def __init__(self, rate, steps, ratio):
        self.rate, self.steps, self.ratio = rate, steps, ratio

    def __call__(self, step):
        phase = (2 * CYCLES / self.steps * ops.cast(step, keras.config.floatx())) % 2
        lowest = self.rate / self.ratio
        return lowest + (self.rate - lowest) * (1 - ops.abs(phase - 1))


def _falling(rate, steps):
    return keras.optimizers.schedules.ExponentialDecay(rate, steps, FINAL_LEARNING_RATE)


OPTIMIZERS = {  # of runs, by name
    "sgd": keras.optimizers.SGD,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
}


@dataclasses.dataclass(frozen=True)
class Method:
    """One way of training a network: what it changes, as functions of its strength `s`.

    Attributes:
        label: its name for people.
        strength: the number to tune it by, or "auto"; None: it has none.
        highest: the highest strength that has a meaning.
        task: the only one that it is for, "classification"; None: any.
        options: of s: what the network is built with.
        wrap: of the network, s and the `Dataset`: what is done to it then.
        loss: of classes, raw outputs and s: each sample's loss; None: that of the task.
        optimizer: of the first learning rate, the number of steps and s; None: that of the run.
        targets: of those of the training samples: what a training step takes for y.
        validation: the share of the training samples that is held out to choose an epoch by.
        callbacks: of s: callbacks of `fit`.
    """

    label: str
    strength: Any = None
    highest: float = math.inf
    task: str | None = None
    options: Callable = lambda s: {}
    wrap: Callable = lambda network, s, samples: network
    loss: Callable | None = None
    optimizer: Callable | None = None
    targets: Callable = lambda y: y
    validation: float = 0.0
    callbacks: Callable = lambda s: []

    @property
    def changes_network(self):
        """Whether the network is built in another way."""
        return bool(self.options(self.strength))

    def make_optimizer(self, name, rate, steps):
        """Its own, or that of a run: one of `OPTIMIZERS`, whose learning rate falls."""
        if self.optimizer:
            return self.optimizer(rate, steps, self.strength)
        return OPTIMIZERS[name](_falling(rate, steps))

    def build(self, network, samples):
        """The network for a `Dataset`, ready to be compiled."""
        options = self.options(self.strength)
        built = network(samples.x_train.shape[1:], samples.outputs, **options)
        return self.wrap(built, self.strength, samples)

    def at(self, strength):
        """This method at another strength; None: at its own.

        Raises:
            TypeError, ValueError: it has no strength, or none like this.
        """
        if strength is None or strength == self.strength:
            return self
        if self.strength is None:
            raise ValueError(
                f"Expected no strength for '{self.label}', which has none. "
                f"Received: strength={strength!r}. Leave it out."
            )
        if checks.positive("strength", strength) > self.highest:
            raise ValueError(
                f"Expected the strength of '{self.label}' to be at most {self.highest:g}. "
                f"Received: strength={strength!r}."
            )
        return dataclasses.replace(self, strength=strength)


def _mgs(penalty):
    return lambda network, s, samples: keras_mgs.MGSModel(network, penalty=penalty(s))


# Strengths are usual values, set before the first run and the same for all data; but the best of
# those tried once, for LeNet-5, of the loss gradient, label smoothing, mixup and generalised
# cross-entropy on motion-blurred MNIST with 60 % of the labels resampled, and of the loss
# gradient by the inputs (0.3 to 3000), log det K (1e-6 to 0.01) and the RKHS norm (1e-4 to 1, at
# 0.3 nothing is learnt, and with K differentiated nowhere as much) on the digits with 50 %. Those
# of bootstrapping (0.2, 0.4, 0.6), early-learning regularisation (1, 3, 7) and co-teaching (10,
# 20, 40 epochs) have the best test accuracy of LeNet-5 on the digits at the end of 60 epochs: the
# mean of two runs with 50 % of the labels as a weak model mistakes them, where others (0.1 and
# 0.8; 10; 5) were worse, and of two with 70 % resampled, neither of which is reported.
METHODS = {
    "unregularised": Method("unregularised"),
    "weight_decay": Method("weight decay", 5e-4, options=lambda s: {"weight_decay": s}),
    "dropout": Method("dropout", 0.5, highest=1, options=lambda s: {"dropout": s}),
    "loss_gradient": Method("loss gradient", 0.3, wrap=_mgs(keras_mgs.LossGradientPenalty)),
    "loss_gradient_inputs": Method(
        "loss gradient (inputs)",
        1.0,
        wrap=_mgs(lambda s: keras_mgs.LossGradientPenalty(s, wrt="inputs")),
    ),
    "mgs": Method("MGS (tr K)", "auto", wrap=_mgs(keras_mgs.TracePenalty)),
    # As often as the trace, or it would cost ten times as much.
    "mgs_log_det": Method(
        "MGS (log det K)", 1e-6, wrap=_mgs(lambda s: keras_mgs.LogDetPenalty(s, every=8))
    ),
    "adam": Method(
        "Adam", 1e-3, optimizer=lambda rate, steps, s: keras.optimizers.Adam(_falling(s, steps))
    ),
    "cyclical": Method(
        "cyclical learning rate",
        10.0,
        optimizer=lambda rate, steps, s: keras.optimizers.SGD(Triangular(rate, steps, s)),
    ),
    "early_stopping": Method(
        "early stopping",
        10,
        validation=0.1,
        callbacks=lambda s: [keras.callbacks.EarlyStopping(patience=s, restore_best_weights=True)],
    ),
    "label_smoothing": Method(
        "label smoothing", 0.7, highest=1, task="classification", loss=label_smoothing
    ),
    "mixup": Method("mixup", 8.0, wrap=lambda network, s, samples: rivals.Mixup(network, s)),
    "sam": Method("SAM", 0.05, wrap=lambda network, s, samples: rivals.SAM(network, s)),
    "generalised_cross_entropy": Method(
        "generalised cross-entropy",
        0.7,
        highest=1,
        task="classification",
        loss=generalised_cross_entropy,
    ),
    "bootstrapping": Method(
        "bootstrapping", 0.2, highest=1, task="classification", loss=bootstrapping
    ),
    "forward_correction": Method(
        "forward correction (noise known)",
        task="classification",
        wrap=lambda network, s, samples: rivals.ForwardCorrection(network, samples.noise_matrix),
    ),
    "elr": Method(
        "early-learning regularisation",
        3.0,
        task="classification",
        wrap=lambda network, s, samples: rivals.ELR(network, s, len(samples.x_train)),
        targets=lambda y: (y, np.arange(len(y))),
    ),
    "co_teaching": Method(
        "co-teaching (noise known)",
        40,
        task="classification",
        wrap=lambda network, s, samples: rivals.CoTeaching(network, s, samples.noise_share),
        callbacks=lambda s: [rivals.Epochs()],
    ),
    "rkhs": Method("RKHS norm", 0.1, wrap=_mgs(lambda s: keras_mgs.RKHSPenalty(s, every=8))),
}


def check_task(methods, task):
    """That all `methods`, keys of `METHODS`, can be trained for `task`."""
    unfit = [name for name in methods if METHODS[name].task not in (None, task)]
    if unfit:
        raise ValueError(
            "Expected methods that can be trained on targets that are no classes. "
            f"Received: {', '.join(unfit)}. Leave them out."
        )
