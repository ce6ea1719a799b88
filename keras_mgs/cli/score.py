"""`score`: each sample's share of tr K under a model that is there already."""

import argparse

from keras_mgs.cli.console import console, experiments, new_folder, say, table


def add_to(commands):
    """The command."""
    parser = commands.add_parser(
        "score",
        help="each sample's share of tr K: which samples move their own outputs most",
        description="Write each sample's share of tr K under a model that is there already, and a "
        "picture of the highest.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(command=_score)
    add = parser.add_argument
    add("model", metavar="MODEL.keras", help="a Keras model, or an MGSModel")
    add("data", metavar="DATA.npz", help="x and, if you like, y; or x_train and y_train")
    add("--out", metavar="FOLDER", help="a new folder (default: results/score-DATE-TIME)")
    add("--top", type=int, default=16, metavar="N", help="samples in the picture and the table")
    add("--batch-size", type=int, default=32, help="samples computed at a time")
    add("--no-scaling", action="store_true", help="leave images of uint8 as 0 to 255")


def _score(options):
    with experiments():
        from keras_mgs.experiments import score as job

    out = options.out or new_folder("score")
    scores = job.score(
        options.model,
        options.data,
        out=out,
        top=options.top,
        batch_size=options.batch_size,
        scaling=not options.no_scaling,
    )
    lines = []
    for row in scores.nsmallest(options.top, "rank").to_dict("records"):
        row |= {"trace": f"{row['trace']:.4g}", "share": f"{row['share']:.2%}"}
        lines.append({name: str(value) for name, value in row.items()})
    screen = console()
    table(screen, f"the highest of {len(scores)} samples", lines)
    say(screen, f"Written to {out}: scores.csv, suspects.png")
