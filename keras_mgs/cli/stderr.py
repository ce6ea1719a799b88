"""Standard error without TensorFlow's own lines of log, also those of worker processes."""

import contextlib
import os
import re
import sys
import threading

# Information and warnings of its native code; errors, and what Python prints, are let through.
_LOG = re.compile(
    rb"[IW]\d{4} \d\d:\d\d:|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IW] "
    rb"|WARNING: All log messages before absl|To enable the following instructions:"
)


@contextlib.contextmanager
def without_logs():
    """Whatever writes to standard error within writes through a filter.

    No environment variable keeps TensorFlow from it: some lines are written while it is imported.
    """
    try:
        sys.stderr.flush()
        fd = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # there is none, or no file
        yield
        return
    kept = os.dup(fd)
    end, start = os.pipe()
    os.dup2(start, fd)
    os.close(start)
    reader = threading.Thread(target=_pass_on, args=(end, kept), daemon=True)
    reader.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, fd)
        reader.join(timeout=1)  # workers that are still there hold the other end


def _pass_on(end, kept):
    with open(end, "rb", buffering=0) as lines:
        rest = b""
        while piece := lines.read(2**16):
            *whole, rest = (rest + piece).splitlines(keepends=True)
            if rest.endswith((b"\n", b"\r")):
                whole, rest = [*whole, rest], b""
            os.write(kept, b"".join(line for line in whole if not _LOG.match(line)))
        os.write(kept, rest)
