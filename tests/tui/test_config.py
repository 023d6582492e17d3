"""Settings and state on disk: one line for what is wrong, and no state worth stopping for."""

import pytest

from observer.errors import ConfigError
from observer.filters.named import config_path
from tui.config import Config, Session, load_config, state_path


def written(tmp_path, text):
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_a_file_that_is_not_there_is_empty(tmp_path):
    assert load_config(tmp_path / "none.toml") == Config()


def test_every_setting(tmp_path):
    path = written(
        tmp_path,
        """
        columns = ["verdict", "summary"]
        theme = "colour-blind"
        ring = 1000
        slow = true
        ascii = true
        time = "local"
        [keys]
        "flows.pause" = "s"
        app.help = "H"
        [filters]
        mine = "dns"
        """,
    )
    assert load_config(path) == Config(
        columns=("verdict", "summary"),
        theme="colour-blind",
        ring=1000,
        slow=True,
        ascii=True,
        time="local",
        keys={"flows.pause": "s", "app.help": "H"},
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour = 1", "colour: no such setting; there are ascii, columns"),
        ('columns = ["nose"]', "columns: there is no column 'nose'"),
        ("columns = []", "columns: a list like"),
        ('theme = "pink"', "theme: 'pink' is none of ansi-dark"),
        ("ring = 0", "ring: a number of flows from 1 to 1000000, not 0"),
        ("ring = 1000001", "ring: a number"),
        ("ring = true", "ring: a number"),
        ("slow = 1", "slow: true or false, not 1"),
        ('time = "mars"', "time: 'mars' is none of utc, local, delta"),
        ('[keys]\nx = "y"', "keys: there is no key called 'x'"),
        ("[keys]\nx = 1", "keys: a table of ids"),
        ("keys = 1", "keys: a table of ids"),
        ("= 1", "Invalid statement"),
        ("a = '\x01'", "invalid character"),
        ("ring = " + "1" * 5_000, "Exceeds the limit"),
        ("ring = " + "[" * 100_000, "recursion"),
    ],
)
def test_what_is_wrong_is_one_line_with_file_and_setting(tmp_path, text, words):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as failed:
        load_config(path)
    assert str(failed.value).startswith(f"{path}: ")
    assert words in str(failed.value)
    assert "\n" not in str(failed.value)


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path)


def test_state_comes_back(tmp_path):
    path = tmp_path / "deep" / "tui.json"
    session = Session(columns=["time"], theme="ansi-light", group=["client"], sort="bytes", time="delta")
    assert session.save(path)
    assert Session.load(path) == session


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '"x"', "null", "\x00", '{"columns": 3, "sort": [1]}', '{"columns": [1, {}]}', "[" * 100_000]
)
def test_a_damaged_state_is_an_empty_one(tmp_path, text):
    path = tmp_path / "tui.json"
    path.write_text(text)
    assert Session.load(path) == Session()


def test_a_state_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    assert not Session().save(tmp_path / "file" / "tui.json")


def test_the_files_are_in_xdg_directories(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_path() == tmp_path / "c" / "flowscope" / "config.toml"
    assert state_path() == tmp_path / ".local/state" / "flowscope" / "tui.json"
