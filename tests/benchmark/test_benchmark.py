import os
import sys

import numpy as np
import pandas as pd
import pytest

from keras_mgs import norms, penalties, pieces
from keras_mgs.benchmark import benchmark as job
from keras_mgs.benchmark import case
from keras_mgs.benchmark.case import NETWORKS, PEER, TOLERANCE, WHAT, Case, measure

SMALL = {"batch_size": 4, "outputs": 3, "widths": (8,), "rounds": 1}
ROW = {"network": "fcn", "xla": False, "against": "plain", "note": "", "ms": 2.0, "ms_spread": 0.1}
ROW |= {"ratio": 2.0, "ratio_spread": 0.1, "first_s": 3.0, "memory_mb": 5.0, "difference": 0.0}


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(case, "STEPS", 2)
    monkeypatch.setattr(case, "_BLOCK", 1e-6)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("what", WHAT)
def test_what_is_measured_agrees_with_plain_gradients(what):
    row = measure(Case("fcn", what, **SMALL))
    assert row["difference"] < 1e-5 < TOLERANCE
    assert row["against"] == "plain" and row["rounds"] == 1
    assert min(row[name] for name in ("ms", "other_ms", "ratio", "first_s")) > 0
    assert row["memory_mb"] >= 0 or sys.platform != "linux"


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("what", ["hutchinson_8", "kernel"])
def test_xla_is_held_against_the_same_gradients(what):
    assert measure(Case("fcn", what, True, **SMALL))["difference"] < TOLERANCE


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    "what, place, name",
    [
        ("plain", case, "LOSS"),
        ("loss_gradient", norms, "of_products"),
        ("hutchinson", penalties, "_projection"),
        ("exact_trace", penalties.TracePenalty, "value"),
        ("exact_log_det", penalties, "gram"),
        ("kernel", pieces, "gram"),
        ("metrics", pieces, "gram"),
    ],
)
def test_there_is_no_ratio_of_a_wrong_result(what, place, name, monkeypatch):
    right = getattr(place, name)
    calls = iter(range(1000))

    def wrong(*arguments):  # every time by another factor, as the plain step uses the loss too
        return right(*arguments) * (1 + 0.01 * (1 + next(calls)))

    monkeypatch.setattr(place, name, wrong)
    row = job.accepted(measure(Case("fcn", what, **SMALL)))
    assert row["note"].startswith("differs by") and not {"ratio", "ratio_spread"} & set(row)
    assert row["ms"] > 0


@pytest.mark.parametrize("difference", [2 * TOLERANCE, float("nan")])
def test_a_difference_beyond_rounding_is_written_and_shown(difference, tmp_path, monkeypatch):
    found = job.accepted({**ROW, "what": "kernel", "difference": difference})
    monkeypatch.setattr(job, "run", lambda case: found)
    table = job.benchmark([({}, Case("fcn", "kernel"))], out=tmp_path / "out")
    written = pd.read_csv(tmp_path / "out" / "benchmark.csv")
    assert np.isnan(table["ratio"][0]) and np.isnan(written["ratio"][0])
    assert "differs by" in written["note"][0]
    (line,) = job.summary(table)
    assert line["ratio (spread)"] == "differs" and "differs by" in line["note"]


