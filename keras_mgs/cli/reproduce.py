"""`reproduce`: an experiment of the paper, which can be killed and goes on."""

import argparse
import functools

from keras_mgs.cli import options as settings
from keras_mgs.cli.console import console, experiments, new_folder, progress, say, table
from keras_mgs.experiments.catalogue.experiment import PRESETS
from keras_mgs.experiments.catalogue.presets import EXPERIMENTS


def add_to(commands):
    """The command, with one of its own for each experiment."""
    parser = commands.add_parser(
        "reproduce",
        help="an experiment of the paper, which can be killed and goes on",
        description="Make an experiment of the paper again. Every finished run is kept: the same "
        "command goes on where it was killed, and several on one folder share the work.",
    )
    experiments = parser.add_subparsers(required=True, metavar="EXPERIMENT")
    for name, experiment in EXPERIMENTS.items():
        if name == "compare":  # a command of its own
            continue
        one = experiments.add_parser(
            name,
            help=experiment.summary,
            description=f"{experiment.summary} What is not given is that of the preset.",
            argument_default=argparse.SUPPRESS,
        )
        one.set_defaults(command=functools.partial(_reproduce, name))
        words = "quick (minutes on two cores) or paper (its own, which may take weeks)"
        one.add_argument("--preset", default="quick", help=f"{words} (default: quick)")
        settings.add(one, experiment)
        add_workers(one)
        one.add_argument("--threads", type=int, default=1, help="threads of each run (default: 1)")
        one.add_argument(
            "--cluster", default=None, metavar="ADDRESS", help="a Dask scheduler to run on"
        )
        out = f"results/{name}"
        one.add_argument("--out", default=out, help=f"the folder of records (default: {out})")


def add_workers(parser):
    """How many runs at a time."""
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time (default: 2)")


def _reproduce(name, options):
    run(
        name,
        options.out,
        preset=options.preset,
        given=settings.given(options, EXPERIMENTS[name]),
        jobs=options.jobs,
        threads=options.threads,
        cluster=options.cluster,
    )


def run(name, out, *, preset=PRESETS[0], given, jobs, threads=1, cluster=None):
    """Do what is missing of an experiment, and print its report."""
    with experiments():
        from keras_mgs.experiments import reproduce as job
        from keras_mgs.experiments.runs.grid import missing
    from keras_mgs import checks

    checks.count("--jobs", jobs)
    checks.count("--threads", threads)
    out = out or new_folder(name)
    store = job.store(out, name)
    runs = job.plan(name, preset, **given)
    screen = console()
    waiting = missing(store, runs, functools.partial(say, screen))
    screen.print(f"{len(runs) - len(waiting)} of {len(runs)} runs are there.")
    size = sum(map(job.size, waiting))

    def report(one, curves):
        show(job.line(one, curves), len(waiting) * job.size(one) / size)

    try:
        with progress("runs", len(waiting), screen) as show:
            job.reproduce(
                store,
                waiting,
                **job.sources(name, given),
                jobs=jobs,
                threads=threads,
                cluster=cluster,
                report=report,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"finished runs are kept. The same command with `--out {out}` goes on."
        ) from None
    print_report(out, screen)


def print_report(folder, screen):
    """Write the table and the pictures of an experiment, and print the table."""
    with experiments():
        from keras_mgs.experiments import reproduce as job

    title, lines, files = job.report(folder, functools.partial(say, screen))
    table(screen, title, lines)
    say(screen, f"Written to {folder}: {', '.join(files)}")
