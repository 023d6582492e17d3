"""Filters with a name: what ships, what config.toml adds, and one line of it changed with the rest left alone."""

import os
import tomllib

import pytest

from observer.errors import ConfigError
from observer.filters.expression import Expression
from observer.filters.named import MAX_NAME, SHIPPED, NamedFilters, check_name
from observer.filters.saved import MAX_FILE
from observer.filters.tree import EVERYTHING
from tests.filters.writers import at_once


@pytest.mark.parametrize("text", SHIPPED.values(), ids=SHIPPED)
def test_the_filters_that_ship_are_filters(text):
    assert Expression.parse(text).tree != EVERYTHING


def test_named_filters_of_the_user_stand_beside_those_that_ship(tmp_path):
    path = tmp_path / "config.toml"
    assert (NamedFilters(path).filters, NamedFilters(path).warning) == (SHIPPED, "")
    path.write_text('theme = "x"\n[filters]\nslow = "latency>1s"\nmine = "dns or kafka"\n')
    named = NamedFilters(path)
    assert named.warning == ""
    assert named.filters == SHIPPED | {"slow": "latency>1s", "mine": "dns or kafka"}


@pytest.mark.parametrize(
    ("raw", "why", "kept"),
    [
        (b"[filters", "Expected ']' at the end of a table declaration (at end of document)", {}),
        (b'[filters]\na = "\xff"', "not UTF-8", {}),
        (b"filters = 7", "[filters] is no table", {}),
        (b"filters = [" + b"[" * 100_000, "", {}),
        (b'[filters]\na = 7\nb = "dns"', "filter `a`: is no text in quotes; it is left out", {"b": "dns"}),
        (b'[filters]\na = "nope=1"\nb = "dns"', "filter `a` at character 1: unknown field `nope`", {"b": "dns"}),
        (b'[filters]\na = "("\nb = "("', "it is left out (and 1 more)", {}),
        (b"ring = " + b"1" * 5_000, "Exceeds the limit", {}),
        (b"#" * ((4 << 20) + 1), "is longer than 4 MiB", {}),
    ],
)
def test_a_broken_config_is_one_line(tmp_path, raw, why, kept):
    path = tmp_path / "config.toml"
    path.write_bytes(raw)
    named = NamedFilters(path)
    assert why in named.warning
    assert named.warning.startswith(str(path))
    assert "\n" not in named.warning
    assert named.filters == SHIPPED | kept
    assert path.read_bytes() == raw


def test_a_config_that_may_not_be_read_is_told(tmp_path):
    path = tmp_path / "config.toml"
    path.mkdir()
    assert NamedFilters(path).warning == f"{path} cannot be read: Is a directory; its filters are left out"


# -- saving


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[filters]\nmine = "dns"\n'),
        ('theme = "x"', 'theme = "x"\n\n[filters]\nmine = "dns"\n'),
        (
            '# about me\n[filters]  # mine\na = "kafka"  # why\n\n[keys]\n"app.help" = "H"\n',
            '# about me\n[filters]  # mine\na = "kafka"  # why\nmine = "dns"\n\n[keys]\n"app.help" = "H"\n',
        ),
        ('[filters]\nmine = "kafka"\nb = "dns"\n', '[filters]\nmine = "dns"\nb = "dns"\n'),
        ("[filters]\n\"mine\" = 'kafka'\n", '[filters]\nmine = "dns"\n'),
        ('[filters]\nmine = "a#\\"b" # why\n', '[filters]\nmine = "dns" # why\n'),
        ("[filters]\n  mine='kafka' # why\nb = 1", '[filters]\nmine = "dns" # why\nb = 1\n'),
        (
            '[filters]\na = "kafka"\n\n# keys\n# of mine\n[keys]\n',
            '[filters]\na = "kafka"\nmine = "dns"\n\n# keys\n# of mine\n[keys]\n',
        ),
        ("[filters]\nmine = 7  # why\n", '[filters]\nmine = "dns"  # why\n'),
        ("[filters]\n# mine\n", '[filters]\n# mine\nmine = "dns"\n'),
        ('[filters]\nmines = "kafka"\nother = "mine = 1"\n', None),
        ('[filters]\r\na = "kafka"\r\n', '[filters]\r\na = "kafka"\r\nmine = "dns"\n'),
        ("[filters]\nbroken = 7\n", '[filters]\nbroken = 7\nmine = "dns"\n'),
    ],
)
def test_a_name_is_one_line_of_the_file(tmp_path, before, after):
    path = tmp_path / "config.toml"
    path.write_bytes(before.encode())
    named = NamedFilters(path)
    named.save("mine", "dns")
    assert path.read_bytes().decode() == (before + 'mine = "dns"\n' if after is None else after)
    assert NamedFilters(path).own == named.own
    assert named.own["mine"] == "dns"
    named.forget("mine")
    assert "mine" not in tomllib.loads(path.read_text()).get("filters", {})
    assert "mine" not in named.filters


