"""Many runs, and what may happen to them: a kill, damage, another process, a full disk."""

import errno
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import threadpoolctl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_mgs.experiments.runs import grid as job
from keras_mgs.experiments.runs.grid import grid, missing
from keras_mgs.experiments.runs.store import Store

RUNS = [{"method": method, "seed": seed} for method in ("mgs", "dropout") for seed in range(4)]


def train(run, log=None, seconds=0.0):
    """Random numbers by the settings; `log` gains a line for each training that ends."""
    time.sleep(seconds)
    seed = [run["seed"], *run["method"].encode()]
    curves = pd.DataFrame({"test": np.random.default_rng(seed).normal(size=5)})
    if log:
        with open(log, "a") as file:
            file.write(f"{json.dumps(run)}\n")
    return curves


def fail_at_three(run):
    if run["seed"] == 3:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return train(run)


def contents(store):
    return {p.name: p.read_bytes() for p in (store.folder / "runs").glob("*.json")}


@pytest.fixture
def undisturbed(tmp_path):
    store = Store(tmp_path / "undisturbed", "test")
    grid(RUNS, train, store=store)
    return contents(store)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "out", "test")


def test_every_run_is_recorded_and_reported_once(store):
    reported = []
    grid(RUNS, train, store=store, report=lambda run, curves: reported.append((run, curves)))
    assert [run for run, _ in reported] == RUNS and missing(store, RUNS) == []
    for run, curves in reported:
        pd.testing.assert_frame_equal(curves, train(run), check_exact=True)
        pd.testing.assert_frame_equal(curves, store.read(run), check_exact=True)
    assert [p.name for p in (store.folder / "locks").iterdir()] == ["experiment.lock"]


def pools(run):
    """The threads that NumPy's sums are made by."""
    threads = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    return pd.DataFrame({"test": [min(threads), max(threads)]})


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("threads", [1, 2])
def test_numpy_has_as_many_threads_as_tensorflow_whatever_the_jobs(threads, jobs, store):
    before = threadpoolctl.threadpool_info()
    grid(RUNS[:2], pools, store=store, jobs=jobs, threads=threads)
    for _, curves in store.records():
        assert curves["test"].tolist() == [threads, threads]
    assert threadpoolctl.threadpool_info() == before


def test_a_process_that_has_computed_with_other_threads_is_told_so():
    code = """
import warnings
import tensorflow as tf
from keras_mgs.experiments.runs.grid import few_threads
with warnings.catch_warnings():
    warnings.simplefilter("error")
    with few_threads(2):
        tf.constant(1.0)
    with few_threads(2):
        pass
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    with few_threads(1):
        pass
assert len(told) == 1 and "other than 1 threads: last digits may differ" in str(told[0].message)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_second_time_nothing_is_trained(store, tmp_path):
    log = tmp_path / "log"
    for _ in range(2):
        grid(RUNS, functools.partial(train, log=log), store=store)
    assert len(log.read_text().splitlines()) == len(RUNS)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.permutations(RUNS), st.lists(st.integers(0, len(RUNS) - 1)), st.integers(0, 3))
def test_order_damage_and_restarts_change_nothing(undisturbed, tmp_path_factory, runs, done, cut):
    store = Store(tmp_path_factory.mktemp("out"), "test")
    grid([runs[i] for i in done], train, store=store)
    for path in list((store.folder / "runs").iterdir())[:cut]:
        path.write_bytes(path.read_bytes()[:40])
    lines = []
    waiting = missing(store, runs, lines.append)
    assert len(lines) == min(cut, len(set(done))) == len(waiting) - len(runs) + len(set(done))
    grid(waiting, train, store=store)
    assert contents(store) == undisturbed


# What other processes do; `sys.path` makes this very file importable for them.
CODE = """
import functools, sys
sys.path[:0] = {path!r}
import test_grid as t
from keras_mgs.experiments.runs.grid import grid
from keras_mgs.experiments.runs.store import Store
if __name__ == "__main__":
    train = functools.partial(t.train, log={log!r}, seconds={seconds})
    grid(t.RUNS, train, store=Store({folder!r}, "test"), jobs={jobs})
"""


def start(store, log, jobs, seconds):
    path = [str(Path(__file__).parent), *sys.path]
    code = CODE.format(
        path=path, log=str(log), folder=str(store.folder), jobs=jobs, seconds=seconds
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    return subprocess.Popen([sys.executable, "-c", code], env=env, start_new_session=True)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_grid_that_is_killed_goes_on_where_it_was(
    jobs, store, undisturbed, tmp_path, monkeypatch
):
    monkeypatch.setattr(job, "_PAUSE", 0.1)
    process = start(store, tmp_path / "log", jobs, seconds=0.5)
    while len(missing(store, RUNS)) > len(RUNS) - 3:  # in the middle
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    left = missing(store, RUNS)
    assert 0 < len(left) < len(RUNS)
    # It would not end if the locks of the dead were not freed.
    grid(left, functools.partial(train, log=tmp_path / "log"), store=store)
    assert contents(store) == undisturbed
    trained = (tmp_path / "log").read_text().splitlines()
    assert len(trained) - len(RUNS) <= jobs  # ended, and killed before they were recorded
    assert set(trained) == {json.dumps(run) for run in RUNS}


def test_two_processes_on_one_folder_share_the_work(store, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "_PAUSE", 0.1)
    log, reported = tmp_path / "log", []
    other = start(store, log, jobs=1, seconds=0.3)
    while not (store.folder / "runs").exists() or not contents(store):
        assert other.poll() is None
        time.sleep(0.02)
    own = functools.partial(train, log=log, seconds=0.3)
    grid(RUNS, own, store=store, report=lambda run, curves: reported.append(run))
    assert other.wait() == 0
    trained = log.read_text().splitlines()
    assert sorted(trained) == sorted(map(json.dumps, RUNS))  # none twice
    assert sorted(map(str, reported)) == sorted(map(str, RUNS))
    assert contents(store) == undisturbed


def test_no_space_left_loses_no_finished_run(store, undisturbed):
    with pytest.raises(OSError, match="No space left"):
        grid(RUNS, fail_at_three, store=store)
    assert len(contents(store)) == 3
    grid(missing(store, RUNS), train, store=store)
    assert contents(store) == undisturbed


def test_another_experiment_is_refused_before_any_work(store):
    grid(RUNS[:1], train, store=store)
    with pytest.raises(FileExistsError, match="'other'.*Received"):
        Store(store.folder, "other")


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_the_backend_is_the_users(backend, store, undisturbed):
    with joblib.parallel_config(backend=backend, n_jobs=2):
        grid(RUNS, train, store=store)
    assert contents(store) == undisturbed


@pytest.mark.slow
def test_a_cluster_of_dask_does_the_runs(store, undisturbed):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, distributed.Client(cluster), joblib.parallel_config(backend="dask"):
        grid(RUNS, train, store=store)
    assert contents(store) == undisturbed
