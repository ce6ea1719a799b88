"""The command line, in a process of its own where the exit status matters."""

import os
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest

from keras_mgs import storage
from keras_mgs.cli import main
from keras_mgs.experiments.catalogue.experiment import declared
from keras_mgs.experiments.catalogue.presets import EXPERIMENTS
from keras_mgs.experiments.runs.store import Store


def refuses(arguments, words, folder, capsys):
    """The command says why in one sentence with these words, and writes nothing into `folder`."""
    before = sorted(folder.rglob("*"))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("keras-mgs: error: ") and error.count("\n") == 1
    for word in words:
        assert word in error
    assert sorted(folder.rglob("*")) == before


def test_compare_prints_a_table_and_writes_a_folder(tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "keras_mgs", "compare", "--epochs", "1", "--runs", "1"]
    command += ["--training-size", "40", "--methods", "unregularised", "mgs", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "MGS (tr K)" in done.stdout and "test accuracy, %" in done.stdout
    assert "± nan" not in done.stdout and done.stderr == ""  # nor what TensorFlow has to say
    names = {path.name for path in out.iterdir()}
    assert {"compare.png", "curves.csv", "table.csv", "runs"} < names


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--data", "digit"], ["digits", "Received: data='digit'"]),
        (["--data", "missing.npz"], [".npz", "Received", "missing.npz"]),
        (["--data", "truncated.npz"], ["truncated", "Received"]),
        (["--data", "keys.npz"], ["x_train", "Received", "['a']"]),
        (["--data", "nan.npz"], ["finite", "Received", "NaN"]),
        (["--data", "shape.npz"], ["x_train", "Received: shape (4, 3)"]),
        (["--corruption", "fog"], ["motion_blur", "Received: corruption='fog'"]),
        (["--network", "vgg"], ["'lenet5', 'fcn'", "Received: network='vgg'"]),
        (["--methods", "sgd"], ["'mgs'", "Received: methods='sgd'"]),
        (["--label-noise", "1.5"], ["between 0 and 1", "Received: label_noise=1.5"]),
        (["--label-noise", "nan"], ["finite", "Received: label_noise=nan"]),
        (["--training-size", "5000"], ["at most 1000", "Received: training_size=5000"]),
        (["--epochs", "0"], ["at least 1", "Received: epochs=0"]),
        (["--runs", "-1"], ["at least 1", "Received: runs=-1"]),
        (["--batch-size", "0"], ["at least 1", "Received: batch_size=0"]),
        (["--seed", "-1"], ["at least 0", "Received: seed=-1"]),
        (["--out", "full"], ["new or empty", "Received: folder='full'"]),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_nothing_is_written(
    arguments, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "truncated.npz").write_bytes(b"PK\x03\x04 and then the network went away")
    np.savez(tmp_path / "keys.npz", a=np.zeros(3))
    x, y = np.zeros((4, 8, 8), "float32"), np.array([0, 1, 0, 1])
    np.savez(tmp_path / "nan.npz", x_train=np.full_like(x, np.nan), y_train=y, x_test=x, y_test=y)
    np.savez(tmp_path / "shape.npz", x_train=x[:, 0, :3], y_train=y, x_test=x, y_test=y)
    refuses(["compare", *arguments], words, tmp_path, capsys)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--data", "table.csv"], ["--target NAME", "Received: data='table.csv'"]),
        (["--data", "table.csv", "--target", "z"], ["a column", "Received: target='z'"]),
        (["--data", "table.csv", "--target", "c"], ["missing values", "cells in 'gap'"]),
        (["--data", "words.csv", "--target", "a"], ["to be numbers", "texts in 'one', 'c'"]),
        (["--data", "same.csv", "--target", "one"], ["2 classes", "Received: 'x' alone"]),
        (["--data", "empty.csv", "--target", "a"], ["a line of names", "Received"]),
        (["--data", "wine", "--task", "sums"], ["'regression'", "Received: task='sums'"]),
        (["--data", "wine", "--kind", "sound"], ["'series'", "Received: kind='sound'"]),
        (["--data", "wine", "--network", "lenet5"], ["(13,)", "Received: network='lenet5'"]),
        (["--data", "wine", "--network", "none.keras"], ["existing", "Received: network='none"]),
        (["--data", "wine", "--network", "text.keras"], ["built model", "Received: network='text"]),
        (["--data", "wine", "--network", "net.keras"], ["(13,), and 3 outputs", "inputs [(5,)]"]),
        (["--network", "net.h5"], ["path of a .keras file", "Received: network='net.h5'"]),
    ],
)
def test_a_table_or_network_that_will_not_do_is_one_sentence(
    arguments, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("a,gap,c\n" + "1,2,yes\n3,,no\n" * 9)
    (tmp_path / "words.csv").write_text("a,one,c\n" + "1,x,yes\n3,x,no\n" * 9)
    (tmp_path / "same.csv").write_text("a,one\n" + "1,x\n3,x\n" * 9)
    for name in ("empty.csv", "text.keras", "net.h5"):
        (tmp_path / name).touch()
    keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]).save(tmp_path / "net.keras")
    refuses(["compare", *arguments], words, tmp_path, capsys)


