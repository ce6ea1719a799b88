"""Main memory of this process: what it holds, its peak, and a limit to it; of Linux only."""

import contextlib
import math
from pathlib import Path


def now():
    """Megabytes that the process holds, from which on its peak is counted; NaN but on Linux."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak: importing has its own
    return _megabytes("/proc/self/status", "VmRSS")


def peak():
    """Megabytes that it has held at most, since `now`."""
    return _megabytes("/proc/self/status", "VmHWM")  # of `getrusage` the parent's size is part


def _megabytes(path, name):
    try:
        lines = dict(line.split(":", 1) for line in Path(path).read_text().splitlines())
        return int(lines[name].split()[0]) / 1024
    except OSError:
        return math.nan


def keep_to(gigabytes):
    """A case that is too large shall fail by itself, not end what else runs on the machine."""
    with contextlib.suppress(ImportError, OSError):
        import resource

        Path("/proc/self/oom_score_adj").write_text("1000")
        megabytes = (
            1024 * gigabytes if gigabytes else 0.75 * _megabytes("/proc/meminfo", "MemAvailable")
        )
        resource.setrlimit(resource.RLIMIT_DATA, (int(2**20 * megabytes),) * 2)
