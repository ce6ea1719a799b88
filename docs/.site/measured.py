"""Writes what was measured into docs/results.md and README.md: `python docs/.site/measured.py`.

A table stands below a comment that names its file in `keras_mgs/experiments/reports/measured` and,
where the page has a table for each, the network. Its two first lines, the heading, are the page's;
all others are written. A comment that ends with "in words" has a paragraph below it, which is
written, too.
"""

import re
from pathlib import Path

import pandas as pd

from keras_mgs.experiments.catalogue.presets import EXPERIMENTS
from keras_mgs.experiments.reports import tables
from keras_mgs.experiments.training.methods import METHODS

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "docs/results.md", ROOT / "README.md")
FOLDER = Path(tables.__file__).with_name("measured")
NAMES = sorted(path.stem for path in FOLDER.glob("*.csv"))
TABLE = re.compile(r"(<!-- measured: (\S+) ?(\S*) -->\n\n(?:\|.*\n){2})(?:\|.*\n)*")
WORDS = re.compile(r"(<!-- measured: (\S+) in words -->\n\n).*\n")

_COVERED = 0.8  # gaps from here on are told together
_LARGE = 128  # batches from here on are told
_NETWORKS = {
    "lenet5": "LeNet-5",
    "fcn": "6 × 300",
    "alexnet": "AlexNet",
    "deep_fcn": "deep plain",
    "lenet5_batch_norm": "LeNet-5 with batch normalisation",
    "resnet": "small ResNet",
    "mlp_layer_norm": "MLP with layer normalisation",
    "mlp_batch_norm": "MLP with batch normalisation",
    "mlp_group_norm": "MLP with group normalisation",
    "gru": "GRU",
    "separable": "separable convolutions",
}
_OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}


def measured(name):
    """A table of `FOLDER`."""
    return pd.read_csv(FOLDER / f"{name}.csv", comment="#")


def experiment(name):
    """That a table is of; other settings or data of one have a table of their own, NAME-MORE."""
    return max((one for one in EXPERIMENTS if f"{name}-".startswith(f"{one}-")), key=len)


def beside_the_paper(name):
    """Whether the page has a row per method, with the paper's numbers in the same cells."""
    return name == experiment(name) and "paper_final" in measured(name)


def rows(name, network=""):
    """A table's rows on the page, made as `report` does or in the page's own way."""
    found = measured(name)
    if network:
        found = found[found["network"] == network]
    if beside_the_paper(name):
        return _beside_the_paper(found)
    if name in _OWN:
        return _OWN[name](found)
    return [list(words.values()) for words in EXPERIMENTS[experiment(name)].module.words(found)]


def filled(text):
    """A page's text, with what was measured."""
    text = TABLE.sub(lambda match: match[1] + _lines(rows(match[2], match[3])), text)
    return WORDS.sub(lambda match: f"{match[1]}{_gaps(measured(match[2]))}\n", text)


def _beside_the_paper(found):
    methods = [method for method in METHODS if method in set(found["method"])]
    return [
        [METHODS[method].label, *(_cell(row, found["runs"].max()) for row in some.itertuples())]
        for method in methods
        for some in [found[found["method"] == method].sort_values("label_noise")]
    ]


def _cell(row, runs):
    fewer = "†" if row.runs < runs else ""
    return f"{_spread(row.final, row.std)}{fewer} / {row.paper_final:.1f} ± {row.paper_std:.1f}"


def _spread(mean, std):
    return f"{mean:.1f}" + ("" if pd.isna(std) else f" ± {std:.1f}")


def _compare(found):
    """A row per method, without what the page says in words."""
    lines = [
        [row.method, _spread(row.final, row.final_std), _spread(row.best, row.best_std)]
        for row in found.itertuples()
    ]
    return [
        [f"**{cell}**" for cell in ("MGS", *numbers)]
        if method == "mgs"
        else [METHODS[method].label, *numbers]
        for method, *numbers in lines
    ]


