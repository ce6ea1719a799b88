"""Files and folders that somebody else may have made."""

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_mgs import storage

STRANGE = {  # what may stand at the name of a file
    "nothing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a dangling link": lambda path: path.symlink_to(path.with_name("nowhere")),
    "a link to itself": lambda path: path.symlink_to(path),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "too much": lambda path: path.write_bytes(bytes(101)),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_no_file_is_refused_at_once(name, tmp_path):
    STRANGE[name](tmp_path / "file")
    with pytest.raises((OSError, ValueError)):
        storage.read(tmp_path / "file", 100)


def test_a_file_and_a_link_to_one_are_read(tmp_path):
    (tmp_path / "file").write_bytes(bytes(100))
    (tmp_path / "link").symlink_to("file")
    assert (
        storage.read(tmp_path / "file", 100) == storage.read(tmp_path / "link", 100) == bytes(100)
    )


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b"9" * 5000])
def test_json_that_cannot_be_read_is_a_value_error(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError):
        storage.read_json(tmp_path / "file", 10**6)


def test_a_link_is_replaced_and_never_followed(tmp_path):
    (tmp_path / "thesis").write_text("years of work")
    for name in ("file", ".file.tmp"):  # where it is written, and where one might write before
        (tmp_path / name).symlink_to("thesis")
    storage.write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new" and not (tmp_path / "file").is_symlink()
    assert (tmp_path / "thesis").read_text() == "years of work"
    assert {p.name for p in tmp_path.iterdir()} == {"file", ".file.tmp", "thesis"}


def test_others_may_read_what_the_user_lets_them_read(tmp_path):
    (tmp_path / "plain").touch()
    storage.write(tmp_path / "file", b"")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "file")]
    assert modes[0] == modes[1]


def test_a_folder_that_cannot_be_replaced_is_refused_before_the_work(tmp_path):
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(FileExistsError, match="new or empty"):
        storage.check_new("out", tmp_path / "dangling")


def test_a_link_to_an_empty_folder_stays_one(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    storage.check_new("out", tmp_path / "link")
    with storage.whole(tmp_path / "link") as place:
        (place / "file").touch()
    assert (tmp_path / "link").is_symlink() and (tmp_path / "empty" / "file").exists()


ANYTHING = st.text() | st.sampled_from(["", ".", "..", "../x", "a/b", "a" * 300, "\x1b[31m", "é"])


@given(ANYTHING, ANYTHING)
def test_a_word_is_a_name_and_tells_texts_apart(a, b):
    for text in (a, b):
        found = storage.word(text)
        assert storage.is_word(found) and os.path.basename(found) == found not in ("", ".", "..")
        assert found == text or not storage.is_word(text)
    assert (storage.word(a) == storage.word(b)) == (a == b)


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_what_is_printed_moves_no_cursor(text):
    found = storage.printable(text)
    assert found.isprintable() and (found == text or not text.isprintable())


def test_memory_that_is_free_is_known_on_linux():
    if os.path.exists("/proc/meminfo"):
        assert (
            2**20
            < storage.free_memory()
            <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        )
