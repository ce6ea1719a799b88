"""The command line: `python -m keras_mgs …`, also `keras-mgs …`."""

import argparse
import contextlib
import datetime
import functools
import inspect
import os
import sys

_WIDTH = 120  # of tables that are not printed to a terminal


def main(arguments=None):
    """Run a command; the exit status is 0, or 2 for a wrong argument or bad data."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = _parser(arguments).parse_args(arguments)
        options.command(options)
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        print(f"keras-mgs: error: {_printable(str(error)) or 'out of memory'}", file=sys.stderr)
        return 2
    return 0


def _printable(text):
    """A text without what moves a terminal's cursor: names of files and records may have it."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def _parser(arguments):
    parser = argparse.ArgumentParser(prog="keras-mgs", description="Model Gradient Similarity.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    compare = commands.add_parser(
        "compare",
        help="train one network by several methods on badly labelled data, side by side",
        description="Train one network by several methods on badly labelled data; write a table, "
        "every run's curves and a figure.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    compare.set_defaults(command=_compare)
    add = compare.add_argument
    add("--data", default="digits", help="digits, mnist, mnist_corrupted, or a FILE.npz")
    add("--corruption", help="motion_blur: blur plain MNIST images as MNIST-C does")
    add("--network", default="lenet5", help="lenet5 or fcn")
    add(
        "--methods",
        nargs="+",
        metavar="METHOD",
        default=None,
        help="which methods to train (default: the five of the paper)",
    )
    add(
        "--label-noise",
        type=float,
        default=0.5,
        help="share of the training labels resampled uniformly; for regression, the standard "
        "deviation of the noise added to the training targets, in pixels",
    )
    add("--training-size", type=int, metavar="N", help="training samples (default: the data's)")
    add("--epochs", type=int, default=100, help="epochs of each run")
    add("--runs", type=int, default=2, help="runs of each method, each with a seed of its own")
    add("--batch-size", type=int, default=32, help="samples in a training step")
    add("--jobs", type=int, default=2, help="processes that train at the same time")
    add("--seed", type=int, default=0, help="seed of the first run")
    add("--out", help="a new folder for the results (default: results/compare-DATE-TIME)")
    score = commands.add_parser(
        "score",
        help="each sample's share of tr K: which samples move their own outputs most",
        description="Write each sample's share of tr K under a model that is there already, and a "
        "picture of the highest.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    score.set_defaults(command=_score)
    add = score.add_argument
    add("model", metavar="MODEL.keras", help="a Keras model, or an MGSModel")
    add("data", metavar="DATA.npz", help="x and, if you like, y; or x_train and y_train")
    add("--output", metavar="FOLDER", help="a new folder (default: results/score-DATE-TIME)")
    add("--top", type=int, default=16, metavar="N", help="samples in the picture and the table")
    add("--batch-size", type=int, default=32, help="samples computed at a time")
    add("--no-scaling", action="store_true", help="leave images of uint8 as 0 to 255")
    benchmark = commands.add_parser(
        "benchmark",
        help="what everything costs beside a plain training step",
        description="Measure, in turn with a plain training step, what every penalty, K and "
        "MGSMetrics cost: milliseconds, seconds of the first step, memory. No ratio is printed "
        "where two results differ by more than rounding.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    benchmark.set_defaults(command=_benchmark)
    add = benchmark.add_argument
    add("--networks", nargs="+", metavar="NETWORK", help="which networks; all by default")
    add("--what", nargs="+", metavar="WHAT", help="what to measure; all by default")
    add("--xla", nargs="+", default=["off", "on"], metavar="off/on", help="compiled by XLA or not")
    add("--batch-size", type=int, default=32, help="samples in a training step")
    add("--rounds", type=int, default=25, help="measurements of each case, at most")
    add("--time-limit", type=float, default=300.0, metavar="S", help="seconds for each case")
    add("--memory-limit", type=float, metavar="GB", help="(default: 3/4 of what is free)")
    add("--against", help="neural-tangents: measure beside it, too, what it can do")
    add("--peer-python", metavar="PYTHON", help="that of an environment with Neural Tangents")
    add("--scaling", action="store_true", help="how cost grows with n, q, width and depth instead")
    add("--out", help="a new folder for the results (default: results/benchmark-DATE-TIME)")
    reproduce = commands.add_parser(
        "reproduce",
        help="an experiment of the paper, which can be killed and goes on",
        description="Make an experiment of the paper again. Every finished run is kept: the same "
        "command goes on where it was killed, and several on one folder share the work.",
    )
    if arguments[:1] == ["reproduce"]:  # to know its experiments takes seconds of imports
        _add_experiments(reproduce)
    report = commands.add_parser(
        "report",
        help="the table and the pictures of an experiment, beside the paper's numbers",
        description="Print the table of what is on the disk of an experiment, finished or not, "
        "beside the paper's numbers, and write it and its pictures into the folder.",
    )
    report.set_defaults(command=_report)
    report.add_argument("folder", metavar="FOLDER", help="what `reproduce` was given as --out")
    return parser


def _add_experiments(reproduce):
    """A command for each experiment, and an option for each of its settings."""
    with _experiments():
        from keras_mgs.experiments import reproduce as job

    experiments = reproduce.add_subparsers(required=True, metavar="EXPERIMENT")
    for name, module in job.EXPERIMENTS.items():
        words = (module.__doc__ or "").partition("\n")[0]
        experiment = experiments.add_parser(
            name,
            help=words,
            description=f"{words} What is not given is that of the preset.",
            argument_default=argparse.SUPPRESS,
        )
        experiment.set_defaults(command=functools.partial(_reproduce, name))
        add = experiment.add_argument
        words = "quick (minutes on two cores; the default) or paper (its own, which may take weeks)"
        add("--preset", default="quick", help=words)
        for setting, default in job.settings(name).items():
            option = dict(_OWN.get(name, {}).get(setting) or _SETTINGS[setting])
            if default is inspect.Parameter.empty:
                option["required"] = setting == "data"
            elif default is not None:
                option["help"] += f" (default: {default})"
            add(f"--{setting.replace('_', '-')}", **option)
        add("--jobs", type=int, default=2, help="runs at the same time (default: 2)")
        add("--threads", type=int, default=1, help="threads of each run (default: 1)")
        add("--cluster", default=None, metavar="ADDRESS", help="a Dask scheduler to run on")
        out = f"results/{name}"
        add("--out", default=out, help=f"the folder of records (default: {out})")


def _strength(text):
    method, _, number = text.partition("=")
    try:
        return method, float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"Expected METHOD=NUMBER. Received: {text!r}. For instance dropout=0.3"
        ) from None


def _file(text):
    name, _, path = text.partition("=")
    if not (name and path):
        raise argparse.ArgumentTypeError(
            f"Expected NAME=FILE. Received: {text!r}. For instance mnist=mnist.npz"
        )
    return name, path


class _Files(argparse.Action):
    """Pairs as a dict."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(
            namespace, self.dest, {**(getattr(namespace, self.dest, None) or {}), **dict(values)}
        )


class _Strengths(argparse.Action):
    """Pairs as a dict of tuples."""

    def __call__(self, parser, namespace, values, option_string=None):
        found: dict = {}
        for method, number in values:
            found[method] = (*found.get(method, ()), number)
        setattr(namespace, self.dest, found)


def _corruption(text):
    return None if text == "none" else text


# What the settings of experiments are as options: keywords of `add_argument`.
_SETTINGS: dict = {
    "data": {"help": "as for `compare`; mnist_corrupted needs the network"},
    "corruption": {
        "type": _corruption,
        "help": "motion_blur: blur plain images as MNIST-C does; or none",
    },
    "problems": {"nargs": "+", "metavar": "PROBLEM", "help": "which problems, by their names"},
    "networks": {"nargs": "+", "metavar": "NETWORK", "help": "which networks"},
    "methods": {"nargs": "+", "metavar": "METHOD", "help": "which methods"},
    "training_size": {"type": int, "metavar": "N", "help": "training samples"},
    "noise": {"type": float, "help": "standard deviation of the noise on the inputs"},
    "training_sizes": {"nargs": "+", "type": int, "metavar": "N", "help": "training samples"},
    "label_noises": {
        "nargs": "+",
        "type": float,
        "metavar": "SHARE",
        "help": "shares of the training labels that are resampled uniformly",
    },
    "training_share": {"type": float, "metavar": "SHARE", "help": "of all samples, to train on"},
    "target_noises": {
        "nargs": "+",
        "type": float,
        "metavar": "PIXELS",
        "help": "standard deviations of the noise on the training targets",
    },
    "epsilons": {
        "nargs": "+",
        "type": float,
        "metavar": "SHARE",
        "help": "how far attacks may change a pixel, as shares of its range",
    },
    "samples": {"type": int, "metavar": "N", "help": "test samples that are attacked"},
    "runs": {"type": int, "help": "runs of each cell"},
    "epochs": {"type": int, "help": "epochs of each run"},
    "batch_size": {"type": int, "help": "samples in a training step"},
    "learning_rate": {"type": float, "help": "that of the first step"},
    "points": {"type": int, "metavar": "N", "help": "measurements of a run, evenly spaced"},
    "batch_sizes": {"nargs": "+", "type": int, "metavar": "N", "help": "samples in a step"},
    "learning_rates": {"nargs": "+", "type": float, "metavar": "RATE", "help": "at the first step"},
    "epoch_counts": {"nargs": "+", "type": int, "metavar": "N", "help": "epochs of a run"},
    "seed": {"type": int, "help": "seed of the first run of each cell"},
    "strengths": {
        "nargs": "+",
        "type": _strength,
        "action": _Strengths,
        "metavar": "METHOD=NUMBER",
        "help": "strengths of methods that are not to be their own, such as dropout=0.3; several "
        "of one method are tried one after the other",
    },
    "tuned": {"metavar": "FILE", "help": "a file of strengths that `tune` has written"},
    "by": {"help": "validation, or test as in the paper: what strengths are chosen by"},
}
# Of one experiment, where they are others than those of all.
_OWN: dict = {
    "zoo": {
        "data": {
            "nargs": "+",
            "type": _file,
            "action": _Files,
            "metavar": "NAME=FILE",
            "help": "data that must be given, such as mnist=FILE.npz keypoints=FILE.npz",
        }
    }
}


@contextlib.contextmanager
def _experiments():
    """Imports of the extra `experiments`."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"The command line needs the extra `experiments`. Received: {error}. "
            'Install it: pip install "keras_mgs[experiments]"'
        ) from error


def _console():
    """As wide as the terminal; in a file or a notebook wide enough for our tables."""
    with _experiments():
        from rich.console import Console

    # What is printed are names of other people's files, too: no markup, no emoji.
    console = Console(markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH
    return console


@contextlib.contextmanager
def _progress(name, total, console):
    """A bar; yields what prints a line above it and moves it on."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    # The time left is estimated by all that has been done: a training may take hours.
    with Progress(*columns, speed_estimate_period=1e9, console=console) as progress:
        task = progress.add_task(name, total=total)

        def report(line, amount=1):
            _say(console, line)
            progress.advance(task, amount)

        yield report


def _say(console, text):
    """Print a line, which only the terminal breaks."""
    console.print(_printable(text), soft_wrap=True)


def _new_folder(command):
    return f"results/{command}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def _compare(options):
    with _experiments():
        from rich.table import Table

        from keras_mgs.experiments.studies import compare as job
        from keras_mgs.experiments.training.methods import METHODS, PAPER
        from keras_mgs.experiments.training.networks import NETWORKS
    from keras_mgs import checks

    methods = tuple(dict.fromkeys(options.methods or PAPER))
    checks.choice("--network", options.network, tuple(NETWORKS))
    for method in methods:
        checks.choice("--methods", method, tuple(METHODS))
    for name in ("epochs", "runs", "batch_size", "jobs"):
        checks.count(f"--{name.replace('_', '-')}", getattr(options, name))
    out = options.out or _new_folder("compare")

    console = _console()
    with _progress("trainings", options.runs * len(methods), console) as report:
        result = job.compare(
            options.data,
            out=out,
            network=options.network,
            methods=methods,
            runs=options.runs,
            epochs=options.epochs,
            batch_size=options.batch_size,
            label_noise=options.label_noise,
            training_size=options.training_size,
            corruption=options.corruption,
            seed=options.seed,
            jobs=options.jobs,
            report=report,
        )
    score = "accuracy" if "final_accuracy" in result else "mse"
    unit = {"accuracy": "test accuracy, %", "mse": "test error, pixels²"}[score]
    table = Table(title=f"{unit}: mean ± standard deviation of {options.runs} runs")
    for heading in ("method", "final", "best epoch (needs test labels)", "time"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for row in result.to_dict("records"):
        table.add_row(
            METHODS[row["method"]].label,
            *(
                f"{row[f'{which}_{score}']:.1f} ± {row[f'{which}_std']:.1f}"
                for which in ("final", "best")
            ),
            f"× {row['relative_seconds']:.2f}" if "relative_seconds" in row else "",
        )
    console.print(table)
    _say(console, f"Written to {out}: table.csv, curves.csv, compare.png")


def _score(options):
    with _experiments():
        from rich.table import Table

        from keras_mgs.experiments import score as job

    out = options.output or _new_folder("score")
    scores = job.score(
        options.model,
        options.data,
        output=out,
        top=options.top,
        batch_size=options.batch_size,
        scaling=not options.no_scaling,
    )
    table = Table(title=f"the highest of {len(scores)} samples")
    for heading in scores.columns:
        table.add_column(heading, justify="right")
    for row in scores.nsmallest(options.top, "rank").to_dict("records"):
        row["trace"], row["share"] = f"{row['trace']:.4g}", f"{row['share']:.2%}"
        table.add_row(*map(str, row.values()))
    console = _console()
    console.print(table)
    _say(console, f"Written to {out}: scores.csv, suspects.png")


def _benchmark(options):
    with _experiments():
        from rich.table import Table

        from keras_mgs.benchmark import benchmark as job
        from keras_mgs.benchmark.case import NETWORKS, PEER, WHAT
    from keras_mgs import checks

    chosen: dict = {"networks": tuple(NETWORKS), "what": WHAT, "xla": ("off", "on")}
    for name, allowed in chosen.items():
        given = getattr(options, name) or allowed
        chosen[name] = tuple(dict.fromkeys(checks.choice(f"--{name}", g, allowed) for g in given))
    chosen["xla"] = tuple(word == "on" for word in chosen["xla"])
    limits = {
        "rounds": checks.count("--rounds", options.rounds),
        "seconds": checks.positive("--time-limit", options.time_limit),
    }
    if options.memory_limit is not None:
        limits["memory"] = checks.positive("--memory-limit", options.memory_limit)
    chosen["batch_size"] = checks.count("--batch-size", options.batch_size)
    console = _console()
    if options.against is not None:
        checks.choice("--against", options.against, ("neural-tangents",))
        job.check_peer(options.peer_python)
        chosen["peer"] = options.peer_python
        console.print(f"Beside Neural Tangents: {', '.join(PEER[1])} of {', '.join(PEER[0])}.")
    out = options.out or _new_folder("benchmark")

    cases = job.growing(**limits) if options.scaling else job.cases(**chosen, **limits)
    with _progress("cases", len(cases), console) as report:
        rows = job.benchmark(
            cases, out=out, report=lambda row: report("  ".join(job.words(row).values()))
        )
    lines = job.summary(rows)
    table = Table(title="medians, and in brackets the distance of the quartiles")
    headings = [heading for heading in lines[0] if any(line[heading] for line in lines)]
    for heading in headings:
        table.add_column(heading, no_wrap=heading in ("network", "what"))
    for line in lines:
        table.add_row(*(_printable(line[heading]) for heading in headings))
    console.print(table)
    _say(console, f"Written to {out}: benchmark.csv")


def _reproduce(name, options):
    with _experiments():
        from keras_mgs.experiments import reproduce as job
        from keras_mgs.experiments.runs.grid import missing
    from keras_mgs import checks

    for count in ("jobs", "threads"):
        checks.count(f"--{count}", getattr(options, count))
    given = {key: getattr(options, key) for key in job.settings(name) if hasattr(options, key)}
    store = job.store(options.out, name)
    runs = job.plan(name, options.preset, **given)
    console = _console()
    waiting = missing(store, runs, functools.partial(_say, console))
    console.print(f"{len(runs) - len(waiting)} of {len(runs)} runs are there.")
    size = sum(map(job.size, waiting))

    def report(run, curves):
        progress(job.line(run, curves), len(waiting) * job.size(run) / size)

    with _progress("runs", len(waiting), console) as progress:
        job.reproduce(
            store,
            waiting,
            data=given.get("data", job.settings(name).get("data")),
            jobs=options.jobs,
            threads=options.threads,
            cluster=options.cluster,
            report=report,
        )
    _print_report(options.out, console)


def _report(options):
    _print_report(options.folder, _console())


def _print_report(folder, console):
    with _experiments():
        from rich.table import Table

        from keras_mgs.experiments import reproduce as job

    title, lines, files = job.report(folder, functools.partial(_say, console))
    table = Table(title=title)
    for heading in lines[0] if lines else ():
        table.add_column(heading)
    for line in lines:
        table.add_row(*map(_printable, line.values()))
    console.print(table)
    _say(console, f"Written to {folder}: {', '.join(files)}")


if __name__ == "__main__":
    sys.exit(main())
