"""The benchmark: what everything costs beside a plain training step, one process per case."""

import dataclasses
import itertools
import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from keras_mgs import storage
from keras_mgs.benchmark.case import NETWORKS, PEER, PLAIN, TOLERANCE, WHAT, Case

COLUMNS = (
    *("network", "what", "xla", "against", "ms", "ms_spread", "other_ms", "other_ms_spread"),
    *("ratio", "ratio_spread", "rounds", "first_s", "first_ratio", "memory_mb", "difference"),
    "note",
)
_NUMBERS = {
    "ms (spread)": "{ms:.3g} ({ms_spread:.2g})",
    "ratio (spread)": "{ratio:.2f} ({ratio_spread:.2f})",
    "first, s": "{first_s:.2f}",
    "× plain's": "{first_ratio:.2f}",
    "memory, MB": "{memory_mb:.0f}",
}
_EXPONENTS = {"ms": "ms_exponent", "memory_mb": "memory_exponent"}
GROWING = ("hutchinson", "exact_trace", "kernel")  # what `growing` measures
_SMALLEST = {"n": 16, "q": 8, "width": 128, "depth": 2}
_GROWTH = (1, 2, 4, 8, 16)
_LONGEST = 2e6  # seconds that the operating system can wait for a process


def cases(networks=tuple(NETWORKS), what=WHAT, xla=(False, True), peer=None, **options):
    """What everything costs: a list of pairs for `benchmark`, plain steps first.

    Args:
        networks, what: keys of `NETWORKS` and some of `WHAT`; what they are compared with is
            always measured.
        xla: some of False and True.
        peer: a Python that has Neural Tangents, to measure beside that, too, what it can do.
        **options: more of a `Case`.
    """
    asked = dict.fromkeys(("plain", *(PLAIN[one] for one in what if one in PLAIN), *what))
    found = [
        Case(network, one, compiled, **options)
        for network in networks
        for compiled in xla
        for one in asked
        if not (compiled and one == "metrics")  # they look at their numbers, so XLA cannot
    ]
    beside = [
        dataclasses.replace(case, peer=peer)
        for case in found
        if peer and case.network in PEER[0] and case.what in PEER[1]
    ]
    return [({}, case) for case in found + beside]


def growing(growth=_GROWTH, **options):
    """How cost grows: a list of pairs for `benchmark`, of fully connected networks.

    Args:
        growth: what n, q, the width and the depth are multiplied by, one after the other.
        **options: more of a `Case`.
    """
    found = []
    for what, grown, factor in itertools.product(GROWING, _SMALLEST, growth):
        size = {**_SMALLEST, grown: _SMALLEST[grown] * factor}
        widths = (size["width"],) * size["depth"]
        case = Case("fcn", what, False, size["n"], size["q"], widths, **options)
        found.append(({"grown": grown, "size": size[grown]}, case))
    return found


def benchmark(cases, *, out, report=lambda row: None):
    """Measure every case and write the folder `out`, which appears at the end: benchmark.csv.

    Args:
        cases: pairs of more columns of its row, a dict, and a `Case`; of `cases` or `growing`.
        out: a folder that does not exist yet, or is empty.
        report: called with each row, a dict.

    Returns:
        A `pandas.DataFrame`, a row per case: what `case.measure` returns; first_ratio, first_s
        by that of the plain step, of "epoch" by that of a plain `fit`; note, why numbers are
        missing; and the machine. Where results differ by more than rounding, there are no ratios.
        Of what grows, also ms_exponent and memory_exponent: b of the law a · size^b, for all rows
        of a kind.

    Raises:
        FileExistsError: `out` is a file, or a folder with something in it.
    """
    storage.check_new("out", out)
    rows = []
    plain = {}
    with storage.whole(out) as folder:
        for columns, case in cases:
            row = {**columns, **run(case)}
            first = row.get("first_s", np.nan)
            if case.what in ("plain", *PLAIN.values()):
                plain[case.network, case.xla, case.what] = first
            beside = PLAIN.get(case.what, "plain")
            row["first_ratio"] = first / plain.get((case.network, case.xla, beside), np.nan)
            rows.append(row)
            report(row)
        table = pd.DataFrame(rows, columns=list(dict.fromkeys([*COLUMNS, *itertools.chain(*rows)])))
        if "grown" in table:
            for _, kind in table.groupby(["what", "grown"]):
                for values, name in _EXPONENTS.items():
                    table.loc[kind.index, name] = exponent(kind["size"], kind[values])
        table = table.assign(**machine())
        table.to_csv(folder / "benchmark.csv", index=False)
    return table


