"""Kafka as a passive observer reads it: bytes of both sides in, requests and responses out (protocol guide, KIP-482).

A request is told when its topics are read, a response when its error codes are; both carry the time of their header.
Records are passed over by arithmetic, wherever they stand. After lost bytes a side goes on at the end of the frame, or,
where that is not known, at the next bytes that can only be a request, or a response that is waited for. Topic ids
become names where a response has told them. It refuses to know records, groups' protocols and what SASL tokens say.
"""

from __future__ import annotations

import struct
import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from observer.l7.kafka_header import HEAD_LIMIT, SIZE_LIMIT, Head, Sign, is_request, read_head
from observer.l7.kafka_program import NOTHING, request_program, response_program
from observer.l7.kafka_schema import APIS, METADATA, PRODUCE, SASL_HANDSHAKE
from observer.l7.kafka_topics import TopicIds
from observer.l7.kafka_walk import Walk
from observer.l7.message import Message, Side
from observer.losses import Losses
from observer.record import L7Kind, L7Type

# Looking members up in their class is slow, and done for every message.
CLIENT, SERVER = Side.CLIENT, Side.SERVER
KAFKA = L7Kind.KAFKA
REQUEST, RESPONSE = L7Type.REQUEST, L7Type.RESPONSE

PENDING_LIMIT: Final = 1_024
"""Requests of one connection that wait for their responses."""

UNAWAITED_LIMIT: Final = 64
"""Produce requests without acks that are remembered, in case that they are answered."""

SURE_CLIENT_ID: Final = 3
"""Octets of a client id that tell a request among other bytes; a shorter one needs a piece that is one request."""

SEARCH_LIMIT: Final = 4_096
"""How often a connection's client id may stand in what is no request, while one is looked for."""

UNKNOWN_TOPIC: Final = "?"
"""What policy is asked of a topic whose name is not known: no topic is called so, and no rule can name it."""

_RESPONSE_START: Final = struct.Struct("!Ii")  # size, correlation id
_RESPONSE_HEAD: Final = _RESPONSE_START.size
_BEFORE_CLIENT_ID: Final = 12  # octets of a request: its length, API key, version and correlation id


class _Stream:
    """One side's place in its bytes."""

    __slots__ = ("held", "left", "lost", "message", "searching", "walk")

    def __init__(self) -> None:
        self.held = b""  # the beginning of a field or header
        self.left = 0  # octets of the frame behind `held`'s beginning
        self.walk: Walk | None = None
        self.message: Message | None = None  # what the walk is about
        self.searching = False  # the place is lost
        self.lost = False  # bytes of this side were lost at some time


@dataclass(slots=True)
class _Topics:
    """What the topics of a request make its message say."""

    walked: list[bytes | int]
    client_id: bytes
    every: bool
    asked: tuple[str, ...]
    texts: tuple[bytes, ...]
    extension: Mapping[str, Any] | None
    unresolved: bool


