"""A passive HPACK decoder (RFC 7541): header blocks of one direction in, header fields out.

Unlike an endpoint's it may join in the middle: a reference to an entry that was inserted before it listened is given as
unknown (None), never guessed. It takes whole blocks, or the beginning of one that was cut; it knows no frames, no
streams and not what the fields mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from observer.l7.huffman import HuffmanError, huffman_decode

Field: TypeAlias = tuple[bytes | None, bytes | None]
"""Name and value; None where nobody who joined in the middle can know it."""

DEFAULT_TABLE_SIZE: Final = 4_096
TABLE_LIMIT: Final = 65_536
"""Octets of dynamic table that are kept; an encoder that announces more is followed as if we had joined late."""
INDEX_LIMIT: Final = 65_536
"""A larger index is taken for a malformed block, whenever one joined; it takes a table of 2 MB."""
FIELDS_LIMIT: Final = 1_024
"""Fields of one block that are given; a block of one-octet references could name a field in every octet."""
OUTPUT_LIMIT: Final = 65_536
"""Octets of names and values of one block; a header bomb refers to one large entry again and again."""

ENTRY_OVERHEAD: Final = 32  # 4.1

STATIC_TABLE: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    *((b":status", status) for status in (b"200", b"204", b"206", b"304", b"400", b"404", b"500")),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    *(
        (name, b"")
        for name in (
            b"accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control "
            b"content-disposition content-encoding content-language content-length content-location content-range "
            b"content-type cookie date etag expect expires from host if-match if-modified-since if-none-match if-range "
            b"if-unmodified-since last-modified link location max-forwards proxy-authenticate proxy-authorization "
            b"range referer refresh retry-after server set-cookie strict-transport-security transfer-encoding "
            b"user-agent vary via www-authenticate"
        ).split()
    ),
)
"""Appendix A; index 1 is the first."""

_STATIC_SIZE: Final = len(STATIC_TABLE)
_LAST_STATIC: Final = 0x80 + _STATIC_SIZE  # as an octet of its own
_STATIC_LONGEST: Final = max(len(name) + len(value) for name, value in STATIC_TABLE)
_UNKNOWN: Final[Field] = (None, None)


class HpackError(Exception):
    """The block is malformed (a decoding error of RFC 7541); the direction's table cannot be trusted any more."""


