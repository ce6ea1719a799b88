"""A small grid that is killed again and again ends as one that is left alone."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

KILLS = 15
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
METHODS = ("unregularised", "dropout", "weight_decay")
COMMAND = [sys.executable, "-m", "keras_mgs", "reproduce", "two-circles", "--methods", *METHODS]
COMMAND += ["--training-size", "40", "--epochs", "30", "--points", "3", "--runs", "20"]


def start(out, jobs):
    """The command, in a group of processes of its own."""
    command = [*COMMAND, "--jobs", str(jobs), "--out", str(out)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with open(f"{out}.log", "ab") as log:
        return subprocess.Popen(
            command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def records(folder):
    """What was measured, by name; seconds differ."""
    found = {}
    for path in (folder / "runs").glob("*.json"):
        curves = json.loads(path.read_bytes())["curves"]
        found[path.name] = {key: curves[key] for key in curves if key != "seconds"}
    return found


@pytest.mark.slow
def test_a_grid_killed_fifteen_times_ends_as_one_left_alone(tmp_path):
    draw = random.Random(0)
    assert start(tmp_path / "undisturbed", jobs=2).wait() == 0
    every = len(records(tmp_path / "undisturbed"))
    out = tmp_path / "killed"
    counts = [0]
    for _ in range(KILLS):
        process = start(out, draw.choice((1, 2)))
        enough = counts[-1] + draw.randint(0, 4)  # 0: while it starts
        while process.poll() is None and len(records(out)) < enough:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 0.5))
        kill, signum = draw.choice((os.kill, os.killpg)), draw.choice(SIGNALS)
        while process.poll() is None:  # Python loses an interrupt in a callback of a weak reference
            with contextlib.suppress(subprocess.TimeoutExpired, ProcessLookupError):
                kill(process.pid, signum)  # the command alone, or its workers too
                process.wait(timeout=20)
        counts.append(len(records(out)))
    assert sum(0 < count < every for count in set(counts)) > 5, "too few kills in the middle"
    last = start(out, jobs=2)
    assert last.wait() == 0
    assert "damaged" not in (tmp_path / "killed.log").read_text()
    assert records(out) == records(tmp_path / "undisturbed")
    for name in ("table.csv", "experiment.json"):
        assert (out / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
