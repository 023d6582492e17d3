"""YAML files that users write, read so that every complaint names file, line and field.

A file enters, `Value` trees leave: plain data that know their place. It reads PyYAML's events and safe tags only; size,
nesting, aliases (that multiply) and double keys are bounded or refused. It knows nothing of what the fields mean.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from observer.errors import FlowscopeError

SIZE_LIMIT: Final = 16 << 20
"""Bytes of a file."""
VALUE_LIMIT: Final = 500_000
"""Values of a file, aliases counted each time they are used."""
DEPTH_LIMIT: Final = 64
"""Nesting of values; policies need about twelve."""

ErrorClass: TypeAlias = type[FlowscopeError]
Scalar: TypeAlias = str | int | float | bool | None

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG: Final = "tag:yaml.org,2002:"
_NAMES: Final = {"str": "a string", "int": "a number", "float": "a number", "bool": "a truth value", "null": "nothing"}


class Value:
    """A value of the file: a mapping, a list or a scalar, with its place."""

    __slots__ = ("data", "error_class", "file", "line", "path", "text", "type")

    def __init__(
        self,
        data: dict[str, Value] | list[Value] | Scalar,
        type_: str,
        text: str,
        file: str,
        line: int,
        path: str,
        error_class: ErrorClass,
    ) -> None:
        self.data = data
        self.type = type_  # "map", "list", "str", "int", "float", "bool", "null" or another tag
        self.text = text  # a scalar as written, without quotes
        self.file = file
        self.line = line
        self.path = path
        self.error_class = error_class

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}"

    def error(self, what: str) -> FlowscopeError:
        """The error to raise about this value; `what` says what is wrong and what to do."""
        field = f"{self.path}: " if self.path else ""
        return self.error_class(_one_line(f"{self.place}: {field}{what}"))

    @property
    def shown(self) -> str:
        """The value as an error shows it, short and on one line."""
        if self.type in ("map", "list"):
            return f"a {'mapping' if self.type == 'map' else 'list'}"
        text = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return repr(text) if self.type == "str" else f"{_NAMES.get(self.type, 'a ' + self.type)} ({text})"

    @property
    def empty(self) -> bool:
        """Whether it says nothing: null, an empty list or an empty string."""
        return self.data is None or self.data == [] or self.data == ""

    def fields(self, known: Collection[str], later: Collection[str] = ()) -> dict[str, Value]:
        """The fields that hold something (null is as good as absent).

        A field of `later` is refused by its name if it holds anything, any other one that is not known by its path.
        """
        fields = self.mapping()
        for name, value in fields.items():
            if name in known:
                continue
            if name in later:
                if value.data is not None:
                    raise value.later()
                continue
            close = difflib.get_close_matches(name, [*known, *later], 1)
            advice = f"did you mean {close[0]}?" if close else "known here: " + ", ".join(sorted({*known, *later}))
            raise value.error(f"unknown field; {advice}")
        return {name: value for name, value in fields.items() if value.data is not None}

    def later(self) -> FlowscopeError:
        """The error to raise where a field is known but not read yet."""
        name = self.path.rpartition(".")[2]
        return self.error(f"{name} is not supported yet; take it out, or leave this document out")

    def mapping(self) -> dict[str, Value]:
        """The entries of a mapping, nulls included."""
        if not isinstance(self.data, dict):
            raise self.error(f"must be a mapping, not {self.shown}")
        return self.data

    def items(self) -> list[Value]:
        """The items of a list."""
        if not isinstance(self.data, list):
            raise self.error(f"must be a list, not {self.shown}; begin each item with a dash")
        return self.data

    def string(self) -> str:
        """The text of a string."""
        if not isinstance(self.data, str):
            advice = f'; quote it: "{self.text}"' if self.type in ("int", "float", "bool") else ""
            raise self.error(f"must be a string, not {self.shown}{advice}")
        return self.data

    def name(self) -> str:
        """The text of a string that may neither be empty nor hold control characters."""
        text = self.string()
        if not text or not text.isprintable():
            raise self.error(f"must be a name, not {self.shown}")
        return text

    def plain(self) -> str:
        """A scalar as written, quoted or not; null is empty."""
        if self.type in ("map", "list"):
            raise self.error(f"must be a single value, not {self.shown}")
        return "" if self.data is None else self.text

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        if not isinstance(self.data, int) or isinstance(self.data, bool):
            raise self.error(f"must be a number from {low} to {high}, not {self.shown}")
        if not low <= self.data <= high:
            raise self.error(f"must be a number from {low} to {high}, not {self.text}")
        return self.data

    def truth(self) -> bool:
        """true or false."""
        if not isinstance(self.data, bool):
            raise self.error(f"must be true or false, not {self.shown}")
        return self.data


def read_documents(path: str | Path, error_class: ErrorClass) -> Iterator[Value]:
    """Yield the documents of a YAML file, empty ones left out; raise `error_class` with file, line and remedy."""
    file = str(path)
    try:
        with open(path, "rb") as stream:
            raw = stream.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise error_class(f"{file}: cannot be read: {error.strerror}; check the path") from None
    if len(raw) > SIZE_LIMIT:
        raise error_class(f"{file}: larger than {SIZE_LIMIT >> 20} MB; split it into several files")
    try:
        builder = _Builder(_LOADER(raw), file, error_class)
        try:
            yield from builder.documents()
        finally:
            builder.loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = " ".join(str(error.problem or error.context or "not YAML").split())
        raise error_class(f"{file}{line}: not valid YAML: {problem}; correct the line or its indentation") from None
    except (yaml.YAMLError, UnicodeError) as error:
        problem = " ".join(str(error).split())[:200]
        position = getattr(error, "position", None)  # of a byte that is no text: the reader knows no lines
        line = ":" + str(raw.count(b"\n", 0, position) + 1) if isinstance(position, int) else ""
        raise error_class(f"{file}{line}: not valid YAML: {problem}; save it as UTF-8 text") from None


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class _Builder:
    """Makes values of parser events, within the bounds of one file.

    Not of composed nodes: the C composer recurses without a bound, and deep nesting ends the process.
    """

    def __init__(self, loader: yaml.SafeLoader, file: str, error_class: ErrorClass) -> None:
        self.loader = loader
        self.file = file
        self.error_class = error_class
        self.count = 0
        self.anchors: dict[str, tuple[Value, int] | None] = {}  # value and its size; None while it is being built
        self.scalars = yaml.constructor.SafeConstructor()

    def documents(self) -> Iterator[Value]:
        while (event := self.next()) is not None:
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors = {}
                value = self.build(self.next(), "", 0)
                if value.data is not None:
                    yield value

    def next(self) -> Any:
        return self.loader.get_event()  # type: ignore[no-untyped-call]

    def fail(self, line: int, path: str, what: str) -> FlowscopeError:
        return self.error_class(_one_line(f"{self.file}:{line}: {path}{': ' if path else ''}{what}"))

    def build(self, event: Any, path: str, depth: int) -> Value:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            return self.alias(str(event.anchor), path, line)
        start = self.count
        self.spend(1, line)
        if depth > DEPTH_LIMIT:
            raise self.fail(line, "", "nested too deeply; flatten it")
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if isinstance(event, yaml.MappingStartEvent):
            value = Value(self.mapping(path, depth), "map", "", self.file, line, path, self.error_class)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = Value(self.sequence(path, depth), "list", "", self.file, line, path, self.error_class)
        else:
            value = self.scalar(event, path, line)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, self.count - start)
        return value

    def spend(self, values: int, line: int) -> None:
        self.count += values
        if self.count > VALUE_LIMIT:
            raise self.fail(line, "", "too many values, aliases unrolled; write fewer aliases or smaller files")

    def alias(self, anchor: str, path: str, line: int) -> Value:
        known = self.anchors.get(anchor)
        if known is None:
            why = "holds itself" if anchor in self.anchors else "names no anchor above it"
            raise self.fail(line, path, f"alias *{anchor} {why}; write the value out")
        value, size = known
        self.spend(size, line)
        return Value(value.data, value.type, value.text, self.file, line, path, self.error_class)

    def sequence(self, path: str, depth: int) -> list[Value]:
        items: list[Value] = []
        while not isinstance(event := self.next(), yaml.SequenceEndEvent):
            items.append(self.build(event, f"{path}[{len(items)}]", depth + 1))
        return items

    def mapping(self, path: str, depth: int) -> dict[str, Value]:
        fields: dict[str, Value] = {}
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                raise self.fail(line, path, "a key must be a plain word")
            key = str(event.value)
            if key == "<<" and event.implicit[0]:
                raise self.fail(line, path, "merge keys (<<) are not read; write the fields out")
            if key in fields:
                raise self.fail(line, path, f"key {key!r} stands twice; keep one of them")
            value = self.build(self.next(), f"{path}.{key}" if path else key, depth + 1)
            value.line = line  # where the field's name stands
            fields[key] = value
        return fields

    def scalar(self, event: Any, path: str, line: int) -> Value:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self.loader.resolve(yaml.ScalarNode, event.value, event.implicit)  # type: ignore[no-untyped-call]
        kind = tag.removeprefix(_TAG)
        data: Scalar = None
        if kind in ("str", "timestamp", "value", "merge"):
            kind, data = "str", str(event.value)
        elif kind in ("int", "float", "bool", "null"):
            try:
                data = self.scalars.construct_object(yaml.ScalarNode(tag, event.value))
            except (ValueError, KeyError, OverflowError):
                raise self.fail(line, path, f"not a readable {kind}; quote it to make it a string") from None
        else:
            raise self.fail(line, path, f"tag {tag!r} is not read; take it out")
        return Value(data, kind, str(event.value), self.file, line, path, self.error_class)
