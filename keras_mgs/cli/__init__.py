"""The command line: `python -m keras_mgs …`, also `keras-mgs …`."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

import keras_mgs
from keras_mgs.cli import benchmark, compare, report, reproduce, score, stderr
from keras_mgs.cli.console import printable

_COMMANDS = (compare, score, benchmark, reproduce, report)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 2 for a wrong argument or bad data, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        with stderr.without_logs():
            _import_all()
            options.command(options)
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        print(f"keras-mgs: error: {printable(str(error)) or 'out of memory'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        words = str(interrupt) or "nothing half-written is left. Start the same command again."
        print(f"keras-mgs: interrupted: {printable(words)}", file=sys.stderr)
        return 130
    return 0


def _parser():
    """Made without TensorFlow, so that help is there at once."""
    parser = argparse.ArgumentParser(prog="keras-mgs", description="Model Gradient Similarity.")
    parser.add_argument("--version", action="version", version=f"keras-mgs {keras_mgs.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_to(commands)
    return parser


def _import_all():
    """What `keras_mgs` leaves out where it is imported for its command line."""
    if not hasattr(keras_mgs, "MGSModel"):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no errors of a GPU that is not there
        sys.argv[0] = "keras_mgs"  # so that this import, and those of workers, are whole
        importlib.reload(keras_mgs)
