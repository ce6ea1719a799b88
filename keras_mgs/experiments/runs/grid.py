"""Many runs, by many processes or machines, which can be killed at any moment and go on."""

import contextlib
import time
import warnings

import joblib
import tensorflow as tf
import threadpoolctl
from joblib.parallel import get_active_backend

from keras_mgs.experiments.runs.store import Damaged

_PAUSE = 5.0  # seconds between looks at runs that other processes are doing


def missing(store, runs, warn=warnings.warn):
    """The runs that have no record in `store` yet, or a damaged one, of which `warn` is told."""
    found = []
    for settings in runs:
        try:
            if store.read(settings) is None:
                found.append(settings)
        except Damaged as error:
            warn(str(error))
            found.append(settings)
    return found


def grid(runs, train, *, store, jobs=None, threads=1, report=lambda settings, curves: None):
    """Do every run that has no record in `store` yet; each is recorded when it has ended.

    Other processes may work on the same store: none does a run that another one is doing. joblib
    runs the jobs: in processes of its own, or wherever `joblib.parallel_config` says.

    Args:
        runs: the settings of each run, dicts for JSON; nothing but them may decide its numbers.
        train: of settings: the run's curves, a `pandas.DataFrame`. It must be importable.
        store: a `Store`.
        jobs: runs at the same time; None: as `joblib.parallel_config` says, or one.
        threads: of each run; the same for any number of jobs, because sums may depend on it.
        report: called with settings and curves of each run once it is recorded.

    Raises:
        FileExistsError: the store's folder holds something else by now.
        OSError: a record cannot be written.
    """
    store.create()
    waiting = list(runs)
    while waiting:
        backend, _ = get_active_backend()  # Ray's tells nothing before the last run has ended
        parallel = joblib.Parallel(
            return_as="generator_unordered" if backend.supports_return_generator else "list",
            **({} if jobs is None else {"n_jobs": min(jobs, len(waiting))}),
        )
        held = []
        for settings, curves in parallel(
            joblib.delayed(_run)(settings, train, store, threads) for settings in waiting
        ):
            if curves is None:
                held.append(settings)
            else:
                report(settings, curves)
        if len(held) == len(waiting):
            time.sleep(_PAUSE)
        waiting = held


def _run(settings, train, store, threads):
    """Settings and curves of a run; no curves where another process is doing it."""
    with few_threads(threads), store.lock(settings) as mine:
        if not mine:
            return settings, None
        curves = None
        with contextlib.suppress(Damaged):
            curves = store.read(settings)  # another process may have done it
        if curves is None:
            curves = train(settings)
            store.write(settings, curves)
    return settings, curves


@contextlib.contextmanager
def few_threads(threads):
    """So many threads, and no more of a GPU's memory than needed: there are other workers.

    Sums depend on the number of threads in their last digits, those of NumPy (log det K) as those
    of TensorFlow. TensorFlow keeps to the number for good.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        warnings.warn(
            f"TensorFlow has computed in this process before, with other than {threads} threads: "
            "last digits may differ from those of other processes. Start it in one of its own.",
            stacklevel=2,
        )
    with contextlib.suppress(RuntimeError):  # it has computed before, on all memory
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    with threadpoolctl.threadpool_limits(threads):
        yield
