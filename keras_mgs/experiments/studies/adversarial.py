"""Adversarial samples told from clean ones by tr K per sample, and by what others use."""

import keras
import numpy as np
import pandas as pd
from keras import ops
from sklearn.metrics import roc_auc_score

from keras_mgs import autodiff
from keras_mgs.experiments.catalogue.settings import Adversarial
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.runs import scenarios
from keras_mgs.experiments.training import fitting
from keras_mgs.experiments.training.methods import METHODS
from keras_mgs.kernel import sample_traces

TITLE = "area under the ROC curve, adversarial against clean: mean ± standard deviation"
ATTACKS = {"FGSM": 1, "PGD": 20}  # steps
DETECTORS = {
    "trace": "tr K",
    "fisher": "tr of Fisher information",
    "max_softmax": "maximum softmax",
    "entropy": "predictive entropy",
}
_BATCH = 250


def plan(data="mnist_corrupted", **given):
    """The settings of every run of `settings.Adversarial(data=data, **given)`."""
    chosen = Adversarial(data=data, **given)
    attacks = {"epsilons": list(chosen.epsilons), "samples": chosen.samples}
    return [{**run, **attacks} for run in scenarios.plan("classification", chosen)]


def train(settings, data):
    """What comes of the attacks on a trained network: a row per attack, epsilon and detector.

    Returns:
        A `pandas.DataFrame` with the columns attack, epsilon, detector; auroc, the area under the
        ROC curve of the samples that fool the network against the clean ones of all samples that
        it had right; fooled, their share in %; and test, the accuracy on clean samples in %.
    """
    keras.backend.clear_session()
    samples = scenarios.load(settings, data)
    model, _ = fitting.fit(
        samples, settings["network"], settings["method"], **scenarios.options(settings)
    )
    model = getattr(model, "model", model)  # MGSModel and others wrap one
    x, y = samples.x_test[: settings["samples"]], samples.y_test[: settings["samples"]]
    right = _outputs(model, x).argmax(axis=1) == y
    x, y = x[right], y[right]
    clean = scores(model, x)
    rows = []
    for epsilon in settings["epsilons"]:
        for attack, steps in ATTACKS.items():
            changed = perturb(model, x, y, epsilon, steps)
            fooled = _outputs(model, changed).argmax(axis=1) != y
            found = scores(model, changed)  # of all, as each number of samples compiles anew
            for name in DETECTORS:
                area = float("nan")
                if fooled.any():
                    labels = np.repeat([0, 1], [len(x), fooled.sum()])
                    area = roc_auc_score(labels, np.append(clean[name], found[name][fooled]))
                row = {"attack": attack, "epsilon": epsilon, "detector": name, "auroc": area}
                rows.append({**row, "fooled": 100 * fooled.mean(), "test": 100 * right.mean()})
    return pd.DataFrame(rows)


def perturb(model, x, y, epsilon, steps):
    """Samples that are changed, by at most `epsilon` in each pixel, to raise the cross-entropy.

    One step is the fast gradient sign method. Several are projected gradient descent from the
    sample itself, each 2.5 · epsilon / steps long.

    Args:
        model: a classifier with raw outputs.
        x: samples in [0, 1].
        y: their classes.
        epsilon: positive.
        steps: how many.

    Returns:
        An array like x, in [0, 1].

    Reference: Goodfellow et al., ICLR 2015; Madry et al., ICLR 2018.
    """
    length = epsilon if steps == 1 else 2.5 * epsilon / steps
    pieces = []
    for begin in range(0, len(x), _BATCH):
        clean = ops.convert_to_tensor(x[begin : begin + _BATCH])
        labels, changed = y[begin : begin + _BATCH], clean
        for _ in range(steps):
            with autodiff.tape() as tape:
                autodiff.watch(tape, [changed])
                f = model(changed, training=False)
                losses = keras.losses.sparse_categorical_crossentropy(labels, f, from_logits=True)
                loss = ops.sum(losses)
            (gradient,) = autodiff.gradient(tape, loss, [changed])
            changed = ops.clip(
                changed + length * ops.sign(gradient), clean - epsilon, clean + epsilon
            )
            changed = ops.clip(changed, 0.0, 1.0)
        pieces.append(ops.convert_to_numpy(changed))
    return np.concatenate(pieces)


def scores(model, x):
    """What tells adversarial samples from clean ones, by detector: (n,) numbers, high if so.

    The trace of the Fisher information, Σ_a p_a ‖∇ log p_a‖², is tr K of the outputs 2 √p, p being
    the softmax of the model's. Martin and Elster, whom the paper follows here, detect by it.

    Reference: Martin and Elster, Neurocomputing 2020.
    """
    roots = keras.Model(model.inputs, 2 * ops.exp(ops.log_softmax(model.outputs[0]) / 2))
    log_p = ops.convert_to_numpy(ops.log_softmax(_outputs(model, x).astype("float64")))
    p = np.exp(log_p)
    return {
        "trace": np.asarray(sample_traces(model, x, batch_size=_BATCH)),
        "fisher": np.asarray(sample_traces(roots, x, batch_size=_BATCH)),
        "max_softmax": -p.max(axis=1),
        "entropy": -(p * log_p).sum(axis=1),
    }


def _outputs(model, x):
    pieces = [x[i : i + _BATCH] for i in range(0, len(x), _BATCH)]
    return np.concatenate([model.predict_on_batch(piece) for piece in pieces])


def check(settings, curves):
    """As `tables.check`."""
    columns = {"numbers": ("test", "epsilon", "fooled", "auroc"), "words": ("attack", "detector")}
    tables.check(settings, curves, **columns)


def table(records):
    """One row per cell, attack and epsilon: means over the runs, and standard deviations."""
    rows = []
    for cell, runs in tables.cells(records):
        found = pd.concat(runs)
        for (epsilon, attack), some in found.groupby(["epsilon", "attack"]):
            areas = some.groupby("detector")["auroc"].agg(["mean", "std"]).reindex(list(DETECTORS))
            row = {**cell, "attack": attack, "epsilon": epsilon, "runs": len(runs)}
            row |= {key: some[key].mean() for key in ("test", "fooled")}
            row |= {**areas["mean"], **areas["std"].add_suffix("_std")}
            rows.append(row)
    none = ["network", "method", "attack", "epsilon", "runs", "test", "fooled", *DETECTORS]
    return pd.DataFrame(rows, columns=None if rows else none)


def words(found):
    """What people read of the rows of `table`."""
    return [
        {
            "network": row["network"],
            "method": METHODS[row["method"]].label,
            "attack": row["attack"],
            "epsilon": f"{row['epsilon']:g}",
            "runs": str(row["runs"]),
            "clean accuracy, %": f"{row['test']:.1f}",
            "fooled, %": f"{row['fooled']:.1f}",
            **{text: _area(row[name], row[f"{name}_std"]) for name, text in DETECTORS.items()},
        }
        for row in found.to_dict("records")
    ]


def _area(mean, std):
    if pd.isna(mean):
        return ""
    return f"{mean:.3f}" + ("" if pd.isna(std) else f" ± {std:.3f}")


def files(records):
    """Nothing but the table."""
    return {}
