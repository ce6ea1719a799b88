"""What an experiment is: its settings, each declared once, and its presets.

Nothing here imports TensorFlow or pandas, so that the command line can show its help at once.
"""

import dataclasses
import importlib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

PRESETS = ("quick", "paper")


@dataclasses.dataclass(frozen=True)
class Declared:
    """What is said of one setting besides its name, type and default.

    Attributes:
        help: for the command line.
        key: of a record, where a setting with several values becomes one in each run; None: its
            name.
        choices: the words that it may be; None: any.
        least, most: of a whole number.
        positive: whether a number must be above 0.
        metavar, parse, collect: for the command line: what stands for a value in the help; the
            value of a text; and what becomes of all values.
    """

    help: str
    key: str | None = None
    choices: tuple | None = None
    least: int = 1
    most: int = 2**31 - 1
    positive: bool = False
    metavar: str | None = None
    parse: Callable | None = None
    collect: Callable | None = None


def setting(help: str, default: Any = dataclasses.MISSING, **options: Any) -> Any:
    """A field of `Settings`; options as the attributes of `Declared`."""
    return dataclasses.field(default=default, metadata={"declared": Declared(help, **options)})


def with_default(settings: type, name: str, default: Any) -> Any:
    """The field `name` of another class, but for its default."""
    metadata = settings.__dataclass_fields__[name].metadata  # type: ignore[attr-defined]
    return dataclasses.field(default=default, metadata=metadata)


def declared(settings: type) -> dict[str, tuple[dataclasses.Field, Declared, type, bool]]:
    """By name: the field, what is declared of it, the type of a value, and whether it has several.

    A setting that may be None, or a dict of values, has the type of a value, too.
    """
    hints = typing.get_type_hints(settings)
    found = {}
    for field in dataclasses.fields(settings):
        hint = hints[field.name]
        if typing.get_origin(hint) in (types.UnionType, typing.Union):  # or None
            hint = typing.get_args(hint)[0]
        several = typing.get_origin(hint) is tuple
        kind = typing.get_args(hint)[0] if several else hint
        found[field.name] = (field, field.metadata["declared"], kind, several)
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of an experiment, checked.

    Raises:
        TypeError, ValueError: one has another type, or a value that it may not have.
    """

    def __post_init__(self):
        for name, (field, said, kind, several) in declared(type(self)).items():
            value = getattr(self, name)
            if value is not field.default:
                object.__setattr__(self, name, _checked(name, value, said, kind, several))


def _checked(name, value, said, kind, several):
    if value is None or said.parse:
        return value
    if several:
        return tuple(_checked(name, one, said, kind, False) for one in value)
    if isinstance(value, Mapping):
        return {key: _checked(name, one, said, kind, False) for key, one in value.items()}
    from keras_mgs import checks  # not at the top: it imports TensorFlow

    if said.choices:
        return checks.choice(name, value, said.choices)
    if kind is int:
        return checks.count(name, value, least=said.least, most=said.most)
    if kind is float:
        return (checks.positive if said.positive else checks.number)(name, value)
    return value


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One experiment.

    Its module has

        plan: of the settings as keywords, to those of all runs: dicts for JSON, of which nothing
            but the numbers of a run may depend;
        train: of the settings of a run, and the data if `plan` takes any, to a `pandas.DataFrame`;
        TITLE, table, words: a `pandas.DataFrame` of the records (pairs of settings and frames),
            and what people read of it, a dict of texts per row;
        files: what else is made of the records, by the names of the files: figures, or bytes;
        check: of settings and a frame from somebody's folder: raises a ValueError or TypeError
            where `table`, `words` or `files` would fail.

    Attributes:
        summary: what it is, in a line.
        settings: a subclass of `Settings`.
        presets: by `PRESETS`, a dict of settings.
        place: the name of its module in `keras_mgs.experiments.studies`.
    """

    summary: str
    settings: type[Settings]
    presets: Mapping[str, Mapping[str, Any]]
    place: str

    @property
    def module(self):
        """The module, which imports TensorFlow."""
        return importlib.import_module(f"keras_mgs.experiments.studies.{self.place}")
