"""The main job: one network trained by several methods, side by side."""

import joblib
import pandas as pd

from keras_mgs import storage
from keras_mgs.experiments.data import datasets
from keras_mgs.experiments.reports import figures
from keras_mgs.experiments.runs.grid import few_threads
from keras_mgs.experiments.training.fitting import score_name, train
from keras_mgs.experiments.training.methods import METHODS, check_task

FINAL = 5  # measurements that the final score is the mean of, as in the paper


def compare(
    data="digits",
    *,
    out,
    network="lenet5",
    methods,
    runs=2,
    epochs=100,
    batch_size=32,
    label_noise=0.5,
    training_size=None,
    corruption=None,
    seed=0,
    jobs=2,
    report=lambda text: None,
):
    """Train every method `runs` times and write the folder `out`.

    All methods share a run's samples, label noise and seed. `out` appears at the end, complete:
    table.csv, curves.csv (every run's curves) and compare.png.

    Args:
        data, corruption, training_size, label_noise: as for `datasets.load`.
        out: a folder that does not exist yet, or is empty.
        network, methods: keys of `NETWORKS` and `METHODS`.
        runs, epochs, batch_size: positive integers.
        seed: of run 0; run r has seed + r.
        jobs: processes that train at the same time, one thread each; the numbers do not depend on
            it, the seconds do.
        report: called with a line of text after each training.

    Returns:
        The table, a `pandas.DataFrame` with one row per method: final and best test score, mean
        and standard deviation over the runs, and the seconds of an epoch relative to the
        unregularised network's.

    Raises:
        FileExistsError: `out` is a file, or a folder with something in it.
        ValueError, FileNotFoundError, ImportError: as `datasets.load`.
    """
    storage.check_new("out", out)
    samples = [
        datasets.load(
            data,
            corruption=corruption,
            training_size=training_size,
            label_noise=label_noise,
            seed=seed + run,
        )
        for run in range(runs)
    ]
    check_task(methods, samples[0].task)
    score = score_name(samples[0])
    with storage.whole(out) as folder:
        tasks = [(run, method) for run in range(runs) for method in methods]
        options = {"epochs": epochs, "batch_size": batch_size}
        trainings = joblib.Parallel(n_jobs=min(jobs, len(tasks)), return_as="generator")(
            joblib.delayed(_train)(samples[run], network, method, seed=seed + run, **options)
            for run, method in tasks
        )
        curves = []
        for (run, method), curve in zip(tasks, trainings, strict=True):
            curve.insert(0, "run", run)
            curve.insert(0, "method", method)
            curves.append(curve)
            final = curve["test"].tail(FINAL).mean()
            report(f"{METHODS[method].label}, run {run + 1} of {runs}: {final:.1f}")
        curves = pd.concat(curves, ignore_index=True)
        result = table(curves, score)
        curves.to_csv(folder / "curves.csv", index=False)
        result.to_csv(folder / "table.csv", index=False)
        labels = curves["method"].map(lambda method: METHODS[method].label)
        figures.curves(curves.assign(label=labels), score).savefig(folder / "compare.png", dpi=150)
    return result


def _train(*arguments, **options):
    with few_threads(1):
        return train(*arguments, **options)


def table(curves, score):
    """One row per method, of the curves of all runs.

    Args:
        curves: the rows of `train`, with the columns method and run.
        score: "accuracy" or "mse"; the best accuracy is the highest, the best mse the lowest.
    """
    runs = curves.groupby(["method", "run"], sort=False)
    by_run = pd.DataFrame(
        {
            "final": runs["test"].apply(lambda test: test.tail(FINAL).mean()),
            "best": runs["test"].max() if score == "accuracy" else runs["test"].min(),
            "seconds": runs["seconds"].median(),
        }
    )
    by_method = by_run.groupby("method", sort=False)
    result = pd.DataFrame(
        {
            f"final_{score}": by_method["final"].mean(),
            "final_std": by_method["final"].std(),
            f"best_{score}": by_method["best"].mean(),
            "best_std": by_method["best"].std(),
            "runs": by_method["final"].size(),
            "seconds_per_epoch": by_method["seconds"].median(),
        }
    )
    if "unregularised" in result.index:
        seconds = result["seconds_per_epoch"]
        result["relative_seconds"] = seconds / seconds["unregularised"]
    return result.reset_index()
