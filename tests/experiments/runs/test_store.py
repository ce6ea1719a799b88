import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest

from keras_mgs import storage
from keras_mgs.experiments.runs.store import LARGEST, Damaged, Store

SETTINGS = {"network": "fcn", "method": "mgs", "label_noise": 0.3, "seed": 1, "epochs": 5}
CURVES = pd.DataFrame(
    {"epoch": [1, 2, 3], "test": [1 / 3, np.nan, -np.inf], "loss": [0.1, 2, 3e-9]}
)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "out", "mnist")
    store.create()
    return store


def test_a_record_is_read_as_it_was_written(store):
    assert store.read(SETTINGS) is None
    store.write(SETTINGS, CURVES)
    pd.testing.assert_frame_equal(store.read(SETTINGS), CURVES, check_exact=True)
    ((settings, curves),) = Store(store.folder).records()
    assert settings == SETTINGS
    pd.testing.assert_frame_equal(curves, CURVES, check_exact=True)


def test_attributes_of_the_curves_are_kept_and_belong_to_the_checksum(store):
    curves = CURVES.copy()
    curves.attrs["lead"] = [[0.5, -1.25], [3e-9, 2.0]]
    store.write(SETTINGS, curves)
    assert store.read(SETTINGS).attrs == curves.attrs
    path = store.path(SETTINGS)
    path.write_bytes(path.read_bytes().replace(b"1.25", b"1.26"))
    with pytest.raises(Damaged, match="checksum"):
        store.read(SETTINGS)


def test_the_name_tells_the_settings_apart_whatever_their_order(store):
    path = store.path(SETTINGS)
    assert path.name.startswith("fcn-mgs-0.3-1-")
    assert store.path(dict(reversed(SETTINGS.items()))) == path
    assert store.path({**SETTINGS, "epochs": 6}) != path


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: data.replace(b"0.3333", b"0.4333"),
        lambda data: data.replace(b"mgs", b"sam"),
        lambda data: os.urandom(len(data)),
        lambda data: b"[1, 2]",
    ],
)
def test_a_damaged_record_is_named_and_does_not_count(store, damage):
    store.write(SETTINGS, CURVES)
    path = store.path(SETTINGS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Damaged, match=f"{path.name} is damaged"):
        store.read(SETTINGS)
    lines = []
    assert list(store.records(lines.append)) == []
    assert len(lines) == 1 and path.name in lines[0]
    store.write(SETTINGS, CURVES)
    pd.testing.assert_frame_equal(store.read(SETTINGS), CURVES)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.mkdir(),
        lambda path: os.mkfifo(path),
        lambda path: path.symlink_to(path.with_name("nowhere")),
        lambda path: path.symlink_to(path),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_text("9" * 100_000),
        lambda path: path.touch() or os.truncate(path, LARGEST + 1),
        lambda path: path.write_text('{"settings": {}, "curves": {}, "sha256": {}}'),
    ],
)
def test_what_is_no_record_is_named_at_once(store, make):
    path = store.path(SETTINGS)
    make(path)
    with pytest.raises(Damaged, match=f"{path.name} is damaged"):
        store.read(SETTINGS)
    lines = []
    assert list(store.records(lines.append)) == [] and path.name in lines[0]


def sealed(store, path, **record):
    """A record with a right checksum, whatever is in it."""
    text = json.dumps(record, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps({**record, "sha256": digest}))
    lines = []
    return list(store.records(lines.append)), lines


def test_a_copy_does_not_count_twice(store):
    store.write(SETTINGS, CURVES)
    path = store.path(SETTINGS)
    path.with_name(f"{path.stem} (copy).json").write_bytes(path.read_bytes())
    lines = []
    assert len(list(store.records(lines.append))) == 1
    assert len(lines) == 1 and "(copy).json" in lines[0] and "it is a copy" in lines[0]


@pytest.mark.parametrize("word", ["../x", "a/b", "", ".", "\x1b[31m", "a\\b", "x" * 65, None, []])
def test_names_are_made_of_words_only(store, word):
    settings = {**SETTINGS, "network": word}
    if word is not None:  # a word too
        with pytest.raises(ValueError, match="words or numbers. Received"):
            store.path(settings)
    found, lines = sealed(store, store.folder / "runs" / "a.json", settings=settings, curves={})
    assert not found and len(lines) == 1


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"settings": SETTINGS},
        {"settings": 3, "curves": {}},
        {"settings": SETTINGS, "curves": 3},
        {"settings": SETTINGS, "curves": {"test": 3}},
        {"settings": SETTINGS, "curves": {"test": [1], "epoch": [1, 2]}},
        {"settings": SETTINGS, "curves": {"test": {"a": 1}}},
        {"settings": SETTINGS, "curves": {"test": [1]}, "attrs": 3},
    ],
)
def test_a_record_of_another_form_does_not_count(store, record):
    found, lines = sealed(store, store.path(SETTINGS), **record)
    assert not found and len(lines) == 1


