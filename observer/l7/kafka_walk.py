"""Walks through the body of one Kafka message by the program of its layout, however its bytes are cut.

In: a program for one version, and bytes as they come. Out: topics, topic ids, error code and acks, read in passing;
what lies between is skipped by arithmetic, megabytes of records without a copy. Every length is checked against what
the frame has left, so the work is bounded by its bytes. It refuses to know frames, headers and connections.
"""

from __future__ import annotations

import struct
from typing import Final

from observer.l7.kafka_program import ID_SIZE, Code, Program, Step
from observer.l7.kafka_schema import TOPIC_RESOURCE

NAME_LIMIT: Final = 255
"""Octets of a topic name; Kafka itself allows 249."""

TOPICS_LIMIT: Final = 1_024
"""Topics kept of one request; what names more is read no further."""

PAIRS_LIMIT: Final = 4_096
"""Topic ids learned from one response."""

STEPS_LIMIT: Final = 1 << 17
"""Steps of one message: some 10,000 partitions."""

# Looking members up in their class is slow, and done at every step.
ACKS, BYTES, ERROR, ID, LIST, LOOP, NEXT, OPTIONAL, RESOURCE, RESOURCE_KIND, SKIP, STRING, TAGS, TOPIC = (
    Code.ACKS,
    Code.BYTES,
    Code.ERROR,
    Code.ID,
    Code.LIST,
    Code.LOOP,
    Code.NEXT,
    Code.OPTIONAL,
    Code.RESOURCE,
    Code.RESOURCE_KIND,
    Code.SKIP,
    Code.STRING,
    Code.TAGS,
    Code.TOPIC,
)

_COUNTED: Final = frozenset((BYTES, LIST, LOOP, RESOURCE, STRING, TOPIC))
"""Steps that begin with a length or a number of elements."""

_SHORT: Final = struct.Struct("!h")
_LONG: Final = struct.Struct("!i")

_VARINT_OCTETS: Final = 5
_TOO_MUCH: Final = 1 << 40  # what a varint without end says: more than a frame can hold


