"""Options of the command line, made of the settings of an experiment."""

import argparse
import dataclasses

from keras_mgs.experiments.catalogue.experiment import PRESETS, declared


def add(parser, experiment, presets=PRESETS):
    """An option for each setting, whose help tells its default or what the presets have."""
    for name, (field, said, kind, several) in declared(experiment.settings).items():
        option: dict = {"help": _help(name, field, said, experiment, presets)}
        if said.metavar:
            option["metavar"] = said.metavar
        if several or said.collect:
            option["nargs"] = "+"
        option["type"] = _type(said.parse or kind)
        if said.collect:
            option |= {"action": _Collected, "const": said.collect}
        in_no_preset = not any(name in experiment.presets[preset] for preset in presets)
        if field.default is dataclasses.MISSING and in_no_preset:
            option["required"] = True
        parser.add_argument(f"--{name.replace('_', '-')}", **option)


def given(options, experiment):
    """The settings that the command line was given, a dict."""
    names = declared(experiment.settings)
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


class _Collected(argparse.Action):
    """All values of an option, put together."""

    def __call__(self, parser, namespace, values, option_string=None):
        before = getattr(namespace, f"_{self.dest}", [])
        setattr(namespace, f"_{self.dest}", [*before, *values])
        setattr(namespace, self.dest, self.const([*before, *values]))


def _type(parse):
    """As argparse wants it: it prints what an ArgumentTypeError says, of no other error."""
    if parse in (int, float, str):
        return parse

    def value(text):
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return value


def _help(name, field, said, experiment, presets):
    words = said.help
    if said.choices and len(said.choices) <= 20:
        words += f": {', '.join(said.choices)}" if ":" not in words else ""
    values = {p: experiment.presets[p].get(name, field.default) for p in presets}
    texts = {p: _text(value) for p, value in values.items()}
    if len(set(texts.values())) == 1:
        text = next(iter(texts.values()))
        words += f" (default: {text})" if text else ""
    else:
        words += f" ({'; '.join(f'{p}: {text}' for p, text in texts.items() if text)})"
    return words.replace("%", "%%")


def _text(value):
    """A default in words; empty where there is none, or it is not to be told in a line."""
    if value is None or value is dataclasses.MISSING:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    if isinstance(value, tuple):
        text = " ".join(map(_text, value))
        return text if len(value) <= 6 else f"{len(value)} of them"
    return f"{value:g}" if isinstance(value, float) else str(value)
