"""The protobuf wire format by hand: tags, varints, length-delimited fields, and google.protobuf.Struct.

Plain functions from Python values to bytes; tags come from the descriptors, so the .proto stays the only place that
knows field numbers (https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

K = TypeVar("K")
V = TypeVar("V")

CACHE_SIZE: Final = 8192
"""Entries of a cache; a full one starts anew."""

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2

_WIRE_TYPES: Final = {
    FieldDescriptor.TYPE_DOUBLE: FIXED64,
    FieldDescriptor.TYPE_STRING: LENGTH,
    FieldDescriptor.TYPE_BYTES: LENGTH,
    FieldDescriptor.TYPE_MESSAGE: LENGTH,
    FieldDescriptor.TYPE_BOOL: VARINT,
    FieldDescriptor.TYPE_ENUM: VARINT,
    FieldDescriptor.TYPE_INT32: VARINT,
    FieldDescriptor.TYPE_UINT32: VARINT,
    FieldDescriptor.TYPE_INT64: VARINT,
    FieldDescriptor.TYPE_UINT64: VARINT,
}

MAX_NESTING: Final = 32
"""How deep lists and objects of an extension may nest; protobuf parsers give up at 100 messages."""


class Cache(dict[K, bytes]):
    """A dict that makes what it lacks and starts anew when it is full, so that strange traffic cannot grow it."""

    def __init__(self, make: Callable[[K], bytes], size: int = CACHE_SIZE) -> None:
        super().__init__()
        self._make = make
        self._size = size

    def __missing__(self, key: K) -> bytes:
        value = self._make(key)
        keep(self, key, value, self._size)
        return value


def keep(cache: dict[K, V], key: K, value: V, size: int = CACHE_SIZE) -> None:
    """Put `value` into a cache of bounded size."""
    if len(cache) >= size:
        cache.clear()
    cache[key] = value


def encode_varint(number: int) -> bytes:
    """`number` (0 to 2^64-1) in base 128, least significant group first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


varints: Final = Cache(encode_varint, 1 << 16)
"""Varints of small numbers (ports, lengths), made once."""


low_14: Final[Cache[int]] = Cache(lambda low: bytes((low & 0x7F | 0x80, low >> 7 | 0x80)), 1 << 14)
"""14 bits as two groups that say that more follow: the low half of a number that `varints` has no entry for."""


def varint(number: int) -> bytes:
    """As encode_varint, by two look-ups for what fits 30 bits."""
    if number < 1 << 14:
        return varints[number]
    if number < 1 << 30:
        return low_14[number & 0x3FFF] + varints[number >> 14]
    return encode_varint(number)


def tag(message: type[Message], name: str) -> bytes:
    """The tag of a field."""
    field = message.DESCRIPTOR.fields_by_name[name]
    return encode_varint(field.number << 3 | _WIRE_TYPES[field.type])


def number(tag: bytes, value: int) -> bytes:
    """A field of a number, enum or bool; nothing for zero, the default. Negative numbers as proto3 has them."""
    return tag + encode_varint(value & 0xFFFF_FFFF_FFFF_FFFF) if value else b""


def delimited(tag: bytes, value: bytes) -> bytes:
    """A field of bytes, string or message, also when empty."""
    return tag + varints[len(value)] + value


def string(tag: bytes, value: str | bytes) -> bytes:
    """A string field; nothing for the empty string. Bytes from the network become UTF-8."""
    if not value:
        return b""
    return delimited(tag, utf8(value) if isinstance(value, bytes) else value.encode("utf-8", "backslashreplace"))


def strings(tag: bytes, values: Sequence[str]) -> bytes:
    """A repeated string field."""
    return b"".join([delimited(tag, value.encode("utf-8", "backslashreplace")) for value in values])


def utf8(raw: bytes) -> bytes:
    r"""Bytes from the network as valid UTF-8, what is not written as \xNN; protobuf refuses anything else."""
    return raw if raw.isascii() else raw.decode("utf-8", "backslashreplace").encode()


# google.protobuf.Struct: map<string, Value> is a repeated message of key and value.
_FIELDS: Final = b"\x0a"  # Struct.fields, ListValue.values
_KEY: Final = b"\x0a"
_VALUE: Final = b"\x12"
_NULL: Final = b"\x08\x00"
_NUMBER: Final = b"\x11"
_STRING: Final = b"\x1a"
_BOOL: Final = b"\x20"
_STRUCT: Final = b"\x2a"
_LIST: Final = b"\x32"


def struct_entry(key: str, value: Any) -> bytes:
    """One entry of a google.protobuf.Struct; `value` is what JSON has."""
    entry = delimited(_KEY, key.encode("utf-8", "backslashreplace")) + delimited(_VALUE, _struct_value(value, 0))
    return delimited(_FIELDS, entry)


def _struct_value(value: Any, depth: int) -> bytes:
    if value is None or depth > MAX_NESTING:
        return _NULL
    if isinstance(value, bool):
        return _BOOL + (b"\x01" if value else b"\x00")
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:  # an integer beyond any double
            return _NULL
        # JSON has no infinity, and the stock CLI refuses a whole flow for one.
        return _NUMBER + struct.pack("<d", number) if math.isfinite(number) else _NULL
    if isinstance(value, str | bytes):
        text = utf8(value) if isinstance(value, bytes) else value.encode("utf-8", "backslashreplace")
        return delimited(_STRING, text)
    if isinstance(value, Mapping):
        entries = [
            delimited(
                _FIELDS,
                delimited(_KEY, str(key).encode("utf-8", "backslashreplace"))
                + delimited(_VALUE, _struct_value(item, depth + 1)),
            )
            for key, item in value.items()
        ]
        return delimited(_STRUCT, b"".join(entries))
    items = [delimited(_FIELDS, _struct_value(item, depth + 1)) for item in value]
    return delimited(_LIST, b"".join(items))
