"""Run the notebooks and write their outputs into them: `python notebooks/execute.py [NAME …]`.

Each starts in a new kernel and an empty folder. Nothing of the machine stays in the file, neither
times nor paths; pictures are reduced to 256 colours. Nothing is written if a cell fails or warns.
All of them without a NAME; a name is that of the file, `02_watch_overfitting`, or its beginning,
`02`. Needs the extra `test`.
"""

import base64
import io
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parent
LIMIT = 500  # kB
# What TensorFlow's C++ tells of the machine when it starts.
_STARTING = re.compile(
    r"^(WARNING: All log messages before absl|[IWE]\d{4} |20\d\d-).*$", re.MULTILINE
)


def execute(path, parameters=""):
    """Run one notebook; returns it with its outputs.

    Args:
        path: the file.
        parameters: lines of Python that run after the cell tagged `parameters`, for a shorter run.
    """
    notebook = nbformat.read(path, as_version=4)
    if parameters:
        tagged = [
            i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", ())
        ]
        notebook.cells.insert(tagged[0] + 1, nbformat.v4.new_code_cell(parameters))
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    return clean(notebook)


def clean(notebook):
    """Leave out what belongs to the machine; a RuntimeError if a cell has warned."""
    for cell in notebook.cells:
        kept = []
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                output.text = _STARTING.sub("", output.text)
                if not output.text.strip():
                    continue
                if output.name == "stderr" or "WARNING" in output.text:
                    raise RuntimeError(f"A cell of the notebook warns: {output.text}")
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
            kept.append(output)
        if cell.cell_type == "code":
            cell.outputs = kept
        cell.metadata = {k: v for k, v in cell.metadata.items() if k == "tags"}
    notebook.metadata = {
        "colab": {"provenance": []},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def smaller(png):
    """A picture, in base64, with a palette of 256 colours."""
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    if image.mode == "P":
        return png
    file = io.BytesIO()
    method = Image.Quantize.MAXCOVERAGE  # others leave out rare colours, such as a line's
    image = image.convert("RGB").quantize(256, method, dither=Image.Dither.NONE)
    image.save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def main(names):
    """Run the notebooks of these names, or all."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        if names and not path.stem.startswith(tuple(names)):
            continue
        start = time.perf_counter()
        notebook = execute(path)
        size = len(text := nbformat.writes(notebook) + "\n") / 1000
        if size > LIMIT:
            raise RuntimeError(f"{path.name} would be {size:.0f} kB, above {LIMIT}.")
        path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {time.perf_counter() - start:.0f} s, {size:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