def exponent(sizes, values):
    """b of the power law a · size^b, fitted to the logarithms; NaN of fewer than two values."""
    sizes, values = np.asarray(sizes, "float64"), np.asarray(values, "float64")
    known = values > 0  # so neither NaN
    if known.sum() < 2:
        return float("nan")
    return float(np.polyfit(np.log(sizes[known]), np.log(values[known]), 1)[0])


def run(case):
    """The row of a case, measured in a process of its own, which is ended at the time limit."""
    row = {"network": case.network, "what": case.what, "xla": case.xla}
    row |= {"against": "neural-tangents" if case.peer else "plain", "note": ""}
    arguments = json.dumps(dataclasses.asdict(case))
    command = [sys.executable, "-m", "keras_mgs.benchmark.case", arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # this very package
    ) as process:
        try:
            said, errors = process.communicate(timeout=min(case.seconds, _LONGEST))
        except subprocess.TimeoutExpired:
            return row | {"note": f"over the time limit of {case.seconds:g} s"}
        finally:
            if process.poll() is None:  # the peer too
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        last = (errors.strip().splitlines() or [""])[-1]
        return row | {"note": f"ended with status {process.returncode}: {last}"}
    return row | accepted(json.loads(said.splitlines()[-1]))


def accepted(row):
    """A row; without its ratios where the results differ by more than rounding."""
    if "ratio" in row and not row["difference"] <= TOLERANCE:
        row = {key: value for key, value in row.items() if "ratio" not in key}
        row["note"] = f"differs by {row['difference']:.1g}; rounding: up to {TOLERANCE:g}"
    return row


def check_peer(python):
    """That `python` can run Neural Tangents."""
    command = [str(python), "-I", str(Path(__file__).with_name("peer.py"))]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        problem = done.stderr.strip().splitlines()[-1:] if done.returncode else None
    except OSError as error:
        problem = [str(error)]
    if problem is not None:
        raise ValueError(
            "Expected `--peer-python` to be the Python of an environment with Neural Tangents. "
            f"Received: {python} ({' '.join(problem)}). These versions work together: "
            "neural-tangents==0.6.5 jax==0.4.23 jaxlib==0.4.23 numpy<2 scipy<1.13 tf2jax==0.3.6 "
            "tensorflow-cpu==2.15.1."
        )


def machine():
    """What the numbers depend on, by name."""
    return {
        "cores": os.cpu_count(),
        "gpus": len(tf.config.list_physical_devices("GPU")),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def words(row):
    """What people read of a row: texts by their headings; empty where there is no number."""
    found = {
        "network": row["network"],
        "what": row["what"] + (", XLA" if row["xla"] else ""),
        **({"size": f"{row['grown']} = {row['size']}"} if "grown" in row else {}),
        "beside": row["against"],
    }
    for heading, text in _NUMBERS.items():
        known = text.format_map({**dict.fromkeys(COLUMNS, np.nan), **row})
        found[heading] = "" if "nan" in known else known
    if row["note"].startswith("differs"):
        found["ratio (spread)"] = "differs"
    return {**found, "note": row["note"]}


def summary(table):
    """The table that `benchmark` returns as a list of `words`; a row per kind of what grows."""
    if "grown" not in table:
        return [words(row) for row in table.to_dict("records")]
    found = []
    for (what, grown), kind in table.groupby(["what", "grown"], sort=False):
        first, last = kind.iloc[0], kind.iloc[-1]
        texts = {"what": what, "grows": f"{grown}, {first['size']} to {last['size']}"}
        for heading, name in {"ms": "ms", "memory, MB": "memory_mb"}.items():
            texts[heading] = f"{first[name]:.3g} to {last[name]:.3g}"
            texts[f"{heading}: exponent"] = f"{first[_EXPONENTS[name]]:.2f}"
        found.append(texts)
    return found
