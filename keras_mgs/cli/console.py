"""What commands print: tables, a bar of progress, and texts of other people's files."""

import contextlib
import datetime
import os

_WIDTH = 120  # of tables that are not printed to a terminal


def printable(text):
    """A text without what moves a terminal's cursor: names of files and records may have it."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


@contextlib.contextmanager
def experiments():
    """Imports of the extra `experiments`."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"The command line needs the extra `experiments`. Received: {error}. "
            'Install it: pip install "keras_mgs[experiments]"'
        ) from error


def console():
    """As wide as the terminal; in a file or a notebook wide enough for our tables."""
    with experiments():
        from rich.console import Console

    # What is printed are names of other people's files, too: no markup, no emoji.
    made = Console(markup=False, emoji=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _WIDTH
    return made


@contextlib.contextmanager
def progress(name, total, console):
    """A bar; yields what prints a line above it and moves it on."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    # The time left is estimated by all that has been done: a training may take hours.
    with Progress(*columns, speed_estimate_period=1e9, console=console) as bar:
        task = bar.add_task(name, total=total)

        def report(line, amount=1):
            say(console, line)
            bar.advance(task, amount)

        yield report


def say(console, text):
    """Print a line, which only the terminal breaks."""
    console.print(printable(text), soft_wrap=True)


def table(console, title, lines, unbroken=()):
    """Print dicts of texts as a table; `unbroken`: headings of columns that are kept in one line.

    A column that is empty in all lines is left out.
    """
    from rich.table import Table

    made = Table(title=title)
    headings = [h for h in (lines[0] if lines else ()) if any(line[h] for line in lines)]
    for heading in headings:
        made.add_column(heading, no_wrap=heading in unbroken)
    for line in lines:
        made.add_row(*(printable(line[heading]) for heading in headings))
    console.print(made)


def new_folder(command):
    """Where a command writes that is not told where."""
    return f"results/{command}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