def _zoo(found):
    """A row per problem that MGS at its defaults was trained on, with each seed's score.

    What else was trained is there if the best of the fixed alphas is.
    """
    lines = []
    for row in found.dropna(subset="mgs").to_dict("records"):
        line = [_problem(row), row["half"], _OPTIMIZERS[row["optimizer"]]]
        line += [_by_seed(row, "unregularised"), _by_seed(row, "mgs")]
        if found["best_fixed"].notna().any():
            others = ("best_fixed", "dropout", "generalised_cross_entropy", "early_stopping")
            line += [*(_score(row, row[name]) for name in others), _gap(row)]
        lines.append(line)
    return lines


def _problem(row):
    """Its data, unless they are those of most, network, batch if it is large, and noise."""
    data = [] if row["data"] in ("digits", "mnist") else [row["data"].replace("_", " ")]
    batch = [f"batch {row['batch_size']}"] if row["batch_size"] >= _LARGE else []
    noise = f"{row['label_noise']:.0%}".replace("%", " %")
    noise = noise if row["task"] == "classification" else "noise on targets"
    noise = noise if row["label_noise"] else "clean"
    return ", ".join([*data, _NETWORKS.get(row["network"], row["network"]), *batch, noise])


def _by_seed(row, name):
    scores = str(row[f"{name}_by_seed"]).split()  # of one seed alone pandas has read a number
    return " / ".join(_score(row, float(score)) for score in scores)


def _score(row, score):
    if pd.isna(score):
        return ""
    return f"{score:.3f}" if row["task"] == "regression" else f"{score:.1f}"


def _gap(row):
    if not pd.isna(row["gap"]):
        return f"{row['gap']:.2f}"
    if pd.isna(row["difference"]):
        return ""
    unit = "%" if row["task"] == "regression" else "points"
    return f"{row['difference']:+.1f} {unit}".replace("-", "−")


def _gaps(found):
    """What the gaps of the zoo come to, in words."""
    helped = found.dropna(subset="gap")
    halves = ", ".join(f"{half} {gaps.mean():.2f}" for half, gaps in helped.groupby("half")["gap"])
    few = helped[helped["gap"] < _COVERED]
    most = helped["gap"].drop(few.index)
    clean = found[found["label_noise"] == 0].dropna(subset="difference")
    others = f"; the others have {_each(few)}" if len(few) else ""
    return (
        f"The gap is {helped['gap'].mean():.2f} in the mean of the {len(helped)} noisy problems "
        f"({halves}), at least {most.min():.2f} in {len(most)} of them{others}. On clean labels "
        f"MGS differs from unregularised by {_each(clean)}."
    )


def _each(found):
    """The gap or difference of each problem, in words."""
    texts = [f"{_gap(row)} ({_problem(row)})" for row in found.to_dict("records")]
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def _wrong_labels(found):
    """A row per way in which labels are wrong, with some of the ways to find them."""
    cell = EXPERIMENTS["wrong-labels"].module.cell
    lines = []
    for (noise, share), some in found.groupby(["noise", "label_noise"], sort=False):
        rows = {(r["method"], r["folds"] > 1, r["score"]): r for r in some.to_dict("records")}
        time = rows["unregularised", True, "self_confidence"]["relative_seconds"]
        cells = [cell(rows[way]) for way in _WAYS]
        lines.append([f"{noise}, {share:.0%}", *cells, f"{time:.1f}"])
    return lines


_WAYS = (  # method, whether in folds, and score
    ("mgs", False, "label_scores"),
    ("mgs", False, "normalized_margin"),
    ("unregularised", False, "label_scores"),
    ("unregularised", True, "self_confidence"),
    ("unregularised", True, "normalized_margin"),
)
_OWN = {
    "compare": _compare,
    "wrong-labels": _wrong_labels,
    "zoo": _zoo,
    "zoo-mnist": _zoo,
}


def _lines(rows):
    ours = METHODS["mgs"].label
    cells = [[f"**{cell}**" if cell == ours else cell for cell in row] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text()))
