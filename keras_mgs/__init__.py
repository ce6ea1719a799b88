"""Model Gradient Similarity for Keras 3: a monitor and a regulariser."""

from keras_mgs import requirements  # noqa: F401  (first: without Keras 3 the others fail with other errors)

# isort: split
from keras_mgs import plot
from keras_mgs.callbacks import MGSMetrics
from keras_mgs.explain import explain
from keras_mgs.kernel import eigenvalues, jacobian, kernel, log_det, sample_traces, trace
from keras_mgs.model import MGSModel
from keras_mgs.penalties import LogDetPenalty, LossGradientPenalty, TracePenalty

__version__ = "0.1.0"
__all__ = [
    "LogDetPenalty",
    "LossGradientPenalty",
    "MGSMetrics",
    "MGSModel",
    "TracePenalty",
    "eigenvalues",
    "explain",
    "jacobian",
    "kernel",
    "log_det",
    "plot",
    "sample_traces",
    "trace",
]
