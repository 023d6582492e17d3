# ruff: noqa: E501 - a refusal is one line of the table

import pytest

from observer.errors import ConfigError
from observer.yamlfile import DEPTH_LIMIT, SIZE_LIMIT, VALUE_LIMIT, read_documents

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in zip("abcdef", "bcdefg", strict=True)
)

REFUSED = [
    (b"a: 1\nb:\n  c: 2\n  c: 3\n", ":4: b: key 'c' stands twice; keep one of them"),
    (b"a: [1\n", ":2: not valid YAML: "),
    (b"a: b: c\n", ":1: not valid YAML: "),
    (b"\t- a\n", ":1: not valid YAML: "),
    (b"a: \xff\n", ":1: not valid YAML: "),
    (b"b: 1\n\na: \x01\n", ":3: not valid YAML: "),
    (b"%YAML 9.9\n---\na: 1\n", ":1: not valid YAML: "),
    (b"[" * 100_000, ":1: nested too deeply; flatten it"),
    (b"{a: " * 100_000, ":1: nested too deeply; flatten it"),
    (b"- " * 3_000, ":1: nested too deeply; flatten it"),
    (b"a: &a [*a]\n", ":1: a[0]: alias *a holds itself; write the value out"),
    (b"a: *b\n", ":1: a: alias *b names no anchor above it; write the value out"),
    (LAUGHS.encode(), ":6: too many values, aliases unrolled"),
    (b"a: {<<: {b: 1}}\n", ":1: a: merge keys (<<) are not read; write the fields out"),
    (b"? [a]\n: b\n", ":1: a key must be a plain word"),
    (b"a: !!python/object/apply:os.system ls\n", ":1: a: tag 'tag:yaml.org,2002:python/object/apply:os.system' is not read"),
    (b"a: !thing b\n", ":1: a: tag '!thing' is not read; take it out"),
    (b"a: !!int ten\n", ":1: a: not a readable int; quote it to make it a string"),
    (b"a: " + b"9" * 5_000, ":1: a: not a readable int"),
    (b'"a\\nb": 1\n"a\\nb": 2\n', ":2: key 'a\\nb' stands twice"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "message"), REFUSED)
def test_what_is_refused_is_told_on_one_line(tmp_path, raw, message):
    path = tmp_path / "f.yaml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        list(read_documents(path, ConfigError))
    assert str(caught.value).startswith(f"{path}{message}")
    assert str(caught.value).isprintable()


def test_bounds_reached_but_not_passed(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text("[" * (DEPTH_LIMIT + 1) + "]" * (DEPTH_LIMIT + 1))
    assert [value.type for value in read_documents(path, ConfigError)] == ["list"]
    path.write_text("a: &a [" + "x," * 999 + "]\nb: [" + "*a," * (VALUE_LIMIT // 1000 - 2) + "]\n")
    (document,) = read_documents(path, ConfigError)
    assert len(document.mapping()["b"].items()[-1].items()) == 999


def test_a_file_too_large(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_bytes(b"#" * (SIZE_LIMIT + 1))
    with pytest.raises(ConfigError, match="larger than 16 MB; split it"):
        list(read_documents(path, ConfigError))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="No such file or directory; check the path"):
        list(read_documents(tmp_path / "none", ConfigError))
    with pytest.raises(ConfigError, match="Is a directory; check the path"):
        list(read_documents(tmp_path, ConfigError))


def test_places_types_and_text(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text("---\n---\na: 1.0\nb:\n  - &x {c: yes}\n  - *x\nd: !!str 5\ne: 2026-01-01\nf: '1'\n--- text\n")
    first, second = read_documents(path, ConfigError)
    fields = first.mapping()
    assert {name: (value.type, value.text, value.line) for name, value in fields.items()} == {
        "a": ("float", "1.0", 3),
        "b": ("list", "", 4),
        "d": ("str", "5", 7),
        "e": ("str", "2026-01-01", 8),
        "f": ("str", "1", 9),
    }
    assert [item.path for item in fields["b"].items()] == ["b[0]", "b[1]"]
    assert [item.mapping()["c"].truth() for item in fields["b"].items()] == [True, True]
    assert second.string() == "text"
    assert second.place == f"{path}:10"


ACCESS = [
    ("mapping", (), "a: must be a mapping, not a number (5)"),
    ("items", (), "a: must be a list, not a number (5); begin each item with a dash"),
    ("string", (), 'a: must be a string, not a number (5); quote it: "5"'),
    ("integer", (6, 9), "a: must be a number from 6 to 9, not 5"),
    ("truth", (), "a: must be true or false, not a number (5)"),
]


@pytest.mark.parametrize(("method", "arguments", "message"), ACCESS)
def test_wrong_types(tmp_path, method, arguments, message):
    path = tmp_path / "f.yaml"
    path.write_text("a: 5\n")
    (document,) = read_documents(path, ConfigError)
    with pytest.raises(ConfigError) as caught:
        getattr(document.mapping()["a"], method)(*arguments)
    assert str(caught.value) == f"{path}:1: {message}"


def test_fields(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text("one: 1\ntwo: null\n")
    (document,) = read_documents(path, ConfigError)
    assert list(document.fields(("one", "two"))) == ["one"]
    assert list(document.fields(("one",), ("two",))) == ["one"]
    with pytest.raises(ConfigError, match=r":1: one: one is not supported yet; take it out"):
        document.fields(("two",), ("one",))
    with pytest.raises(ConfigError, match=r":2: two: unknown field; known here: one, zebra"):
        document.fields(("one", "zebra"))
