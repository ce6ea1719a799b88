"""A small grid that is killed again and again ends as one that is left alone."""

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
COMMAND += ["--training-size", "40", "--epochs", "30", "--points", "3", "--runs", "8"]


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
    begin = time.monotonic()
    assert start(tmp_path / "undisturbed", jobs=2).wait() == 0
    seconds = time.monotonic() - begin
    out = tmp_path / "killed"
    counts = []
    for _ in range(KILLS):
        process = start(out, draw.choice((1, 2)))
        time.sleep(draw.uniform(0.2, 0.8) * seconds)
        kill = draw.choice((os.kill, os.killpg))  # the command alone, or its workers too
        if process.poll() is None:
            kill(process.pid, draw.choice(SIGNALS))
        process.wait()
        counts.append(len(records(out)))
    assert len({count for count in counts if count < 8 * len(METHODS)}) > 1, (
        "none was in the middle"
    )
    last = start(out, jobs=2)
    assert last.wait() == 0
    assert "damaged" not in (tmp_path / "killed.log").read_text()
    assert records(out) == records(tmp_path / "undisturbed")
    for name in ("table.csv", "experiment.json"):
        assert (out / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
