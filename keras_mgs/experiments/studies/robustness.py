"""The paper's robustness: each setting of the training varied alone, around the same scenario."""

import pandas as pd

from keras_mgs import checks
from keras_mgs.experiments.catalogue.settings import Classes, Robustness
from keras_mgs.experiments.reports import figures as draw
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.runs import scenarios
from keras_mgs.experiments.training.methods import METHODS

TITLE = "test accuracy, %, over all values of a setting and all runs: median (quartiles)"
_VARIED = {  # and how people call them
    "training_size": "training size",
    "label_noise": "label noise",
    "batch_size": "batch size",
    "learning_rate": "learning rate",
    "epochs": "epochs",
}
_QUANTILES = {"low": 0.25, "median": 0.5, "high": 0.75}


def plan(data="mnist_corrupted", **given):
    """The settings of every run of `settings.Robustness(data=data, **given)`."""
    chosen = Robustness(data=data, **given)
    values = {
        "training_size": _ordered("training_sizes", chosen.training_sizes),
        "label_noise": _ordered("label_noises", chosen.label_noises),
        "batch_size": _ordered("batch_sizes", chosen.batch_sizes),
        "learning_rate": _ordered("learning_rates", chosen.learning_rates),
        "epochs": _ordered("epoch_counts", chosen.epoch_counts),
    }
    middle = {key: several[len(several) // 2] for key, several in values.items()}
    same = ("data", "corruption", "networks", "methods", "runs", "seed", "strengths", "tuned")
    crossed = scenarios.plan(
        "classification",
        Classes(
            **{name: getattr(chosen, name) for name in same},
            **{key: middle[key] for key in ("epochs", "batch_size", "learning_rate")},
            training_sizes=values["training_size"],
            label_noises=values["label_noise"],
        ),
    )
    size_and_noise = [("training_size", "label_noise"), ("label_noise", "training_size")]
    found = {
        varied: [run for run in crossed if run[kept] == middle[kept]]
        for varied, kept in size_and_noise
    }
    start = [
        run for run in found["training_size"] if run["training_size"] == middle["training_size"]
    ]
    for key in ("batch_size", "learning_rate", "epochs"):
        found[key] = [{**run, key: value} for value in values[key] for run in start]
    # The start belongs to every setting, but is trained only once.
    return [{**run, "varied": None} for run in start] + [
        {**run, "varied": key}
        for key, several in found.items()
        for run in several
        if run[key] != middle[key]
    ]


def _ordered(name, values):
    values = sorted(values)
    if len(values) % 2 == 0 or len(set(values)) < len(values):
        raise ValueError(
            f"Expected `{name}` to be an odd number of different values, the middle one of which "
            f"is kept while others are varied. Received: {name}={values}."
        )
    return values


train = scenarios.train


def check(settings, curves):
    """As `tables.check`."""
    tables.check(settings, curves)
    if settings.get("varied") is not None:
        checks.choice("varied", settings["varied"], tuple(_VARIED))


def table(records):
    """One row per network, method and varied setting: quantiles of the final test accuracy.

    They are over all values of the setting, that of the start included, and all runs.
    """
    finals = pd.DataFrame(
        [{**settings, "final": tables.final(curves["test"])} for settings, curves in records]
    )
    if finals.empty:
        return pd.DataFrame(columns=["network", "method", "varied", "runs", *_QUANTILES])
    rows = []
    for network in sorted(finals["network"].unique()):
        for method in (name for name in METHODS if (finals["method"] == name).any()):
            own = finals[(finals["network"] == network) & (finals["method"] == method)]
            for key in _VARIED:
                some = own.loc[own["varied"].isna() | (own["varied"] == key), "final"]
                if len(some):
                    row = {"network": network, "method": method, "varied": key, "runs": len(some)}
                    quantiles = some.quantile(list(_QUANTILES.values()))
                    rows.append({**row, **dict(zip(_QUANTILES, quantiles, strict=True))})
    return pd.DataFrame(rows)


def words(found):
    """What people read of the rows of `table`: a line per method."""
    if found.empty:
        return []
    return [
        {
            "network": network,
            "method": METHODS[method].label,
            **{
                _VARIED[row["varied"]]: f"{row['median']:.1f} ({row['low']:.1f}, {row['high']:.1f})"
                for row in rows.to_dict("records")
            },
        }
        for (network, method), rows in found.groupby(["network", "method"], sort=False)
    ]


def files(records):
    """Radar charts, one for each quantile."""
    found = table(records)
    return {
        f"radar-{network}.png": draw.radars(
            {
                f"{share:.0%} quantile of test accuracy (%)": {
                    METHODS[method].label: rows.set_index("varied")[name].reindex(list(_VARIED))
                    for method, rows in some.groupby("method", sort=False)
                }
                for name, share in _QUANTILES.items()
            },
            list(_VARIED.values()),
        )
        for network, some in found.groupby("network")
    }
