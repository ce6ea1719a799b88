"""A training, a kernel and samples that the tests of pictures share."""

import numpy as np

RUN = {
    "accuracy": [0.3, 0.5, 0.9],
    "val_accuracy": [0.2, 0.6, 0.7],
    "loss": [2.0, 1.0, 0.5],
    "val_loss": [2.1, 1.2, 0.9],
    "mgs_trace": [10.0, 100.0, 1000.0],
    "mgs_log_det": [-5.0, 1.0, 20.0],
    "mgs_singular": [0.0, 0.0, 1.0],
    "mgs_alpha": [1e-5, 1e-5, 1e-5],
}
K = np.array([[4.0, 1.0, 2.0, 0.0], [1.0, 5.0, 0.0, 3.0], [2.0, 0.0, 6.0, 1.0], [0.0, 3.0, 1.0, 7]])
X = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0], [2.0, 0.5]])
Y = np.array([0, 1, 2, 0])