@pytest.mark.parametrize(
    "before",
    [
        'filters = {mine = "kafka"}\n',
        'filters.mine = "kafka"\n',
        '[filters]\nmine = """\nkafka"""\n',
        '["filters"]\nmine = "kafka"\n',
        'a = """\n[filters]\n"""\n',
    ],
)
def test_a_file_written_in_another_way_is_left_as_it_is(tmp_path, before):
    path = tmp_path / "config.toml"
    path.write_text(before)
    named = NamedFilters(path)
    with pytest.raises(ConfigError, match=r"under \[filters\] there, write mine = .dns. by hand"):
        named.save("mine", "dns")
    assert path.read_text() == before
    if named.own:
        with pytest.raises(ConfigError, match="remove mine by hand"):
            named.forget("mine")
    assert path.read_text() == before


@pytest.mark.parametrize("text", ['pod="a b" and http.path~"\\\\d"', "/ü\\/x/", 'dns\nand "\\x1b"'])
def test_every_text_comes_back(tmp_path, text):
    NamedFilters(tmp_path / "config.toml").save("mine", text)
    assert str(Expression.parse(NamedFilters(tmp_path / "config.toml").own["mine"])) == str(Expression.parse(text))


@pytest.mark.parametrize("name", ["", "a b", "a.b", 'a"', "ü", "a" * (MAX_NAME + 1), "a\n"])
def test_a_name_that_is_none(tmp_path, name):
    with pytest.raises(ConfigError, match="a name is of letters"):
        NamedFilters(tmp_path / "config.toml").save(name, "dns")
    assert list(tmp_path.iterdir()) == []
    check_name("a" * MAX_NAME)


def test_one_that_ships_is_replaced_and_comes_back(tmp_path):
    named = NamedFilters(tmp_path / "config.toml")
    with pytest.raises(ConfigError, match="`slow` ships with flowscope"):
        named.forget("slow")
    named.save("slow", "latency>1s")
    assert named.filters["slow"] == "latency>1s"
    assert named.name_of("latency>1s") == "slow"
    named.forget("slow")
    assert named.filters == SHIPPED
    assert named.name_of("latency>1s") == ""


def test_without_a_file_names_last_as_long_as_it_runs():
    named = NamedFilters()
    named.save("mine", "dns")
    assert named.filters == SHIPPED | {"mine": "dns"}
    named.forget("mine")
    assert named.filters == SHIPPED


def test_what_another_process_wrote_is_kept(tmp_path):
    path = tmp_path / "deep" / "config.toml"
    one, other = NamedFilters(path), NamedFilters(path)
    one.save("a", "dns")
    other.save("b", "kafka")
    assert other.own == {"a": "dns", "b": "kafka"}
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert [each.name for each in path.parent.iterdir()] == ["config.toml"]


def test_many_writers_lose_no_name(tmp_path):
    path = tmp_path / "config.toml"
    program = (
        "import sys; from pathlib import Path; from observer.filters.named import NamedFilters\n"
        "named = NamedFilters(Path(sys.argv[1]))\n"
        "for number in range(10): named.save(f'{sys.argv[2]}-{number}', 'dns')"
    )
    at_once(program, path)
    assert sorted(NamedFilters(path).own) == sorted(f"{name}-{number}" for name in "abc" for number in range(10))


def test_mode_and_link_of_the_file_stay(tmp_path):
    real, link = tmp_path / "real.toml", tmp_path / "config.toml"
    real.write_text("")
    real.chmod(0o644)
    link.symlink_to(real)
    NamedFilters(link).save("mine", "dns")
    assert link.is_symlink()
    assert oct(real.stat().st_mode & 0o777) == "0o644"
    assert NamedFilters(real).own == {"mine": "dns"}


def test_a_file_that_is_broken_or_full_is_told_and_left_as_it_is(tmp_path):
    path = tmp_path / "config.toml"
    named = NamedFilters(path)
    for raw, why in (
        (b"[filters", "Expected ']'"),
        (b"\xff", "not UTF-8"),
        (b"filters = 7", "[filters] is no table"),
        (b"#" * MAX_FILE, "by hand"),
        (b"#" * (MAX_FILE + 1), "is longer than 4 MiB"),
    ):
        path.write_bytes(raw)
        with pytest.raises(ConfigError) as told:
            named.save("mine", "dns")
        assert str(told.value).startswith(str(path))
        assert why in str(told.value)
        assert path.read_bytes() == raw


def test_a_file_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    named = NamedFilters(tmp_path / "config.toml")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        named.save("mine", "dns")
    assert list(tmp_path.iterdir()) == []
    assert named.filters == SHIPPED
