import os
import subprocess
import sys

CODE = """
import os, subprocess, sys
from keras_mgs.cli import stderr
LINES = ["I0000 00:00:1795777072.159604    4091 port.cc:153] oneDNN is on.",
         "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
         "2024-01-02 03:04:05.678901: I tensorflow/core/util/port.cc:153] oneDNN is on.",
         "W0000 00:00:1795777072.159604    4091 gpu.cc:1] no GPU",
         "E0000 00:00:1795777072.159604    4091 bfc.cc:1] out of memory",
         "UserWarning: wrong", "I am a line of somebody's"]
with stderr.without_logs():
    os.write(2, "\\n".join(LINES[:5]).encode() + b"\\n")
    print(LINES[5], file=sys.stderr)
    for line in (LINES[0] + chr(10), LINES[6]):
        subprocess.run([sys.executable, "-c", f"import os; os.write(2, {line!r}.encode())"])
os.write(2, b"\\nI0000 00:00:1 afterwards")
"""


def test_tensorflow_s_lines_are_left_out_and_all_else_is_passed_on():
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=env)
    lines = [line for line in done.stderr.splitlines() if "oneDNN custom" not in line]
    wanted = ["E0000 00:00:1795777072.159604    4091 bfc.cc:1] out of memory"]
    wanted += ["UserWarning: wrong", "I am a line of somebody's", "I0000 00:00:1 afterwards"]
    assert lines[-4:] == wanted