class Kafka:
    """Parser of one connection; `ends` are its addresses, under which `topic_ids` are learned and looked up."""

    def __init__(self, losses: Losses, topic_ids: TopicIds | None = None, ends: tuple[bytes, ...] = (b"",)) -> None:
        self.opaque = False
        self._losses = losses
        self._topic_ids = TopicIds() if topic_ids is None else topic_ids
        self._ends = ends
        self._streams = (_Stream(), _Stream())
        self._pending: deque[Message] = deque()
        # Without acks no answer comes; librdkafka's mock broker gives one all the same.
        self._unawaited: deque[Message] = deque(maxlen=UNAWAITED_LIMIT)
        self._synced = False  # a response was seen where it was waited for
        self._tokens = 0  # raw SASL tokens of the client that were not answered
        self._handshakes = False  # tokens may come: SaslHandshake v0 was asked
        self._told_last: _Topics | None = None  # most requests of a connection name the same
        self._client_id = b""  # of the last request; empty: it has none
        self._tries = SEARCH_LIMIT
        self._late: list[Message] = []  # told by a gap, given with the next bytes

    def feed(self, side: Side, data: bytes, time_ns: int) -> list[Message]:
        """Take the next bytes of a side and give the messages whose fields they complete."""
        out, self._late = self._late, []
        stream = self._streams[side]
        position = 0
        if stream.held:
            data = stream.held + data
            stream.held = b""
        while position < len(data) and not self.opaque:
            if stream.searching:
                position = self._search(side, stream, data, position)
                if stream.searching:
                    break
            if not stream.left:
                after = self._head(side, stream, data, position, time_ns, out)
                if after < 0:
                    break
                position = after
            if stream.walk is not None:
                position = self._run(side, stream, data, position, out)
                if stream.walk is not None:
                    break
            skipped = min(stream.left, len(data) - position)
            stream.left -= skipped
            position += skipped
        stream.held = data[position:]
        return out

    def asked(self, requests: Iterable[Message]) -> None:
        """Remember requests that another reader has told, and that wait for their responses."""
        self._pending.extend(requests)

    def gap(self, side: Side, size: int) -> None:
        """Pass over lost bytes inside a frame; else look for the next message."""
        stream = self._streams[side]
        stream.lost = True
        lost = size + len(stream.held)
        if not stream.searching and lost <= stream.left:
            if stream.walk is not None and (stream.held or not stream.walk.gap(size)):
                self._broken(side, stream)
            stream.left -= lost
            stream.held = b""
            if stream.walk is not None and not stream.left:
                self._run(side, stream, b"", 0, self._late)
            return
        if stream.walk is not None:
            self._broken(side, stream)
        self._lose(stream)

    def close(self, side: Side) -> list[Message]:
        """The side has sent its last byte: what is unfinished is told as far as it is known."""
        out, self._late = self._late, []
        stream = self._streams[side]
        if stream.walk is not None:
            self._losses.count("kafka", "frame cut short")
            self._incomplete(side, stream, out)
        elif stream.held and not stream.searching:
            self._losses.count("kafka", "header cut short")
        self._lose(stream)
        return out

    def _lose(self, stream: _Stream) -> None:
        stream.held, stream.left, stream.walk, stream.message, stream.searching = b"", 0, None, None, True

    def _broken(self, side: Side, stream: _Stream) -> None:
        self._losses.count("kafka", "lost bytes among the fields")
        self._incomplete(side, stream, self._late)

    # Frames

    def _run(self, side: Side, stream: _Stream, data: bytes, position: int, out: list[Message]) -> int:
        """Read on in a message; the position behind what was read."""
        walk = stream.walk
        assert walk is not None
        after = walk.run(data, position, stream.left)
        stream.left -= after - position
        if walk.done:
            self._told(side, stream, out)
        return after

    def _head(self, side: Side, stream: _Stream, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        """Read a header; the position behind it, the same where the place is lost, or -1 for more octets."""
        if side is CLIENT:
            return self._request(stream, data, position, time_ns, out)
        return self._response(stream, data, position, time_ns, out)

    def _request(self, stream: _Stream, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        head = read_head(data, position, strict=self._handshakes)
        if isinstance(head, Head):
            self._begin_request(stream, head, time_ns)
            if not stream.left or (stream.walk is not None and stream.walk.done):
                self._run(CLIENT, stream, b"", 0, out)
            return position + head.length
        if len(data) - position < 4 or (head is Sign.MORE and not self._handshakes):
            return -1
        size = int.from_bytes(data[position : position + 4], "big")
        if self._handshakes and size <= SIZE_LIMIT:
            if head is Sign.MORE and len(data) - position < min(HEAD_LIMIT, size + 4):
                return -1
            self._tokens += 1
            self._losses.count("kafka", "raw SASL token")
            stream.left = size
            return position + 4
        self._misplaced(stream, "request", size)
        return position

    def _begin_request(self, stream: _Stream, head: Head, time_ns: int) -> None:
        api = APIS.get(head.key)
        known = api is not None and api.first <= head.version <= api.last
        message = Message(KAFKA, REQUEST, CLIENT, time_ns, (b"", head.client_id or b""), head.key, head.version)
        message.id = head.correlation
        self._client_id = head.client_id or b""
        if head.key == SASL_HANDSHAKE and head.version == 0:
            self._handshakes = True
        stream.left = head.size - head.length
        stream.message = message
        if api is not None and known:
            stream.walk = Walk(request_program(api, head.version))
            return
        self._losses.count("kafka", "unknown API key" if api is None else "unknown API version")
        stream.walk = Walk(NOTHING)
        message.incomplete = True

    def _response(self, stream: _Stream, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        have = len(data) - position
        if have < 4:
            return -1
        size, correlation = (
            _RESPONSE_START.unpack_from(data, position)
            if have >= _RESPONSE_HEAD
            else (int.from_bytes(data[position : position + 4], "big"), 0)
        )
        if self._tokens and size < 4:
            return self._token_answer(stream, position, size)
        if not 4 <= size <= SIZE_LIMIT:
            self._misplaced(stream, "response", size)
            return position
        if have < _RESPONSE_HEAD:
            return -1
        request = self._answered(correlation)
        if request is None and self._tokens:
            return self._token_answer(stream, position, size)
        if request is None and not self._synced:
            self._lose(stream)
            return position + have  # the rest of these bytes: what they are cannot be known
        self._synced = True
        message = Message(KAFKA, RESPONSE, SERVER, time_ns)
        message.id, message.request = correlation, request
        stream.left = size - 4
        stream.message = message
        program = NOTHING
        if request is None:
            message.incomplete = True
            self._losses.count("kafka", "response to a request not seen")
        else:
            message.texts, message.method, message.version = request.texts, request.method, request.version
            message.extension = request.extension
            message.latency_ns = time_ns - request.time_ns
            api = APIS.get(request.method or 0)
            if api is not None and api.first <= request.version <= api.last:
                program = response_program(api, request.version)
        stream.walk = Walk(program)
        if not stream.left or stream.walk.done:
            self._run(SERVER, stream, b"", 0, out)
        return position + _RESPONSE_HEAD

    def _token_answer(self, stream: _Stream, position: int, size: int) -> int:
        self._tokens -= 1
        stream.left = size
        return position + 4

    def _misplaced(self, stream: _Stream, what: str, size: int) -> None:
        self._losses.count("kafka", f"{what} of impossible length" if size > SIZE_LIMIT else f"malformed {what} header")
        self._lose(stream)

    # Messages

    def _told(self, side: Side, stream: _Stream, out: list[Message]) -> None:
        """The walk has come to its end: tell its message."""
        walk, message = stream.walk, stream.message
        assert walk is not None
        assert message is not None
        stream.walk = stream.message = None
        if walk.malformed:
            self._losses.count("kafka", "malformed request" if side is CLIENT else "malformed response")
        if side is CLIENT:
            self._name(message, walk, whole=not walk.malformed)
            if message.method == PRODUCE and walk.acks == 0:
                self._unawaited.append(message)
            else:
                self._ask(message)
        else:
            message.incomplete |= walk.malformed or bool(walk.untold)
            message.code = walk.error or None if message.incomplete else walk.error
            if walk.untold:
                self._losses.count("kafka", "response too long")
            if walk.pairs:
                self._topic_ids.learn(self._ends, walk.pairs)
        out.append(message)

    def _incomplete(self, side: Side, stream: _Stream, out: list[Message]) -> None:
        """Tell a message whose fields will not come."""
        assert stream.walk is not None
        stream.walk.malformed = False
        walk, message = stream.walk, stream.message
        assert message is not None
        stream.walk = stream.message = None
        message.incomplete = True
        if side is CLIENT:
            self._name(message, walk, whole=False)
            self._ask(message)
        else:
            message.code = walk.error or None  # a 0 says nothing of the errors behind it
        out.append(message)

    def _name(self, message: Message, walk: Walk, *, whole: bool) -> None:
        """Put the topics of a request into its message; not `whole`: others may have followed."""
        version, client_id = message.version, message.texts[1]
        every = message.method == METADATA and (walk.first_count == -1 or (not version and walk.first_count == 0))
        whole = whole and not message.incomplete
        if walk.untold:
            self._losses.count("kafka", "topics not kept", walk.untold)
            whole = False
        told = self._told_last
        if told is None or told.walked != walk.topics or told.client_id != client_id or told.every != every:
            told = self._topics(walk.topics, client_id, every)
            # What an id is called may change.
            self._told_last = told if all(isinstance(topic, bytes) for topic in walk.topics) else None
        message.topics = None if every else told.asked if whole else (*told.asked, UNKNOWN_TOPIC)
        message.incomplete = told.unresolved or not whole
        message.texts = told.texts
        message.extension = told.extension

    def _topics(self, topics: list[bytes | int], client_id: bytes, every: bool) -> _Topics:
        """What a message says that names these topics."""
        names: list[bytes] = []
        unresolved: list[str] = []
        asked: list[str] = []
        for topic in dict.fromkeys(topics):
            name = topic if isinstance(topic, bytes) else self._topic_ids.name(self._ends, topic)
            if name is None:
                assert isinstance(topic, int)
                unresolved.append(str(uuid.UUID(int=topic)))
                name = unresolved[-1].encode()
                asked.append(UNKNOWN_TOPIC)
            else:
                asked.append(name.decode("utf-8", "surrogateescape"))
            names.append(name)
        told: dict[str, Any] = {"client_id": _text(client_id)} if client_id else {}
        if names:
            told["topics"] = [_text(name) for name in names]
        if unresolved:
            told["unresolved_topic_ids"] = unresolved
        if every:
            told["all_topics"] = True
        texts = (names[0] if names else b"", client_id)
        extension = {"kafka": told} if told else None
        return _Topics(topics, client_id, every, tuple(asked), texts, extension, bool(unresolved))

    def _ask(self, request: Message) -> None:
        if len(self._pending) >= PENDING_LIMIT:
            self._pending.popleft()
            self._losses.count("kafka", "too many pending requests")
        self._pending.append(request)

    def _answered(self, correlation: int) -> Message | None:
        """The request that a response answers: brokers keep the order, so it is nearly always the first."""
        pending = self._pending
        if pending and pending[0].id == correlation:
            return pending.popleft()
        for requests in (pending, self._unawaited):
            for index, request in enumerate(requests):
                if request.id == correlation:
                    del requests[index]
                    return request
        return None

    # After lost bytes

    def _search(self, side: Side, stream: _Stream, data: bytes, position: int) -> int:
        """Look for the next message; where it starts, or what has to be kept."""
        if side is SERVER:
            return self._search_response(stream, data, position)
        client_id = self._client_id
        if len(client_id) < SURE_CLIENT_ID:
            head = read_head(data, position, strict=True)
            stream.searching = not (
                isinstance(head, Head) and head.size == len(data) - position and is_request(data, position)
            )
            return position if not stream.searching else len(data)
        needle = len(client_id).to_bytes(2, "big") + client_id
        found = data.find(needle, position + _BEFORE_CLIENT_ID)
        while found >= 0:
            start = found - _BEFORE_CLIENT_ID
            if isinstance(read_head(data, start, strict=True), Head) and is_request(data, start):
                stream.searching = False
                return start
            self._tries -= 1
            if not self._tries:
                self._losses.count("kafka", "no request found after lost bytes")
                self.opaque = True
                return len(data)
            found = data.find(needle, found + 1)
        # The last octets may be the beginning of a request.
        return max(position, len(data) - _BEFORE_CLIENT_ID - len(needle) + 1)

    def _search_response(self, stream: _Stream, data: bytes, position: int) -> int:
        """A response begins where a piece does, and answers what is asked: correlation ids alone are small numbers."""
        if len(data) - position >= _RESPONSE_HEAD:
            size = int.from_bytes(data[position : position + 4], "big")
            correlation = int.from_bytes(data[position + 4 : position + 8], "big", signed=True)
            if 4 <= size <= SIZE_LIMIT and any(request.id == correlation for request in self._pending):
                stream.searching = False
                return position
        return len(data)


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "backslashreplace")