class HpackDecoder:
    """The dynamic table of one direction of one connection, as far as it can be known."""

    __slots__ = ("_entries", "_limit", "_size", "changes", "cut", "late")

    def __init__(self, *, late: bool = False) -> None:
        self.late = late
        """It joined in the middle, or lost bytes: older entries exist that nobody here has seen."""
        self.cut = False
        """The last block named more than the limits let through, or was itself cut: fields are missing."""
        self.changes = 0
        """How often the table has changed: until it does again, equal blocks mean equal fields."""
        self._entries: list[Field] = []  # oldest first, so that an insertion is an append
        self._size = 0
        self._limit = DEFAULT_TABLE_SIZE

    def lose(self) -> None:
        """Bytes of this direction were lost: insertions may be among them, so every older index has moved."""
        self.late = True
        self.changes += 1
        self._entries.clear()
        self._size = 0

    def resume(self, entries: Iterable[Field]) -> None:
        """Take the entries, oldest first, of one who has listened so far; older ones are unknown."""
        self.lose()
        self._entries += entries
        self._size = sum(len(name or b"") + len(value or b"") + ENTRY_OVERHEAD for name, value in self._entries)

    def decode(self, block: bytes, *, whole: bool = True) -> list[Field]:
        """The fields of one header block, in order; HpackError when it is malformed, and the table is lost.

        Of a block that is not `whole` those before the cut. Beyond the limits no field is given, but the table follows
        all the same; `cut` tells of both.
        """
        self.cut = not whole
        fields: list[Field] = []
        # No field can be longer: what the block adds to those of the tables grows to 8/5 by Huffman's code.
        longest = self._size + _STATIC_LONGEST + 2 * len(block)
        try:
            self._decode(block, fields)
        except (HpackError, HuffmanError, IndexError) as error:
            self.lose()
            if whole or isinstance(error, HuffmanError):
                raise HpackError(str(error) or "block cut off") from None
        if not whole:
            self.lose()
        if len(fields) > FIELDS_LIMIT or len(fields) * longest > OUTPUT_LIMIT:
            self._limit_output(fields)
        return fields

    def _decode(self, block: bytes, fields: list[Field]) -> None:
        position, end = 0, len(block)
        entries = self._entries
        while position < end:
            byte = block[position]
            if byte & 0x80:  # 6.1: indexed field
                if 0x80 < byte <= _LAST_STATIC:
                    fields.append(STATIC_TABLE[byte - 0x81])
                    position += 1
                elif _LAST_STATIC < byte < 0xFF and byte - _LAST_STATIC <= len(entries):
                    fields.append(entries[_LAST_STATIC - byte])  # the newest is the last
                    position += 1
                else:
                    index, position = _integer(block, position, 0x7F)
                    fields.append(self._lookup(index))
            elif byte & 0x40:  # 6.2.1: literal with incremental indexing
                field, position = self._literal(block, position, 0x3F)
                self._insert(field)
                fields.append(field)
            elif byte & 0x20:  # 6.3: dynamic table size update, only before the first field (4.2)
                if fields:
                    raise HpackError("table size update after a field")
                limit, position = _integer(block, position, 0x1F)
                self._resize(limit)
            else:  # 6.2.2, 6.2.3: literal without indexing, or never indexed
                field, position = self._literal(block, position, 0x0F)
                fields.append(field)

    def _limit_output(self, fields: list[Field]) -> None:
        """Keep the first fields, as far as the limits let them through."""
        room = OUTPUT_LIMIT
        for number, (name, value) in enumerate(fields):
            room -= len(name or b"") + len(value or b"")
            if room < 0 or number >= FIELDS_LIMIT:
                self.cut = True
                del fields[number:]
                return

    def _lookup(self, index: int) -> Field:
        if 0 < index <= _STATIC_SIZE:
            return STATIC_TABLE[index - 1]
        number = index - _STATIC_SIZE  # 1 is the newest
        if 0 < number <= len(self._entries):
            return self._entries[-number]
        if not self.late or not index or index > INDEX_LIMIT:
            raise HpackError("index beyond the table")
        return _UNKNOWN

    def _literal(self, block: bytes, position: int, mask: int) -> tuple[Field, int]:
        index = block[position] & mask
        name: bytes | None
        if not index:
            name, position = _string(block, position + 1)
        elif index == mask:
            index, position = _integer(block, position, mask)
            name = self._lookup(index)[0]
        else:
            position += 1
            name = STATIC_TABLE[index - 1][0] if index <= _STATIC_SIZE else self._lookup(index)[0]
        value, position = _string(block, position)
        return (name, value), position

    def _insert(self, field: Field) -> None:
        self.changes += 1
        self._size += len(field[0] or b"") + len(field[1] or b"") + ENTRY_OVERHEAD
        self._entries.append(field)
        # A latecomer does not know the real limit, nor the size of names that it has not seen. An encoder never refers
        # to what it evicted, and indices count from the newest, so keeping more than it does is harmless.
        if self._size > (TABLE_LIMIT if self.late else self._limit):
            self._evict()

    def _resize(self, limit: int) -> None:
        self.changes += 1
        if limit > TABLE_LIMIT:
            self.late = True
            limit = TABLE_LIMIT
        self._limit = limit
        if limit:
            self._evict()
            return
        # Emptied by both ends: from here on everything is known, even to a latecomer.
        self._entries.clear()
        self._size = 0
        self.late = False

    def _evict(self) -> None:
        """Drop the oldest entries until the rest fits (4.4)."""
        limit = TABLE_LIMIT if self.late else self._limit
        drop = 0
        while self._size > limit:
            name, value = self._entries[drop]
            self._size -= len(name or b"") + len(value or b"") + ENTRY_OVERHEAD
            drop += 1
        del self._entries[:drop]


def _integer(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """5.1: an integer with a prefix of as many bits as `mask` has; the value and the position after it."""
    value = block[position] & mask
    position += 1
    if value < mask:
        return value, position
    for shift in range(0, 35, 7):
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise HpackError("integer too large")


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    """5.2: a string literal, and the position after it."""
    byte = block[position]
    length = byte & 0x7F
    if length == 0x7F:
        length, position = _integer(block, position, 0x7F)
    else:
        position += 1
    end = position + length
    data = block[position:end]
    if len(data) < length:
        raise HpackError("string cut off")
    return (huffman_decode(data) if byte & 0x80 else data), end
