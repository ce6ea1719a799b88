"""Names and numbers of trainings, which are known without TensorFlow."""

NETWORKS = (
    *("lenet5", "fcn", "alexnet", "deep_fcn", "lenet5_batch_norm", "resnet", "mlp_layer_norm"),
    *("mlp_batch_norm", "mlp_group_norm", "transformer", "gru", "separable"),
)
NETWORK_OF = {"images": "lenet5", "table": "fcn", "series": "gru"}  # of `compare`
USUAL = (
    *("unregularised", "weight_decay", "dropout", "loss_gradient", "loss_gradient_inputs", "mgs"),
    *("mgs_log_det", "adam", "cyclical", "early_stopping", "label_smoothing", "mixup", "sam"),
    "generalised_cross_entropy",
)
# The four for wrong labels, and one that costs as much as log det K.
METHODS = (*USUAL, "bootstrapping", "forward_correction", "elr", "co_teaching", "rkhs")
# Of the paper's tables, and what `compare` trains by default.
PAPER = ("unregularised", "weight_decay", "dropout", "loss_gradient", "mgs")
# How wrong labels come about: see `keras_mgs.experiments.data.noise`.
NOISES = ("uniform", "pair", "instance")
TASKS = ("classification", "regression")
LEARNING_RATE = 0.1
POINTS = 100  # of a curve: a longer training is measured at evenly spaced epochs only
