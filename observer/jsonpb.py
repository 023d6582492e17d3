"""Protobuf messages to JSON as the stock `hubble` CLI prints them: Go's protojson with proto field names, one line.

Fields in the order of the .proto, 64-bit integers as strings, enums as names, defaults left out, well-known types in
their own forms (https://protobuf.dev/programming-guides/json/), <, > and & escaped as Go's encoding/json does. Every
message type is compiled once into a table of writers; google.protobuf.json_format costs three to five times as much.
What Go would refuse (a time out of range, an Any of an unknown type) must not stop a stream: see `_timestamp`, `_any`.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Callable
from decimal import Decimal
from functools import cache, lru_cache
from json.encoder import encode_basestring
from time import gmtime, strftime
from typing import Any, Final, TypeAlias

from google.protobuf import (
    descriptor_pool,
    message_factory,
    struct_pb2,  # noqa: F401  what Flow.extensions holds: an Any of an unknown type cannot be shown
)
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

Writer: TypeAlias = Callable[[Any, int], str]
"""A value and how many Any it is inside of, to JSON."""

MAX_ANY_DEPTH: Final = 8
"""How many Any may nest; each hides its content from protobuf's own bound of 100 messages."""

_KEPT: Final = frozenset(
    f"flow.{name}"
    for name in ("Endpoint", "IP", "Ethernet", "Policy", "Service", "CiliumEventType", "TCPFlags", "HTTPHeader")
)
"""Messages that come again and again with the same content: their text is kept by their bytes."""

_KEPT_SIZE: Final = 4096
_OUR_PACKAGES: Final = frozenset({"flow", "observer", "relay", "peer", "batch"})
_ESCAPED: Final = re.compile(
    # Go escapes the first five for HTML. The rest stays JSON of the same meaning and keeps control bytes and bidi
    # overrides that a network peer chose from the terminal.
    "[<>&\u2028\u2029\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def to_json(message: Message) -> str:
    """One line of JSON, without the newline."""
    line = _writer(message.DESCRIPTOR)(message, 0)
    if line.isascii():
        # The five replacements cost a tenth of the pattern where there is nothing to replace.
        return line.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("\x7f", "\\u007f")
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def _message(descriptor: Descriptor) -> Writer:
    """A writer of an ordinary message; ListFields gives the fields set, by number."""
    fields: dict[FieldDescriptor, tuple[int, str, Writer]] = {}
    places = [field.index for field in sorted(descriptor.fields, key=lambda field: field.number)]

    def fill() -> None:  # not at once: messages may hold themselves
        fields.update((field, (field.index, f'"{field.name}":', _value(field))) for field in descriptor.fields)

    def write(message: Message, depth: int) -> str:
        if not fields:
            fill()
        parts = []
        for field, value in message.ListFields():
            _, name, writer = fields[field]
            parts.append(name + writer(value, depth))
        return "{" + ",".join(parts) + "}"

    def write_sorted(message: Message, depth: int) -> str:
        if not fields:
            fill()
        parts = []
        for field, value in message.ListFields():
            place, name, writer = fields[field]
            parts.append((place, name + writer(value, depth)))
        parts.sort()
        return "{" + ",".join([text for _, text in parts]) + "}"

    return write if places == sorted(places) else write_sorted


def _kept(write: Writer) -> Writer:
    """A writer that keeps what it wrote, up to a bound."""
    texts: dict[bytes, str] = {}

    def look_up(message: Message, depth: int) -> str:
        raw = message.SerializePartialToString()
        text = texts.get(raw)
        if text is None:
            if len(texts) >= _KEPT_SIZE:
                texts.clear()
            text = texts[raw] = write(message, depth)
        return text

    return look_up


def _value(field: FieldDescriptor) -> Writer:
    """A writer of a field's value, a list of them where it is repeated."""
    if field.message_type is not None:
        one = _writer(field.message_type)
    elif field.enum_type is not None:
        one = _enum(field.enum_type)
    else:
        one = _SCALARS[field.type]
    if not field.is_repeated:
        return one
    return lambda values, depth: "[" + ",".join([one(value, depth) for value in values]) + "]"


@cache
def _enum(descriptor: EnumDescriptor) -> Writer:
    names = {value.number: f'"{value.name}"' for value in descriptor.values}
    return lambda number, _: names.get(number) or str(number)


def _float(number: float, digits: str) -> str:
    """A number as Go writes it: shortest digits, exponents only below 1e-6 and from 1e21."""
    if number != number:
        return '"NaN"'
    if number in (float("inf"), float("-inf")):
        return '"Infinity"' if number > 0 else '"-Infinity"'
    if number == 0 or 1e-6 <= abs(number) < 1e21:
        text = format(Decimal(digits), "f")
        return text.removesuffix(".0")
    return re.sub(r"\.0(?=e|$)", "", re.sub(r"e([+-])0", r"e\1", digits))


def _double(number: float, _: int) -> str:
    return _float(number, repr(number))


def _single(number: float, _: int) -> str:
    """A 32-bit float with the fewest digits that mean it."""
    raw = struct.pack("<f", number)
    digits = next(
        text for size in range(1, 10) if struct.pack("<f", float(text := f"{number:.{size}g}")) == raw or size == 9
    )
    return _float(number, digits)


def _quoted(number: int, _: int) -> str:
    return f'"{number}"'


def _string(text: str, _: int) -> str:
    return encode_basestring(text)


_SCALARS: Final[dict[int, Writer]] = {
    FieldDescriptor.TYPE_BOOL: lambda value, _: "true" if value else "false",
    FieldDescriptor.TYPE_STRING: _string,
    FieldDescriptor.TYPE_BYTES: lambda value, _: f'"{base64.b64encode(value).decode()}"',
    FieldDescriptor.TYPE_DOUBLE: _double,
    FieldDescriptor.TYPE_FLOAT: _single,
    **dict.fromkeys(
        (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_SINT32),
        lambda value, _: str(value),
    ),
    **dict.fromkeys(
        (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_SINT64),
        _quoted,
    ),
}


# Well-known types


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds)).zfill(19)


