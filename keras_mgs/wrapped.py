"""Training methods that a wrapped model defines itself, run in the place of Keras'."""

import functools
import inspect

import keras

from keras_mgs import hooks

USED = (
    "compile",
    "compute_loss",
    "compute_metrics",
    "evaluate",
    "fit",
    "get_metrics_result",
    "predict",
    "predict_on_batch",
    "predict_step",
    "reset_metrics",
    "test_on_batch",
    "test_step",
    "train_on_batch",
)
OF_MGS = ("mgs_penalty", "mgs_alpha")  # metrics that MGSModel adds to the wrapped model's
_REFUSED = ("train_step", "make_train_function")


def check(model):
    """Refuse a model that does not leave the training step to Keras."""
    for name in _REFUSED:
        if _has(model, name):
            raise ValueError(
                f"Expected a model that is trained by Keras' own `{name}`, in whose place MGSModel "
                f"puts its own. Received: the {type(model).__name__} '{model.name}', which has one "
                "of its own. Add the penalty there: `outputs, penalty = keras_mgs.TracePenalty("
                "alpha)(model, x, model.optimizer.iterations)` runs the model and returns what to "
                "add to the loss."
            )


def take_over(mgs, model):
    """Let `mgs` run those methods in `USED` that `model` defines itself.

    Where such a method calls Keras' (`super().fit(...)`), that of `mgs` runs.
    """
    for name in USED:
        if _has(model, name):
            vars(mgs)[name] = functools.partial(_run, mgs, model, name)


def metrics(mgs, model, of_keras):
    """The metrics of `mgs` and of `model`; a list that `model` defines itself replaces Keras'."""
    own = hooks.with_attributes(model, compiled=False).metrics
    kept = of_keras
    if _has(model, "metrics"):
        kept = [m for m in of_keras if m is mgs._loss_tracker or m.name in OF_MGS]
    return kept + [metric for metric in own if all(metric is not m for m in kept)]


def _has(model, name):
    """Whether the model or its class, not Keras, defines the method `name`."""
    owner = next(kind for kind in type(model).__mro__ if name in vars(kind))
    return name in vars(model) or not owner.__module__.startswith("keras.")


def _run(mgs, model, name, *args, **kwargs):
    method = getattr(hooks.with_attributes(model, bases=(_keras_of(mgs),)), name)
    if name == "compute_loss" and "training" not in inspect.signature(method).parameters:
        kwargs.pop("training", None)  # Keras does not require it either
    return method(*args, **kwargs)


def _keras_of(mgs):
    """A base class whose training methods call those of `mgs`."""

    def delegate(name):
        return lambda _, *args, **kwargs: getattr(type(mgs), name)(mgs, *args, **kwargs)

    body = {name: delegate(name) for name in USED}
    body["metrics"] = property(lambda _: [m for m in mgs.metrics if m.name not in OF_MGS])
    return type("Trainer", (keras.Model,), body)
