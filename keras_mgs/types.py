"""Names for types of arguments that take more than one thing. Keras and TensorFlow ship none."""

from typing import Any, TypeAlias

import keras
import tensorflow as tf

# An array, a tensor, a DataFrame, a list or dict of them, or a tf.data.Dataset.
Data: TypeAlias = Any
# A number, a schedule, or "auto" where that is allowed.
Alpha: TypeAlias = float | str | keras.optimizers.schedules.LearningRateSchedule
# The number of a training step.
Step: TypeAlias = int | tf.Tensor | keras.Variable
