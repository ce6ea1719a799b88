"""`report`: the table and the pictures of an experiment."""

from keras_mgs.cli import console
from keras_mgs.cli.reproduce import print_report


def add_to(commands):
    """The command."""
    parser = commands.add_parser(
        "report",
        help="the table and the pictures of an experiment, beside the paper's numbers",
        description="Print the table of what is on the disk of an experiment, finished or not, "
        "beside the paper's numbers, and write it and its pictures into the folder.",
    )
    parser.set_defaults(command=lambda options: print_report(options.folder, console.console()))
    parser.add_argument("folder", metavar="FOLDER", help="what `reproduce` was given as --out")
