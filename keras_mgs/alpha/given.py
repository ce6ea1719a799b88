"""α as a user gives it: a number, a schedule or "auto"."""

import keras

from keras_mgs import checks

AUTO = "auto"


def parse(value, automatic=True, owner="The penalty"):
    """`value` as the penalties keep it: a float ≥ 0, a schedule, or "auto".

    Raises:
        TypeError, ValueError: it is none of these, or "auto" where `automatic` is false.
    """
    if isinstance(value, dict):  # as `serialize` writes a schedule
        value = keras.saving.deserialize_keras_object(value)
    if isinstance(value, str):
        checks.choice("alpha", value, (AUTO,))
        if not automatic:
            raise ValueError(
                f"{owner} has no automatic `alpha`. Received: alpha='auto'. Give it a number."
            )
        return value
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return value
    if checks.number("alpha", value) < 0:
        raise ValueError(f"Expected `alpha` to be 'auto' or at least 0. Received: alpha={value!r}.")
    return float(value)


def serialize(value):
    """What `parse` has returned, as part of a config."""
    return value if isinstance(value, str | float) else keras.saving.serialize_keras_object(value)


def at(value, step):
    """α as a number at `step`, for a training loop of the user's own."""
    if value == AUTO:
        raise ValueError(
            "Expected `alpha` to be a number or a schedule in a training loop of your own. "
            "Received: alpha='auto', which MGSModel alone can choose, step by step. History of a "
            "fit of MGSModel(model) tells what it chooses: `mgs_alpha`."
        )
    return value(step) if callable(value) else value
