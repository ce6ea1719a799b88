"""Model Gradient Similarity for Keras 3: a monitor and a regulariser."""

import os
import sys

__version__ = "0.1.0"
__all__ = [
    "LogDetPenalty",
    "LossGradientPenalty",
    "MGSMetrics",
    "MGSModel",
    "RKHSPenalty",
    "TracePenalty",
    "eigenvalues",
    "explain",
    "jacobian",
    "kernel",
    "label_scores",
    "log_det",
    "plot",
    "sample_traces",
    "similarity",
    "trace",
]

# The command line reads its arguments first, and imports this again: help needs no TensorFlow.
_WORDS = zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
_AS_MODULE = sys.argv[:1] == ["-m"] and ("-m", __name__) in _WORDS
_AS_SCRIPT = os.path.basename("".join(sys.argv[:1])) in ("keras-mgs", "keras-mgs.exe")
if not (_AS_MODULE or _AS_SCRIPT):
    from keras_mgs import requirements  # noqa: F401  (first: it says what is missing)

    # isort: split
    from keras_mgs import plot
    from keras_mgs.callbacks import MGSMetrics
    from keras_mgs.explain import explain
    from keras_mgs.kernel import (
        eigenvalues,
        jacobian,
        kernel,
        log_det,
        sample_traces,
        similarity,
        trace,
    )
    from keras_mgs.labels import label_scores
    from keras_mgs.model import MGSModel
    from keras_mgs.penalties import (
        LogDetPenalty,
        LossGradientPenalty,
        RKHSPenalty,
        TracePenalty,
    )