def test_first_steps_are_compared_with_that_of_the_plain_step(tmp_path, monkeypatch):
    first = {("plain", False): 2.0, ("kernel", False): 3.0, ("plain", True): 4.0}
    first["kernel", True] = 20.0
    monkeypatch.setattr(
        job,
        "run",
        lambda case: {
            **ROW,
            "what": case.what,
            "xla": case.xla,
            "first_s": first[case.what, case.xla],
        },
    )
    rows = []
    table = job.benchmark(job.cases(["fcn"], ["kernel"]), out=tmp_path / "out", report=rows.append)
    assert table["first_ratio"].tolist() == [1, 1.5, 1, 5] == [row["first_ratio"] for row in rows]
    assert table["cores"].tolist() == [os.cpu_count()] * 4
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_first_step_of_a_default_fit_is_compared_with_that_of_a_plain_one(
    tmp_path, monkeypatch
):
    first = {"plain": 1.0, "plain_epoch": 2.0, "epoch": 8.0}
    monkeypatch.setattr(
        job, "run", lambda case: {**ROW, "what": case.what, "first_s": first[case.what]}
    )
    table = job.benchmark(job.cases(["fcn"], ["epoch"], (False,)), out=tmp_path / "out")
    assert dict(zip(table["what"], table["first_ratio"], strict=True)) == {
        "plain": 1.0,
        "plain_epoch": 2.0,
        "epoch": 4.0,
    }


def test_every_network_meets_every_question():
    cases = [case for _, case in job.cases(peer="python", rounds=3)]
    asked = {(c.network, c.what, c.xla) for c in cases if not c.peer}
    assert len(asked) == len(NETWORKS) * (2 * len(WHAT) - 1)  # no XLA for MGSMetrics
    beside = [c for c in cases if c.peer]
    assert len(beside) == 2 * len(PEER[0]) * len(PEER[1]) and {c.rounds for c in cases} == {3}


def test_exponents_of_known_laws_are_found(tmp_path, monkeypatch):
    laws = {"hutchinson": 1.0, "exact_trace": 1.5, "kernel": 2.0}

    def run(case):
        size = case.batch_size * case.outputs * case.widths[0] * len(case.widths)
        memory = {"memory_mb": float(size) ** 3}
        return {**ROW, "what": case.what, "ms": 0.1 * size ** laws[case.what], **memory}

    monkeypatch.setattr(job, "run", run)
    table = job.benchmark(job.growing((1, 2, 4)), out=tmp_path / "out")
    assert len(table) == 3 * 4 * 3
    for row in table.to_dict("records"):
        assert row["ms_exponent"] == pytest.approx(laws[row["what"]])
        assert row["memory_exponent"] == pytest.approx(3)
    lines = job.summary(table)
    assert len(lines) == 3 * 4
    assert lines[1]["grows"] == "q, 8 to 32" and lines[1]["ms: exponent"] == "1.00"


def test_an_exponent_is_fitted_to_what_there_is():
    assert job.exponent([1, 2, 4], [3.0, np.nan, 48.0]) == pytest.approx(2)
    assert np.isnan(job.exponent([1, 2], [1.0, np.nan]))


@pytest.mark.parametrize(
    "network, options, words",
    [
        ("fcn", {"seconds": 0.5}, "over the time limit of 0.5 s"),
        ("fcn", {"widths": (-1,)}, "ValueError: "),
        pytest.param(
            *("fcn", {"widths": (1000, 4_000_000), "memory": 4}, "ResourceExhaustedError: "),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_case_that_fails_is_a_row(network, options, words):
    row = job.run(Case(network, "plain", **options))
    assert words in row["note"] and row["what"] == "plain" and "ms" not in row


def test_nothing_half_written_is_left_by_an_interrupted_job(tmp_path, monkeypatch):
    def interrupt(case):
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        job.benchmark(job.cases(), out=tmp_path / "o" / "out")
    assert not list((tmp_path / "o").iterdir())


@pytest.mark.slow
@pytest.mark.skipif("KERAS_MGS_PEER" not in os.environ, reason="it names the peer's Python")
@pytest.mark.parametrize("network", PEER[0])
@pytest.mark.parametrize("what", PEER[1])
def test_the_peer_finds_the_same(network, what):
    peer = os.environ["KERAS_MGS_PEER"]
    job.check_peer(peer)
    row = job.run(Case(network, what, rounds=1, batch_size=8, peer=peer))
    assert row["note"] == "" and row["difference"] < 1e-5
    assert row["against"].startswith("neural-tangents") and row["ratio"] > 0
