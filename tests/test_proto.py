"""The wire: our descriptors against Hubble's table row by row, and the committed modules against the .proto files."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor

from observer.api import batch_pb2, flow_pb2, observer_pb2, peer_pb2, relay_pb2

HERE = Path(__file__).parent
PROTO = HERE.parent / "proto"
TABLE = HERE / "hubble-wire.tsv"
FILES: dict[str, FileDescriptor] = {
    "flow": flow_pb2.DESCRIPTOR,
    "observer": observer_pb2.DESCRIPTOR,
    "relay": relay_pb2.DESCRIPTOR,
    "peer": peer_pb2.DESCRIPTOR,
    "batch": batch_pb2.DESCRIPTOR,
}
HUBBLES = ("flow", "observer", "relay", "peer")
TYPE_NAMES = {
    getattr(FieldDescriptor, f"TYPE_{name.upper()}"): name
    for name in ("double", "int32", "int64", "uint32", "uint64", "bool", "string", "bytes")
}

# kind, parent, name, number, type, label, oneof, note
Row = tuple[str, str, str, str, str, str, str, str]


def messages(scope: FileDescriptor | Descriptor) -> Iterator[Descriptor]:
    found = scope.message_types_by_name if isinstance(scope, FileDescriptor) else scope.nested_types_by_name
    for message in found.values():
        yield message
        yield from messages(message)


def enum_rows(enum: EnumDescriptor) -> Iterator[Row]:
    for value in enum.values:
        note = "deprecated" if value.GetOptions().deprecated else ""
        yield "enum", enum.full_name, value.name, str(value.number), "", "", "", note


def rows_of(file: FileDescriptor) -> Iterator[Row]:
    """What a descriptor says, in the table's form."""
    for enum in file.enum_types_by_name.values():
        yield from enum_rows(enum)
    for message in messages(file):
        for enum in message.enum_types:
            yield from enum_rows(enum)
        for field in message.fields:
            kind = field.message_type or field.enum_type
            yield (
                "field",
                message.full_name,
                field.name,
                str(field.number),
                kind.full_name if kind is not None else TYPE_NAMES[field.type],
                "repeated" if field.is_repeated else "",
                field.containing_oneof.name if field.containing_oneof is not None else "",
                "deprecated" if field.GetOptions().deprecated else "",
            )
    for service in file.services_by_name.values():
        for method in service.methods:
            asks = ("stream " if method.client_streaming else "") + method.input_type.full_name
            answers = ("stream " if method.server_streaming else "") + method.output_type.full_name
            yield "method", service.full_name, method.name, "", f"{asks} -> {answers}", "", "", ""


def table() -> list[Row]:
    with TABLE.open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    out: list[Row] = []
    for row in rows:
        kind, parent, name, number, type_name, label, oneof, note = (*row, *[""] * (8 - len(row)))
        out.append((kind, parent, name, number, type_name, label, oneof, note))
    return out


ROWS = table()
OURS = {row for package in HUBBLES for row in rows_of(FILES[package])}


def test_the_table_is_whole():
    kinds = [row[0] for row in ROWS]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"file": 4, "enum": 239, "field": 315, "method": 7}


@pytest.mark.parametrize("row", [row for row in ROWS if row[0] != "file"], ids=lambda row: f"{row[1]}.{row[2]}")
def test_hubbles_wire_is_ours(row):
    assert row in OURS


def test_our_wire_has_nothing_more():
    assert sorted(OURS - set(ROWS)) == []


@pytest.mark.parametrize("row", [row for row in ROWS if row[0] == "file"], ids=lambda row: row[1])
def test_packages_are_hubbles(row):
    assert FILES[row[2]].package == row[2]


def test_fields_stand_in_hubbles_order():
    """JSON prints them so."""
    for package in HUBBLES:
        for message in messages(FILES[package]):
            theirs = [row[2] for row in ROWS if row[0] == "field" and row[1] == message.full_name]
            assert [field.name for field in message.fields] == theirs


# The .proto files, read without protoc: the subset of the language that they are written in.

