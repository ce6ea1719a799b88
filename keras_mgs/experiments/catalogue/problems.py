"""The problems of `zoo`, from the table beside this file."""

import csv
import dataclasses
import typing
from pathlib import Path

_GRID = range(-3, 4)  # steps of half a decade


@dataclasses.dataclass(frozen=True)
class Problem:
    """A training that regularisation may help or harm.

    Attributes:
        data: "digits", one of `tabular.TABLES` or of `zoo.FILES`.
        network: a key of `NETWORKS`.
        label_noise: as for `datasets.load`; 0: it is clean.
        optimizer, learning_rate, batch_size, epochs: as for `fitting.fit`.
        training_size: samples.
        alpha: the middle of the grid of fixed ones: near the best of single trainings, whose alphas
            were a decade or less apart.
        half: "development", which rules are chosen on, or "held-out", which they are judged on.
        preset: "quick" if two cores can do it in minutes, or "paper".
    """

    data: str
    network: str
    label_noise: float
    optimizer: str
    learning_rate: float
    batch_size: int
    training_size: int
    epochs: int
    alpha: float
    half: str
    preset: str

    @property
    def alphas(self):
        """The grid of fixed ones, ascending."""
        return tuple(float(f"{self.alpha * 10 ** (step / 2):.2g}") for step in _GRID)


def _read(path):
    """By name; numbers as the attributes' types are."""
    kinds = typing.get_type_hints(Problem)
    with open(path, newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {
            row.pop("name"): Problem(**{name: kinds[name](text) for name, text in row.items()})
            for row in rows
        }


PROBLEMS = _read(Path(__file__).with_name("zoo.csv"))
