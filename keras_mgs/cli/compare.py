"""`compare`: one network by several methods on badly labelled data, side by side."""

import argparse

from keras_mgs.cli import options as settings
from keras_mgs.cli import reproduce
from keras_mgs.experiments.catalogue.presets import EXPERIMENTS

_EXPERIMENT = EXPERIMENTS["compare"]


def add_to(commands):
    """The command."""
    parser = commands.add_parser(
        "compare",
        help="train one network by several methods on badly labelled data, side by side",
        description=f"{_EXPERIMENT.summary} Write a table, every run's curves and a figure.",
        argument_default=argparse.SUPPRESS,
    )
    parser.set_defaults(command=_compare)
    settings.add(parser, _EXPERIMENT, presets=("quick",))
    reproduce.add_workers(parser)
    parser.add_argument(
        "--out",
        default=None,
        help="the folder for the results, where a comparison that was killed goes on "
        "(default: results/compare-DATE-TIME)",
    )


def _compare(options):
    given = settings.given(options, _EXPERIMENT)
    reproduce.run("compare", options.out, given=given, jobs=options.jobs)