class Walk:
    """One message on its way through its program."""

    __slots__ = (
        "_answers",
        "_at",
        "_counts",
        "_flexible",
        "_id_kept",
        "_learns",
        "_left",
        "_named",
        "_skip",
        "_steps",
        "_tags",
        "_topic_resource",
        "acks",
        "done",
        "error",
        "first_count",
        "malformed",
        "pairs",
        "topics",
        "untold",
    )  # fmt: skip

    def __init__(self, program: Program) -> None:
        self._steps = program.steps
        self._flexible = program.flexible
        self._answers = program.answers
        self._learns = program.learns
        self._left = STEPS_LIMIT
        self._at = 0
        self._counts: list[int] = []  # of the loops it is in: rounds left, this one included
        self._skip = 0  # octets still to pass over
        self._tags = -1  # tagged fields left of the struct; -1: their number comes next
        self._named: bytes | None = None  # the name in the struct being read
        self._topic_resource = False
        self._id_kept = False  # the struct being read has an id, which is the last of `topics`
        self.done = not program.steps
        self.malformed = False
        self.topics: list[bytes | int] = []
        """Names as sent, and ids of topics without a name."""
        self.pairs: list[tuple[int, bytes]] = []
        """Ids that came with their names."""
        self.untold = 0
        """Topics whose names are too long; one for all that are too many."""
        self.error: int | None = None
        """The first error code that is not 0; None while there was none at all."""
        self.acks: int | None = None
        self.first_count: int | None = None
        """Elements of the first array: -1 is null."""

    def gap(self, size: int) -> bool:
        """Pass over lost octets if nothing that is read lies in them."""
        if size > self._skip:
            return False
        self._skip -= size
        return True

    def run(self, data: bytes, position: int, size: int) -> int:
        """Read on from `position`, where the frame has `size` octets left; give how far that went.

        What is left of `data` then is the beginning of a field: it shall come again, with more behind it.
        """
        limit = position + size
        end = min(limit, len(data))
        steps, count = self._steps, len(self._steps)
        while not self.done:
            skip = self._skip
            if skip:
                if skip > end - position:
                    self._skip = skip - (end - position)
                    return end
                self._skip = 0
                position += skip
            if self._at == count:
                self.done = True
                return position
            self._left -= 1
            if self._left < 0:
                self.untold += 1
                self.done = True
                return position
            step = steps[self._at]
            code = step.code
            if code is SKIP:
                self._at += 1
                if step.size <= end - position:
                    position += step.size
                    continue
                self._skip = step.size
                if step.size > limit - position:
                    self._fail()
                continue
            if code is NEXT:
                self._next(step)
                continue
            if position >= end:
                after = -1
            elif code in _COUNTED:
                after = self._counted(step, data, position, end, limit)
            else:
                after = self._step(step, data, position, end, limit)
            if after < 0:
                # More is needed, but nothing more belongs to the frame.
                if end == limit:
                    self._fail()
                return position
            position = after
            if self._skip > limit - position:
                self._fail()
        return position

    def _fail(self) -> None:
        self.malformed = self.done = True

    def _step(self, step: Step, data: bytes, position: int, end: int, limit: int) -> int:
        """Do one step, of which one octet is there; the position behind what it read, or -1 for more octets."""
        code = step.code
        if code is TAGS:
            if data[position] == 0 and self._tags < 0:
                self._at += 1
                return position + 1
            return self._tagged(data, position, end, limit)
        if code is ID:
            return self._id(step, data, position, end)
        if code is ERROR or code is ACKS:
            if end - position < 2:
                return -1
            (value,) = _SHORT.unpack_from(data, position)
            if code is ACKS:
                self.acks = value
            elif not self.error:
                self.error = value
            self._read(step)
            if self.error and not self._learns:
                self.done = True  # what comes behind it is not read
            return position + 2
        if code is RESOURCE_KIND:
            self._topic_resource = data[position] == TOPIC_RESOURCE
            self._at += 1
            return position + 1
        self._at = step.target if data[position] > 0x7F else self._at + 1  # OPTIONAL
        return position + 1

    def _counted(self, step: Step, data: bytes, position: int, end: int, limit: int) -> int:
        """Steps of _COUNTED, whose number may be null; as _step."""
        code = step.code
        if self._flexible:
            number, start = data[position], position + 1
            if number > 0x7F:
                number, start = _varint(data, position, end)
                if start < 0:
                    return -1
            number -= 1
        elif code is LOOP or code is LIST or code is BYTES:
            start = position + 4
            if start > end:
                return -1
            (number,) = _LONG.unpack_from(data, position)
        else:
            start = position + 2
            if start > end:
                return -1
            (number,) = _SHORT.unpack_from(data, position)
        if number < -1 or number > limit - start:
            self._fail()
            return start
        if code is LOOP or code is LIST:
            if self.first_count is None:
                self.first_count = number
            if number * step.size > limit - start:
                self._fail()
            elif code is LIST:
                self._skip = max(number, 0) * step.size
                self._at += 1
            elif number > 0:
                self._counts.append(number)
                self._at += 1
            else:
                self._at = step.target
            return start
        if code is STRING or code is BYTES or (code is RESOURCE and not self._topic_resource):
            self._skip = max(number, 0)
            self._at += 1
            return start
        return self._name(step, data, start, end, number)

    def _name(self, step: Step, data: bytes, start: int, end: int, size: int) -> int:
        if size < 0:
            self._named = None
        elif size > NAME_LIMIT:
            self._named = None
            self._skip = size
            self.untold += 1
        else:
            if end - start < size:
                return -1
            self._named = data[start : start + size]
            start += size
            if step.paired and self._id_kept:
                self.topics.pop()  # the name says more than the id before it
            self._keep(self._named)
        self._id_kept = False
        self._read(step)
        return start

    def _id(self, step: Step, data: bytes, position: int, end: int) -> int:
        if end - position < ID_SIZE:
            return -1
        number = int.from_bytes(data[position : position + ID_SIZE], "big")
        before = self._steps[self._at - 1].code is TOPIC
        if number and step.paired and before and self._named is not None:
            if len(self.pairs) < PAIRS_LIMIT:
                self.pairs.append((number, self._named))
        elif number:
            self._id_kept = self._keep(number)
        self._read(step)
        return position + ID_SIZE

    def _keep(self, topic: bytes | int) -> bool:
        if self._answers:
            return False
        if len(self.topics) < TOPICS_LIMIT:
            self.topics.append(topic)
            return True
        self.untold += 1
        self.done = True
        return False

    def _read(self, step: Step) -> None:
        self._at += 1
        if step.final and self._counts.count(1) == len(self._counts):
            self.done = True

    def _next(self, step: Step) -> None:
        self._counts[-1] -= 1
        if self._counts[-1]:
            self._at = step.target
        else:
            self._counts.pop()
            self._at += 1

    def _tagged(self, data: bytes, position: int, end: int, limit: int) -> int:
        """Pass over one tagged field, or read how many there are (KIP-482)."""
        number, start = _varint(data, position, end)
        if start < 0:
            return -1
        if self._tags < 0:
            self._tags = number
            if number > (limit - start) // 2:
                self._fail()
        else:
            number, start = _varint(data, start, end)
            if start < 0:
                return -1
            if number > limit - start:
                self._fail()
            self._skip = number
            self._tags -= 1
        if not self._tags:
            self._tags = -1
            self._at += 1
        return start


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """An unsigned varint and the position behind it, which is negative where more octets are needed."""
    number = shift = 0
    for index in range(position, min(end, position + _VARINT_OCTETS)):
        octet = data[index]
        number |= (octet & 0x7F) << shift
        if octet < 0x80:
            return number, index + 1
        shift += 7
    return _TOO_MUCH, -1 if end - position < _VARINT_OCTETS else position + _VARINT_OCTETS