def test_what_the_experiment_does_not_know_does_not_count(store):
    def check(settings, curves):
        if "loss" not in curves:
            raise ValueError("it has no 'loss'")

    store.write(SETTINGS, CURVES)
    assert len(list(Store(store.folder, check=check).records())) == 1
    store.write(SETTINGS, CURVES[["test"]])
    with pytest.raises(Damaged, match="it has no 'loss'"):
        Store(store.folder, check=check).read(SETTINGS)


@pytest.mark.parametrize("name", ["runs", "locks"])
def test_a_folder_whose_parts_are_links_is_refused(name, tmp_path):
    (tmp_path / "thesis").mkdir()
    store = Store(tmp_path / "out", "mnist")
    store.create()
    shutil.rmtree(tmp_path / "out" / name)
    (tmp_path / "out" / name).symlink_to(tmp_path / "thesis")
    with pytest.raises(FileExistsError, match="Received: a link to .*thesis"):
        Store(tmp_path / "out", "mnist")


def test_a_link_at_the_place_of_a_lock_is_not_followed(store, tmp_path):
    (tmp_path / "thesis").write_text("years of work")
    lock = store.folder / "locks" / f"{store.path(SETTINGS).stem}.lock"
    lock.symlink_to(tmp_path / "thesis")
    with pytest.raises(OSError), store.lock(SETTINGS):
        pass
    assert (tmp_path / "thesis").read_text() == "years of work"


def test_what_a_kill_left_does_not_make_the_folder_somebody_elses(tmp_path):
    (tmp_path / "locks").mkdir()
    (tmp_path / f"{storage.TEMPORARY}abc").mkdir()
    Store(tmp_path, "mnist").create()
    assert (tmp_path / "experiment.json").exists()


def test_the_record_of_another_run_under_this_name_does_not_count(store):
    store.write({**SETTINGS, "seed": 2}, CURVES)
    store.path({**SETTINGS, "seed": 2}).rename(store.path(SETTINGS))
    with pytest.raises(Damaged, match="another run"):
        store.read(SETTINGS)


def test_another_experiment_or_version_is_refused(store, monkeypatch):
    store.write(SETTINGS, CURVES)
    assert Store(store.folder).experiment == "mnist"
    with pytest.raises(FileExistsError, match="'keypoints'.*Received.*'mnist'.*Choose"):
        Store(store.folder, "keypoints")
    monkeypatch.setattr("keras_mgs.experiments.runs.store.VERSION", 2)
    with pytest.raises(FileExistsError, match="'version': 2.*Received.*'version': 1"):
        Store(store.folder, "mnist")


@pytest.mark.parametrize(
    "marker", ["", "{", "[1]", "[" * 100_000, " " * 2000, '"mnist"', json.dumps({"version": 1})]
)
def test_a_marker_that_says_nothing_is_refused(tmp_path, marker):
    (tmp_path / "experiment.json").write_text(marker)
    with pytest.raises(FileExistsError, match="Received"):
        Store(tmp_path, "mnist")


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="new or empty.*Received"):
        Store(tmp_path, "mnist")
    with pytest.raises(FileNotFoundError, match="Received.*without experiment.json"):
        Store(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_nothing_is_made_before_it_is_asked_for(tmp_path):
    Store(tmp_path / "out", "mnist")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_no_space_left_is_one_sentence_and_leaves_what_was_there(store, place, monkeypatch):
    store.write(SETTINGS, CURVES)
    before = sorted(store.folder.rglob("*"))

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, place, full)
    with pytest.raises(OSError, match="Expected.*Received: No space left on device. Make room"):
        store.write(SETTINGS, CURVES.head(1))
    with pytest.raises(OSError, match="No space left"):
        store.write({**SETTINGS, "seed": 2}, CURVES)
    assert sorted(store.folder.rglob("*")) == before
    pd.testing.assert_frame_equal(store.read(SETTINGS), CURVES)


def test_a_write_that_really_fails_halfway_leaves_nothing(store):
    """A limit on the size of files cuts a write in the middle, as a full disk does."""
    pytest.importorskip("resource", reason="POSIX only")
    code = f"""
import resource, signal, pandas as pd
from keras_mgs.experiments.runs.store import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
Store({str(store.folder)!r}).write({SETTINGS}, pd.DataFrame({{"test": range(100_000)}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Expected to be able to write" in done.stderr and "File too large" in done.stderr
    assert not list((store.folder / "runs").iterdir())


def test_a_lock_is_held_by_one_and_freed_when_it_is_left(store):
    with store.lock(SETTINGS) as first, store.lock(SETTINGS) as second:
        assert first and not second
        with store.lock({**SETTINGS, "seed": 2}) as other:
            assert other
        store.write(SETTINGS, CURVES)
    with store.lock(SETTINGS) as again:
        assert again
    names = [p.name for p in (store.folder / "locks").iterdir()]
    assert not any(name.startswith(store.path(SETTINGS).stem) for name in names)


def test_many_threads_that_open_a_folder_at_once_agree(tmp_path):
    found = []

    def open_it(name):
        try:
            store = Store(tmp_path / "out", name)
            store.create()
            found.append(name)
        except FileExistsError:
            pass

    names = ["mnist", "keypoints"] * 8
    threads = [threading.Thread(target=open_it, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {Store(tmp_path / "out").experiment}
