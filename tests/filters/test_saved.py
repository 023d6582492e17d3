"""The history on disk: bounds, several writers, and files that are broken."""

import os

import pytest

from observer.filters import saved
from observer.filters.saved import MAX_ENTRIES, History
from tests.filters.writers import at_once


def test_where_files_are(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative/is/ignored")
    assert History().path == tmp_path / ".local/state/flowscope/filter-history"
    assert saved.config_directory() == tmp_path / ".config/flowscope"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert History().path == tmp_path / "state/flowscope/filter-history"


def test_filters_are_kept_once_newest_last(tmp_path):
    path = tmp_path / "deep" / "history"
    history = History(path)
    for text in ("dns", "pod=a", "dns", " ", "", "a\nb"):
        history.add(text)
    assert history.entries == ["pod=a", "dns", "a and b"]
    assert history.warning == ""
    assert path.read_text() == "pod=a\ndns\na and b\n"
    assert History(path).entries == history.entries
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert oct(path.parent.stat().st_mode & 0o777) == "0o700"
    assert sorted(each.name for each in path.parent.iterdir()) == ["history", "history.lock"]


def test_history_is_bounded(tmp_path):
    path = tmp_path / "history"
    path.write_text("".join(f"f{number}\n" for number in range(MAX_ENTRIES + 20)))
    history = History(path)
    assert history.entries[0] == "f20"
    history.add("new")
    assert History(path).entries == [f"f{number}" for number in range(21, MAX_ENTRIES + 20)] + ["new"]


def test_a_link_stays_a_link(tmp_path):
    real = tmp_path / "real"
    real.write_text("dns\n")
    link = tmp_path / "history"
    link.symlink_to(real)
    History(link).add("kafka")
    assert link.is_symlink()
    assert real.read_text() == "dns\nkafka\n"


def test_what_another_process_added_is_kept(tmp_path):
    path = tmp_path / "history"
    one, other = History(path), History(path)
    one.add("a")
    other.add("b")
    one.add("c")
    assert one.entries == ["a", "b", "c"]


def test_many_writers_lose_nothing(tmp_path):
    path = tmp_path / "history"
    program = (
        "import sys; from pathlib import Path; from observer.filters.saved import History\n"
        "history = History(Path(sys.argv[1]))\n"
        "for number in range(20): history.add(f'{sys.argv[2]}-{number}')"
    )
    at_once(program, path)
    assert sorted(History(path).entries) == sorted(f"{name}-{number}" for name in "abc" for number in range(20))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"dns\n\xff\n", "is not UTF-8"),
        (b"dns\n\x1b[31m\n", "holds control characters"),
        (b"\0" * 100, "holds control characters"),
        (b"a" * ((4 << 20) + 1), "is longer than 4 MiB"),
    ],
)
def test_a_broken_history_is_told_and_left_as_it_is(tmp_path, raw, why):
    path = tmp_path / "history"
    path.write_bytes(raw)
    history = History(path)
    assert history.warning == f"filter history {path} {why}; new filters are not kept"
    history.add("dns")
    assert history.entries == ["dns"]
    assert path.read_bytes() == raw


def test_a_history_that_breaks_later_is_left_as_it_is(tmp_path):
    path = tmp_path / "history"
    history = History(path)
    history.add("dns")
    path.write_bytes(b"\xff")
    history.add("kafka")
    assert history.entries == ["dns", "kafka"]
    assert "is not UTF-8" in history.warning
    assert path.read_bytes() == b"\xff"


def test_a_directory_in_the_way_is_told(tmp_path):
    path = tmp_path / "history"
    path.mkdir()
    assert "cannot be read: Is a directory" in History(path).warning
    file = tmp_path / "file"
    file.write_text("")
    history = History(file / "history")
    history.add("dns")
    assert "Not a directory" in history.warning
    assert history.entries == ["dns"]


def test_nothing_is_left_behind_when_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "history"
    history = History(path)

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    history.add("dns")
    assert "cannot be written: No space left on device" in history.warning
    assert [each.name for each in tmp_path.iterdir()] == ["history.lock"]
