"""Every experiment, with its presets: quick takes minutes on two cores, paper is the paper's own.

Nothing here imports TensorFlow or pandas, so that the command line can show its help at once.
"""

from keras_mgs.experiments.catalogue.experiment import Experiment, declared
from keras_mgs.experiments.catalogue.names import NOISES, PAPER, USUAL
from keras_mgs.experiments.catalogue.problems import PROBLEMS
from keras_mgs.experiments.catalogue.settings import (
    STRENGTHS,
    Adversarial,
    AlexNet,
    Compare,
    Keypoints,
    Mnist,
    Robustness,
    Tune,
    TwoCircles,
    WrongLabels,
    Zoo,
)

_SIZES = (250, 500, 750, *range(1000, 2001, 500), *range(3000, 9001, 1000))
_NOISES = tuple(percent / 100 for percent in range(0, 101, 10))

EXPERIMENTS = {
    "compare": Experiment(
        "Train one network by several methods on badly labelled data, side by side.",
        Compare,
        {"quick": {}, "paper": {"epochs": 400, "runs": 10}},
        "compare",
    ),
    "two-circles": Experiment(
        "The paper's two noisy circles: decision boundaries, tr K and log det K of many methods.",
        TwoCircles,
        {
            "quick": {"methods": USUAL, "runs": 1, "epochs": 300},
            "paper": {"methods": USUAL, "runs": 10, "epochs": 1000},
        },
        "two_circles",
    ),
    "alexnet": Experiment(
        "The paper's AlexNet on corrupted MNIST: test accuracy, tr K and log det K.",
        AlexNet,
        {
            "quick": {
                "methods": ("unregularised", "dropout", "mgs"),
                "training_sizes": (3000,),
                "label_noises": (0.5,),
                "runs": 1,
                "epochs": 5,
            },
            # It does not say the training size, the label noise and the epochs of figure 3.
            "paper": {
                "methods": USUAL,
                "training_sizes": (3000,),
                "label_noises": (0.5,),
                "runs": 1,
                "epochs": 100,
            },
        },
        "alexnet",
    ),
    "mnist": Experiment(
        "The paper's corrupted MNIST: training sizes × label noises × methods × runs.",
        Mnist,
        {
            "quick": {
                "networks": ("lenet5",),
                "methods": PAPER,
                "training_sizes": (3000,),
                "label_noises": (0.0, 0.6),
                "runs": 1,
                "epochs": 20,
            },
            "paper": {
                "networks": ("lenet5", "fcn"),
                "methods": PAPER,
                "training_sizes": _SIZES,
                "label_noises": _NOISES,
                "runs": 10,
                "epochs": 400,
            },
        },
        "mnist",
    ),
    "keypoints": Experiment(
        "The paper's corrupted facial keypoints: noise on the targets × methods × runs.",
        Keypoints,
        {
            "quick": {
                "networks": ("fcn",),
                "methods": PAPER,
                "target_noises": (0.0, 30.0),
                "runs": 1,
                "epochs": 300,
            },
            "paper": {
                "networks": ("lenet5", "fcn"),
                "methods": PAPER,
                "target_noises": (0.0, 10.0, 20.0, 30.0),
                "runs": 10,
                "epochs": {"lenet5": 50, "fcn": 400},
            },
        },
        "keypoints",
    ),
    "robustness": Experiment(
        "The paper's robustness: each setting of the training varied alone.",
        Robustness,
        {
            "quick": {
                "methods": PAPER,
                "training_sizes": (500, 1000, 2000),
                "label_noises": (0.2, 0.5, 0.7),
                "batch_sizes": (16, 32, 64),
                "learning_rates": (0.03, 0.1, 0.2),
                "epoch_counts": (15, 30, 60),
                "runs": 1,
            },
            "paper": {  # which says the values in the middle alone
                "methods": PAPER,
                "training_sizes": (500, 1000, 3000, 6000, 9000),
                "label_noises": (0.2, 0.4, 0.5, 0.6, 0.8),
                "batch_sizes": (8, 16, 32, 64, 128),
                "learning_rates": (0.01, 0.03, 0.1, 0.2, 0.3),
                "epoch_counts": (25, 50, 100, 200, 400),
                "runs": 5,
            },
        },
        "robustness",
    ),
    "adversarial": Experiment(
        "Adversarial samples told from clean ones by tr K per sample, and by what others use.",
        Adversarial,
        {
            "quick": {
                "methods": ("unregularised", "mgs"),
                "training_sizes": (3000,),
                "runs": 1,
                "epochs": 20,
                "samples": 500,
            },
            "paper": {  # which names the idea alone
                "methods": ("unregularised", "weight_decay", "dropout", "loss_gradient", "mgs"),
                "training_sizes": (9000,),
                "runs": 10,
                "epochs": 100,
                "samples": 2000,
            },
        },
        "adversarial",
    ),
    "tune": Experiment(
        "Grid search of the methods' strengths, kept in a file for other experiments (--tuned).",
        Tune,
        {
            "quick": {
                "networks": ("lenet5",),
                "methods": PAPER[1:],  # the first has nothing to tune
                "training_sizes": (1000,),
                "runs": 1,
                "epochs": 40,  # or the weakest would win: nothing is learnt by heart before
            },
            "paper": {
                "networks": ("lenet5", "fcn"),
                "methods": tuple(STRENGTHS),
                "training_sizes": (6000,),
                "runs": 5,
                "epochs": 100,
            },
        },
        "tune",
    ),
    "wrong-labels": Experiment(
        "Finding wrong labels: one training with MGS beside cleanlab's cross-validation.",
        WrongLabels,
        {
            "quick": {
                "methods": ("unregularised", "mgs"),
                "training_sizes": (1000,),
                "runs": 3,
                "epochs": 40,
            },
            "paper": {  # which has no such thing
                "methods": ("unregularised", "mgs"),
                "training_sizes": (1000,),
                "noises": NOISES,
                "runs": 10,
                "epochs": 100,
            },
        },
        "wrong_labels",
    ),
    "zoo": Experiment(
        "Networks of every kind on data of every kind: does MGS at its defaults suit them all?",
        Zoo,
        {
            "quick": {
                "problems": tuple(n for n, p in PROBLEMS.items() if p.preset == "quick"),
                "runs": 1,
            },
            "paper": {"problems": None, "runs": 2},  # the paper has no such thing: all there is
        },
        "zoo",
    ),
}

# The types of the settings of single runs, by their keys in records.
KEYS = {
    said.key or name: kind
    for experiment in EXPERIMENTS.values()
    for name, (_, said, kind, _) in declared(experiment.settings).items()
}
