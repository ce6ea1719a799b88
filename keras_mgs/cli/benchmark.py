"""`benchmark`: what everything costs beside a plain training step."""

from keras_mgs.cli.console import console, experiments, new_folder, progress, say, table


def add_to(commands):
    """The command."""
    parser = commands.add_parser(
        "benchmark",
        help="what everything costs beside a plain training step",
        description="Measure, in turn with a plain training step, what every penalty, K and "
        "MGSMetrics cost: milliseconds, seconds of the first step, memory. No ratio is printed "
        "where two results differ by more than rounding.",
    )
    parser.set_defaults(command=_benchmark)
    add = parser.add_argument
    add(
        "--networks",
        nargs="+",
        metavar="NETWORK",
        help="lenet5, fcn, alexnet, resnet18, transformer (default: all)",
    )
    add(
        "--what",
        nargs="+",
        metavar="WHAT",
        help="plain, plain_epoch, loss_gradient, hutchinson, hutchinson_8, exact_trace, "
        "exact_log_det, epoch, kernel, metrics (default: all)",
    )
    add("--xla", nargs="+", metavar="off/on", help="compiled by XLA or not (default: both)")
    add("--batch-size", type=int, default=32, help="samples in a training step (default: 32)")
    add("--rounds", type=int, default=25, help="measurements of each case, at most (default: 25)")
    add(
        "--time-limit",
        type=float,
        default=300.0,
        metavar="S",
        help="seconds for each case (default: 300)",
    )
    add("--memory-limit", type=float, metavar="GB", help="(default: 3/4 of what is free)")
    add("--against", help="neural-tangents: measure beside it, too, what it can do")
    add("--peer-python", metavar="PYTHON", help="that of an environment with Neural Tangents")
    add("--scaling", action="store_true", help="how cost grows with n, q, width and depth instead")
    add("--out", help="a new folder for the results (default: results/benchmark-DATE-TIME)")


def _benchmark(options):
    with experiments():
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
    screen = console()
    if options.against is not None:
        checks.choice("--against", options.against, ("neural-tangents",))
        job.check_peer(options.peer_python)
        chosen["peer"] = options.peer_python
        screen.print(f"Beside Neural Tangents: {', '.join(PEER[1])} of {', '.join(PEER[0])}.")
    out = options.out or new_folder("benchmark")

    cases = job.growing(**limits) if options.scaling else job.cases(**chosen, **limits)
    with progress("cases", len(cases), screen) as show:
        rows = job.benchmark(
            cases, out=out, report=lambda row: show("  ".join(job.words(row).values()))
        )
    title = "medians, and in brackets the distance of the quartiles"
    table(screen, title, job.summary(rows), unbroken=("network", "what"))
    say(screen, f"Written to {out}: benchmark.csv")