def test_benchmark_prints_a_table_and_writes_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it
    arguments = ["--networks", "fcn", "--what", "plain", "--xla", "off", "--rounds", "1"]
    assert main(["benchmark", *arguments, "--batch-size", "2", "--time-limit", "100"]) == 0
    printed = capsys.readouterr().out
    assert "ms (spread)" in printed and "fcn" in printed
    (folder,) = (tmp_path / "results").iterdir()
    assert [p.name for p in folder.iterdir()] == ["benchmark.csv"]
    header, row = (folder / "benchmark.csv").read_text().splitlines()
    assert header.startswith("network,what,xla") and row.startswith("fcn,plain,False,plain,")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--networks", "vgg"], ["'resnet18'", "Received: --networks='vgg'"]),
        (["--what", "speed"], ["'exact_trace'", "Received: --what='speed'"]),
        (["--xla", "maybe"], ["'off', 'on'", "Received: --xla='maybe'"]),
        (["--rounds", "0"], ["at least 1", "Received: --rounds=0"]),
        (["--batch-size", "0"], ["at least 1", "Received: --batch-size=0"]),
        (["--time-limit", "0"], ["positive", "Received: --time-limit=0"]),
        (["--memory-limit", "-1"], ["positive", "Received: --memory-limit=-1"]),
        (["--against", "jax"], ["'neural-tangents'", "Received: --against='jax'"]),
        (["--against", "neural-tangents"], ["--peer-python", "Received: None"]),
        (
            ["--against", "neural-tangents", "--peer-python", sys.executable],
            ["neural-tangents==0.6.5", "No module named"],
        ),
        (["--out", "full"], ["new or empty", "Received: out='full'"]),
    ],
)
def test_a_wrong_argument_of_benchmark_is_one_sentence_and_nothing_is_written(
    arguments, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    refuses(["benchmark", *arguments], words, tmp_path, capsys)


def test_reproduce_goes_on_and_report_prints_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it
    arguments = ["--data", "digits", "--training-sizes", "40", "--label-noises", "0.5"]
    arguments += ["--networks", "fcn", "--methods", "mgs", "--epochs", "1", "--jobs", "1"]
    arguments += ["--strengths", "mgs=1e-5"]
    assert main(["reproduce", "mnist", *arguments]) == 0
    first = capsys.readouterr().out
    assert "0 of 1 runs are there" in first and "MGS (tr K)" in first
    assert main(["reproduce", "mnist", *arguments]) == 0
    second = capsys.readouterr().out
    assert "1 of 1 runs are there" in second
    assert main(["report", "results/mnist"]) == 0
    table = capsys.readouterr().out
    assert first.endswith(table) and second.endswith(table)
    header, row = (tmp_path / "results" / "mnist" / "table.csv").read_text().splitlines()
    assert header.startswith("data,corruption,network,method") and row.startswith(
        "digits,,fcn,mgs,1e-05"
    )

    (record,) = (tmp_path / "results" / "mnist" / "runs").iterdir()
    record.write_bytes(record.read_bytes()[:50])
    assert main(["report", "results/mnist"]) == 0
    assert f"{record.name} is damaged" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--preset", "slow"], ["'quick', 'paper'", "Received: preset='slow'"]),
        (["--networks", "vgg"], ["'lenet5', 'fcn'", "Received: networks='vgg'"]),
        (["--methods", "sgd"], ["'mgs'", "Received: methods='sgd'"]),
        (["--strengths", "mgs=-1"], ["positive", "Received: strength=-1.0"]),
        (["--strengths", "mgs=x"], ["METHOD=NUMBER", "Received: 'mgs=x'"]),
        (["--data", "digit"], ["digits", "Received: data='digit'"]),
        (["--jobs", "0"], ["at least 1", "Received: --jobs=0"]),
        (["--threads", "0"], ["at least 1", "Received: --threads=0"]),
        (["--out", "full"], ["new or empty", "Received: folder='full'"]),
        (["--out", "other"], ["'mnist'", "Received: folder='other'", "'bees'"]),
    ],
)
def test_a_wrong_argument_of_reproduce_is_one_sentence_and_nothing_is_written(
    arguments, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for folder, file in {"full": "file", "other": "experiment.json"}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text('{"experiment": "bees", "version": 1}')
    before = sorted(tmp_path.rglob("*"))
    command = ["reproduce", "mnist", "--data", "digits", "--training-sizes", "40", *arguments]
    try:
        assert main(command) == 2
    except SystemExit as error:  # argparse's own
        assert error.code == 2
    error = capsys.readouterr().err
    assert "keras-mgs" in error and all(word in error for word in words)
    assert sorted(tmp_path.rglob("*")) == before


def test_every_experiment_has_an_option_for_each_setting(capsys):
    for name in EXPERIMENTS.keys() - {"compare"}:
        with pytest.raises(SystemExit, match="0"):
            main(["reproduce", name, "--help"])
        printed = capsys.readouterr().out
        own = declared(EXPERIMENTS[name].settings)
        for setting in (*own, "preset", "jobs", "threads", "cluster", "out"):
            assert f"--{setting.replace('_', '-')} " in printed


@pytest.mark.slow
@pytest.mark.parametrize("command", ["compare", "reproduce mnist"])
def test_the_numbers_do_not_depend_on_the_jobs(command, tmp_path):
    """Bit for bit, tr K and log det K too, in processes that may have all threads."""
    small = "--data digits --epochs 3 --runs 1 --methods unregularised mgs"
    small += " --networks lenet5 --training-sizes 200" if "mnist" in command else ""
    env = {key: value for key, value in os.environ.items() if "THREADS" not in key}
    found = {}
    for jobs in ("1", "2"):
        out = tmp_path / jobs
        words = [*command.split(), *small.split(), "--jobs", jobs, "--out", str(out)]
        subprocess.run([sys.executable, "-m", "keras_mgs", *words], env=env, check=True)
        curves = [curves for _, curves in Store(out).records() if len(curves)]
        found[jobs] = [frame.drop(columns="seconds") for frame in curves]
    assert found["1"]
    for a, b in zip(found["1"], found["2"], strict=True):
        pd.testing.assert_frame_equal(a, b, check_exact=True)


@pytest.mark.parametrize(
    "name", ["run[/x]y", "run[note]", "run:smile:", "run\x1b[2J\x07", "a\u202eb"]
)
def test_paths_are_printed_as_they_are(name, tmp_path, capsys):
    """rich's markup and emoji, and a terminal's escape sequences, are none of ours."""
    folder = tmp_path / name
    Store(folder, "mnist").create()
    (folder / "runs" / "cut.json").write_text("{")
    assert main(["report", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert printed.count(storage.printable(folder)) == 2  # the damaged record, and what is written
    assert printed.replace("\n", "").isprintable()
    assert main(["report", f"{folder}\x1b[2J"]) == 2
    assert capsys.readouterr().err.replace("\n", "").isprintable()


def test_words_of_records_are_printed_as_they_are(tmp_path, capsys):
    store = Store(tmp_path / "out", "tune")
    store.create()
    settings = {"corruption": None, "network": "fcn", "method": "dropout", "strength": 0.3}
    settings |= {"training_size": 250, "label_noise": 0.5, "epochs": 1, "batch_size": 32}
    settings |= {"learning_rate": 0.1, "points": 100, "by": "validation", "seed": 0}
    curves = pd.DataFrame({"epoch": [1], "test": [50.0], "test_loss": [1.0]})
    for data in ("[/x]", "[note]", ":smile:", "\x1b[2J", "\ud800"):
        store.write({"data": data, **settings}, curves)
    assert main(["report", str(store.folder)]) == 0
    printed = capsys.readouterr().out
    for text in ("[/x]", "[note]", ":smile:", "\\x1b[2J", "\\ud800"):
        assert f" {text} " in printed
    assert printed.replace("\n", "").isprintable()


def test_help_needs_no_tensorflow():
    """In a process of its own, as a module and as the script that installation makes."""
    code = "import sys; sys.argv[0] = 'keras-mgs'; from keras_mgs.cli import main; main()"
    for start in (["-m", "keras_mgs"], ["-c", code]):
        for words in (["--help"], ["--version"], ["compare", "--help"], ["reproduce", "--help"]):
            command = [sys.executable, "-X", "importtime", *start, *words]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
            assert not imported & {"tensorflow", "keras", "pandas", "numpy", "matplotlib"}
            assert "keras_mgs.cli" in imported and done.stdout


def test_a_module_of_somebody_else_that_is_run_has_the_whole_library(tmp_path):
    """`python -m` imports a package before it tells what is run: here it is not ours."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("import keras_mgs; keras_mgs.MGSModel")
    (tmp_path / "theirs" / "__main__.py").write_text("")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-m", "theirs"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})


def test_an_interrupted_command_says_in_a_line_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("keras_mgs.experiments.runs.grid.joblib.Parallel", interrupt)
    small = ["--training-size", "40", "--epochs", "1", "--out", "here"]
    assert main(["compare", *small]) == 130
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "interrupted" in error and "`--out here` goes on" in error


@pytest.mark.parametrize("option", ["--epochs", "--runs", "--batch-size", "--jobs", "--seed"])
def test_a_number_beyond_all_counting_is_one_sentence(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = option.strip("-").replace("-", "_")
    refuses(["compare", option, "9" * 400], [name, "Received"], tmp_path, capsys)


def test_report_of_no_experiment_is_one_sentence(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "without experiment.json" in capsys.readouterr().err
    (tmp_path / "experiment.json").write_text('{"experiment": "bees", "version": 1}')
    assert main(["report", str(tmp_path)]) == 2
    assert (
        "'mnist'" in (error := capsys.readouterr().err) and "Received: experiment='bees'" in error
    )


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "keras_mgs.experiments.reproduce", None)
    monkeypatch.delattr("keras_mgs.experiments.reproduce", raising=False)
    assert main(["compare"]) == 2
    assert 'pip install "keras_mgs[experiments]"' in capsys.readouterr().err