TOKEN = re.compile(r'"[^"]*"|[\w.]+|[{}=;\[\](),]')


class ProtoFile:
    """What a .proto file says, in the table's form."""

    def __init__(self, path: Path) -> None:
        text = re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(), flags=re.S)
        self.tokens = TOKEN.findall(text)
        assert "".join(self.tokens) == re.sub(r"\s", "", text), f"{path}: something that this reader does not know"
        self.at = 0
        self.package = ""
        self.rows: list[Row] = []
        self.types: set[str] = set()
        while self.at < len(self.tokens):
            self.declaration("")
        self.rows = [self.resolved(row) for row in self.rows]

    def next(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def statement(self) -> list[str]:
        end = self.tokens.index(";", self.at)
        out, self.at = self.tokens[self.at : end], end + 1
        return out

    def declaration(self, scope: str, oneof: str = "") -> None:
        word = self.next()
        if word in ("message", "enum", "service", "oneof"):
            name = self.next()
            assert self.next() == "{"
            inside = scope if word == "oneof" else f"{scope or self.package}.{name}"
            if word in ("message", "enum"):
                self.types.add(inside)
            while self.tokens[self.at] != "}":
                if word == "enum":
                    self.enum_value(inside)
                else:
                    self.declaration(inside, name if word == "oneof" else "")
            self.at += 1
        elif word == "package":
            (self.package,) = self.statement()
        elif word == "rpc":
            self.method(scope)
        elif word in ("syntax", "import", "reserved", "option"):
            self.statement()
        else:
            self.field(scope, oneof, word)

    def enum_value(self, enum: str) -> None:
        name, _, number, *options = self.statement()
        self.rows.append(("enum", enum, name, number, "", "", "", self.note(options)))

    def field(self, message: str, oneof: str, word: str) -> None:
        label = ""
        if word == "repeated":
            label, word = word, self.next()
        name, _, number, *options = self.statement()
        self.rows.append(("field", message, name, number, word, label, oneof, self.note(options)))

    def method(self, service: str) -> None:
        words = [word for word in self.statement() if word not in "()"]
        name, at = words[0], words.index("returns")
        asks, answers = " ".join(words[1:at]), " ".join(words[at + 1 :])
        self.rows.append(("method", service, name, "", f"{asks} -> {answers}", "", "", ""))

    @staticmethod
    def note(options: list[str]) -> str:
        assert options in ([], ["[", "deprecated", "=", "true", "]"])
        return "deprecated" if options else ""

    def resolved(self, row: Row) -> Row:
        """Names of types in full, as the language finds them: from the innermost scope outwards."""

        def full(word: str) -> str:
            if word in TYPE_NAMES.values() or word in ("stream", "->"):
                return word
            scope = row[1]
            while scope:
                if f"{scope}.{word}" in self.types:
                    return f"{scope}.{word}"
                scope = scope.rpartition(".")[0]
            return word

        return (*row[:4], " ".join(full(word) for word in row[4].split()), *row[5:])  # type: ignore[return-value]


@pytest.mark.parametrize("package", FILES)
def test_committed_modules_are_the_proto_files(package):
    file = FILES[package]
    proto = ProtoFile(PROTO / file.name)
    assert proto.package == file.package == package
    assert sorted(proto.rows) == sorted(rows_of(file))
    assert proto.types >= {message.full_name for message in messages(file)}


@pytest.mark.parametrize("package", FILES)
def test_reserved_numbers_stay_unused(package):
    """`reserved` is no row of the table; the descriptor keeps it."""
    text = (PROTO / FILES[package].name).read_text()
    said = [int(number) for line in re.findall(r"reserved ([\d, ]+);", text) for number in line.split(",")]
    ranges = [
        number
        for message in messages(FILES[package])
        for each in message_proto(message).reserved_range
        for number in range(each.start, each.end)
    ]
    assert sorted(ranges) == sorted(said)


def message_proto(message: Descriptor):
    from google.protobuf.descriptor_pb2 import DescriptorProto

    out = DescriptorProto()
    message.CopyToProto(out)
    return out
