"""`score`: what a model that is there already makes of each sample, and of its label."""

import argparse

from keras_mgs.cli.console import console, experiments, new_folder, say, table


def add_to(commands):
    """The command."""
    parser = commands.add_parser(
        "score",
        help="how doubtful each label is, and each sample's share of tr K",
        description="Write how little a model that is there already believes each label, and each "
        "sample's share of tr K, and a picture of the most doubtful labels; without labels, of the "
        "highest shares.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(command=_score)
    add = parser.add_argument
    add("model", metavar="MODEL.keras", help="a Keras model, or an MGSModel")
    add("data", metavar="DATA.npz", help="x and, if you like, y; or x_train and y_train")
    add("--out", metavar="FOLDER", help="a new folder (default: results/score-DATE-TIME)")
    add("--top", type=int, default=16, metavar="N", help="samples in the picture and the table")
    add("--batch-size", type=int, default=32, help="samples computed at a time")
    add(
        "--kind",
        choices=["classes", "multilabel", "regression"],
        help="of the labels (default: by the model's end, its loss and the labels)",
    )
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
        kind=options.kind,
    )
    lines = []
    for row in scores.nsmallest(options.top, "rank").to_dict("records"):
        row["share"] = f"{row['share']:.2%}"
        lines.append({n: f"{v:.4g}" if isinstance(v, float) else str(v) for n, v in row.items()})
    screen = console()
    what = "most doubtful labels" if "label_score" in scores else "highest shares of tr K"
    table(screen, f"the {what} of {len(scores)} samples", lines)
    say(screen, f"Written to {out}: scores.csv, suspects.png")