def _fraction(nanos: int) -> str:
    """None, 3, 6 or 9 digits: as many as it takes."""
    if not nanos:
        return ""
    digits = f"{nanos:09d}"
    return "." + digits.removesuffix("000").removesuffix("000")


def _timestamp(time: Any, _: int) -> str:
    """RFC 3339; null, which readers take as absent, for what is no time from year 1 to 9999."""
    if not (-62_135_596_800 <= time.seconds < 253_402_300_800 and 0 <= time.nanos < 10**9):
        return "null"
    return f'"{_second(time.seconds)}{_fraction(time.nanos)}Z"'


def _any(message: Any, depth: int) -> str:
    """The message inside, or its bytes where the type is not known, the bytes are broken or the nesting is too deep."""
    if not message.type_url:
        return "{}"
    head = f'{{"@type":{encode_basestring(message.type_url)}'
    inside = _unpack(message) if depth < MAX_ANY_DEPTH else None
    if inside is None:
        return f'{head},"value":"{base64.b64encode(message.value).decode()}"}}'
    text = _writer(inside.DESCRIPTOR)(inside, depth + 1)
    if inside.DESCRIPTOR.full_name in _WELL_KNOWN:
        return f'{head},"value":{text}}}'
    return head + ("," + text[1:] if len(text) > 2 else "}")


def _unpack(message: Any) -> Message | None:
    name = message.type_url.rpartition("/")[2]
    if name not in _WELL_KNOWN and name.partition(".")[0] not in _OUR_PACKAGES:
        return None
    try:
        kind = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))
        return kind.FromString(message.value)
    except (KeyError, DecodeError):
        return None


def _struct(message: Any, depth: int) -> str:
    """A JSON object with its keys sorted, as Go sorts the keys of maps."""
    fields = message.fields
    return (
        "{" + ",".join([f"{encode_basestring(key)}:{_json_value(fields[key], depth)}" for key in sorted(fields)]) + "}"
    )


def _json_list(message: Any, depth: int) -> str:
    return "[" + ",".join([_json_value(value, depth) for value in message.values]) + "]"


def _json_value(message: Any, depth: int) -> str:
    match message.WhichOneof("kind"):
        case "number_value":
            return _double(message.number_value, depth)
        case "string_value":
            return encode_basestring(message.string_value)
        case "bool_value":
            return "true" if message.bool_value else "false"
        case "struct_value":
            return _struct(message.struct_value, depth)
        case "list_value":
            return _json_list(message.list_value, depth)
        case _:
            return "null"


def _field_mask(message: Any, _: int) -> str:
    paths = ",".join(message.paths)
    return encode_basestring(re.sub("_([a-z])", lambda found: found[1].upper(), paths))


def _wrapper(kind: int) -> Writer:
    scalar = _SCALARS[kind]
    return lambda message, depth: scalar(message.value, depth)


_WELL_KNOWN: Final[dict[str, Writer]] = {
    "google.protobuf.Any": _any,
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Struct": _struct,
    "google.protobuf.Value": _json_value,
    "google.protobuf.ListValue": _json_list,
    "google.protobuf.FieldMask": _field_mask,
    "google.protobuf.BoolValue": _wrapper(FieldDescriptor.TYPE_BOOL),
    "google.protobuf.StringValue": _wrapper(FieldDescriptor.TYPE_STRING),
    "google.protobuf.BytesValue": _wrapper(FieldDescriptor.TYPE_BYTES),
    "google.protobuf.DoubleValue": _wrapper(FieldDescriptor.TYPE_DOUBLE),
    "google.protobuf.FloatValue": _wrapper(FieldDescriptor.TYPE_FLOAT),
    "google.protobuf.Int32Value": _wrapper(FieldDescriptor.TYPE_INT32),
    "google.protobuf.UInt32Value": _wrapper(FieldDescriptor.TYPE_UINT32),
    "google.protobuf.Int64Value": _wrapper(FieldDescriptor.TYPE_INT64),
    "google.protobuf.UInt64Value": _wrapper(FieldDescriptor.TYPE_UINT64),
}


@cache
def _writer(descriptor: Descriptor) -> Writer:
    if known := _WELL_KNOWN.get(descriptor.full_name):
        return known
    write = _message(descriptor)
    return _kept(write) if descriptor.full_name in _KEPT else write
