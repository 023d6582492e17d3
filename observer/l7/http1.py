"""HTTP/1.x as a passive observer reads it: bytes of both sides in, requests and responses out (RFC 9110, RFC 9112).

A message is told when its header section is complete; bodies are passed over by arithmetic and never looked at. After
lost bytes a side looks for the next plausible start line. What cannot be known (a response whose request went by
unseen) is told as unknown. It refuses to know what travels in bodies, and what an upgraded connection speaks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from observer.l7.grpc import see_http1
from observer.l7.http1_head import (
    AUTHORITY,
    EMPTY_LINES,
    FIELD_LINE,
    HEAD_END,
    HEAD_LIMIT,
    MALFORMED_START,
    START_IN_LINE,
    Fields,
    is_h2c,
    is_plausible,
    read_section,
    start_line,
)
from observer.l7.http1_stream import State, Stream
from observer.l7.message import Message, Side
from observer.l7.pairing import Pairing
from observer.losses import Losses
from observer.record import HttpMethod, L7Kind, L7Type

# Looking members up in their class is slow, and done for every message.
CONNECT, HEAD, OTHER = HttpMethod.CONNECT.value, HttpMethod.HEAD.value, HttpMethod.OTHER.value
GRPC, HTTP = L7Kind.GRPC, L7Kind.HTTP
BODY, CHUNK_DATA, CHUNK_END, CHUNK_SIZE, FIELDS, RESYNC, START, TRAILER, TRIAL, UNTIL_CLOSE, WAITING = (
    State.BODY,
    State.CHUNK_DATA,
    State.CHUNK_END,
    State.CHUNK_SIZE,
    State.FIELDS,
    State.RESYNC,
    State.START,
    State.TRAILER,
    State.TRIAL,
    State.UNTIL_CLOSE,
    State.WAITING,
)
CLIENT, SERVER = Side.CLIENT, Side.SERVER
REQUEST, RESPONSE = L7Type.REQUEST, L7Type.RESPONSE

CHUNK_LINE_LIMIT: Final = 4_096
"""Octets of a chunk-size line with its extensions (RFC 9112, 7.1.1 asks for a limit)."""

TRAILER_LIMIT: Final = 65_536
"""Octets of a trailer section."""

WAITING_LIMIT: Final = 65_536
"""Octets held while the answer to CONNECT or Upgrade is out."""

HELD_COST: Final = 128
"""What the pieces held of one time cost beside their octets; so many small ones are bounded too."""

WAITS_LIMIT: Final = 16
"""How often a connection's CONNECT or Upgrade makes its next bytes wait; then they are read as they come."""

LINE_END: Final = b"\r\n"

_CHUNK_DIGITS_LIMIT: Final = 15  # of a chunk size: fits 60 bits

_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(?:;|\r?\Z)")  # RFC 9112, 7.1.1: BWS may stand before extensions

METHODS: Final[dict[bytes, int]] = {
    method.name.encode(): method.value for method in HttpMethod if method not in (HttpMethod.UNKNOWN, HttpMethod.OTHER)
}


class Upgrade(NamedTuple):
    """A connection became HTTP/2 by Upgrade: h2c, or a tunnel by CONNECT."""

    request: Message | None  # that of stream 1; None: a tunnel, whose bytes nobody has looked at
    rest: list[tuple[Side, bytes, int]]  # what has been said since: side, bytes, time


class Http1:
    """Parser of one connection."""

    def __init__(self, losses: Losses) -> None:
        self.opaque = False
        self._losses = losses
        self._streams = (Stream(CLIENT), Stream(SERVER))
        self._pairing = Pairing(losses)
        self._awaited: Message | None = None  # the CONNECT or Upgrade request whose answer decides
        self._held: list[tuple[bytearray, int]] = []  # pieces, times
        self._held_size = 0
        self._waits = WAITS_LIMIT
        self._late: list[Message] = []  # told by a gap, given with the next bytes
        self.upgrade: Upgrade | None = None
        """The connection goes on as something else that may be read, and this object is opaque."""

    def resume(self, side: Side, state: State, remaining: int, line: bytes) -> None:
        """Begin in that state: `remaining` octets of a body or chunk are to come, `line` is an unfinished line's."""
        stream = self._streams[side]
        stream.state, stream.remaining = state, remaining
        stream.buffer += line

    def asked(self, requests: Iterable[Message | None]) -> None:
        """Remember requests that another reader has told, and that wait for their responses; None: it knows no more."""
        for request in requests:
            self._pairing.ask(request)

    def feed(self, side: Side, data: bytes, time_ns: int) -> list[Message]:
        """Take the next bytes of a side and give the messages whose header section they complete."""
        out, self._late = self._late, []
        stream = self._streams[side]
        position, end = 0, len(data)
        while position < end and not self.opaque:
            position = STEPS[stream.state](self, stream, data, position, time_ns, out)
        if self.upgrade is not None and position < end:
            self.upgrade.rest.append((side, data[position:], time_ns))
        return out

    def gap(self, side: Side, size: int) -> None:
        """Pass over lost bytes exactly where a body's length is known; else look for the next start line."""
        stream = self._streams[side]
        if stream.state is UNTIL_CLOSE:
            return
        if stream.state in (BODY, CHUNK_DATA) and size <= stream.remaining:
            self._skip(stream, size)
            return
        if stream.state is WAITING:
            self._awaited = None
            self._held, self._held_size = [], 0
        self._cut(stream, self._late)
        self._pairing.lost.add(side)
        stream.lose_position()

    def close(self, side: Side) -> list[Message]:
        """End a side: what waited for an answer that will not come is read as HTTP; an unfinished head is counted."""
        stream = self._streams[side]
        out, self._late = self._late, []
        if stream.state is WAITING:
            self._release(out)
        if not self.opaque:
            self._cut(stream, out)
            stream.lose_position()
            stream.state = UNTIL_CLOSE
        return out

    def _cut(self, stream: Stream, out: list[Message]) -> None:
        """A head will never be complete: tell what there is of it (snap length, lost bytes, early end)."""
        if stream.state is FIELDS:
            self._losses.count("http1", "head cut short")
            head = bytes(stream.buffer) if not stream.overlong else b""
            self._told(stream, head[: head.rfind(b"\n") + 1] or b"\n", stream.time_ns, out, whole=False)
        elif stream.state is TRIAL and is_plausible(stream.start, head := bytes(stream.section)):
            self._losses.count("http1", "head cut short")
            self._told(stream, head, stream.time_ns, out, whole=False)
        elif stream.state is START and stream.buffer:
            self._losses.count("http1", "start line cut short")

    # Start lines and header sections

    def _start(self, stream: Stream, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        if not stream.buffer:
            if data[position] in LINE_END:  # RFC 9112, 2.2
                match = EMPTY_LINES.match(data, position)
                return match.end() if match else position + 1
            end = data.find(b"\n", position, position + HEAD_LIMIT)
            start = start_line(stream.side, data[position:end]) if end >= 0 else None
            if start is not None:  # nearly always, and most often the whole section is there
                stream.start, stream.time_ns, stream.state = start, time_ns, FIELDS
                match = HEAD_END.search(data, end)
                if match is None or match.start() > end + HEAD_LIMIT:
                    return end + 1
                self._told(stream, data[end : match.start() + 1], time_ns, out)
                return match.end()
        line, position, whole = stream.take_line(data, position, HEAD_LIMIT)
        if line is None:
            return position
        start = start_line(stream.side, line) if whole else None
        if start is not None:
            stream.start, stream.time_ns, stream.state = start, time_ns, FIELDS
            return position
        self._losses.count("http1", MALFORMED_START[stream.side] if whole else "start line too long")
        stream.lose_position()
        self._search(stream, line, time_ns)
        return position

    def _fields(self, stream: Stream, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        buffer = stream.buffer
        before = len(buffer)
        if not before:
            buffer += b"\n"
            before = 1
        buffer += data[position:]
        match = HEAD_END.search(buffer, max(0, before - 2))
        # Without an end 3 octets more may be its beginning: the verdict must not depend on where the bytes were cut.
        stream.overlong |= match.start() > HEAD_LIMIT if match else len(buffer) > HEAD_LIMIT + 3
        if match is None:
            if stream.overlong:
                del buffer[:-2]  # enough to see the end
            return len(data)
        whole, stream.overlong = not stream.overlong, False
        head = bytes(buffer[: match.start() + 1]) if whole else b"\n"
        position += match.end() - before
        buffer.clear()
        if not whole:
            self._losses.count("http1", "header section too large")
        self._told(stream, head, time_ns, out, whole)
        return position

    def _told(self, stream: Stream, head: bytes, time_ns: int, out: list[Message], whole: bool = True) -> None:
        """Tell a message and decide where it ends. `head` starts with a line end; not `whole`: fields are missing."""
        fields, lines = read_section(head, stream.start.version, self._losses)
        if stream.side is SERVER:
            self._response(stream, fields, lines, time_ns, whole, out)
        else:
            self._request(stream, fields, lines, time_ns, whole, out)
        if not whole and not self.opaque:
            if stream.side is CLIENT:
                self._awaited = None
            stream.lose_position()

    def _request(
        self, stream: Stream, fields: Fields, head: bytes, time_ns: int, whole: bool, out: list[Message]
    ) -> None:
        start = stream.start
        method, target = METHODS.get(start.method, OTHER), start.target
        host = fields.host
        if target[:1] != b"/":
            if method == CONNECT:
                host = target  # RFC 9112, 3.3: in authority-form the target is the authority
            elif authority := AUTHORITY.match(target):
                host = authority[1]  # RFC 9112, 3.2.2: in absolute-form the Host field is ignored
        texts = (target, host) if method != OTHER else (target, host, start.method)
        message = Message(HTTP, REQUEST, CLIENT, time_ns, texts, method, start.version)
        message.head = head
        message.incomplete = not whole
        if fields.grpc:
            see_http1(message)
        self._pairing.ask(message)
        out.append(message)
        if self._waits and (fields.upgrade or method == CONNECT):
            self._waits -= 1
            self._awaited = message
        self._request_body(stream, fields)

    def _response(
        self, stream: Stream, fields: Fields, head: bytes, time_ns: int, whole: bool, out: list[Message]
    ) -> None:
        code = stream.start.code
        if 100 <= code < 200 and code != 101:
            stream.state = START  # RFC 9110, 15.2: interim, the response is still to come
            return
        request = self._pairing.answer(time_ns)
        message = Message(HTTP, RESPONSE, SERVER, time_ns)
        message.version, message.code, message.head = stream.start.version, code, head
        message.incomplete = not whole or request is None
        if request is not None:
            message.request, message.texts, message.method = request, request.texts, request.method
            message.latency_ns = time_ns - request.time_ns
        if fields.grpc or (request is not None and request.kind is GRPC):
            see_http1(message)
        out.append(message)
        tunnel = request is not None and request.method == CONNECT and 200 <= code < 300
        if tunnel or code == 101:  # RFC 9110, 9.3.6 and 15.2.2: what follows is another protocol
            self.opaque = True
            if tunnel or (request is not None and is_h2c(b"\n" + head)):
                rest = [(CLIENT, bytes(piece), held_ns) for piece, held_ns in self._held]
                self.upgrade = Upgrade(None if tunnel else request, rest)
            self._held, self._held_size = [], 0
            for each in self._streams:
                each.lose_position()
            return
        self._response_body(stream, request, fields)
        if self._awaited is not None and (request is None or request is self._awaited):
            self._release(out)

    # Where a message ends: RFC 9112, 6.3, in its order

    def _request_body(self, stream: Stream, fields: Fields) -> None:
        if fields.coding is not None:
            if fields.coding == b"chunked":
                stream.state = CHUNK_SIZE
            else:  # item 4: no way to find the end; the server answers 400 and closes
                self._losses.count("http1", "request of unknown length")
                stream.lose_position()
        elif fields.faulty:  # item 5
            stream.lose_position()
        elif fields.length:  # item 6
            stream.state, stream.remaining = BODY, fields.length
        else:  # item 7
            self._end_message(stream)

    def _response_body(self, stream: Stream, request: Message | None, fields: Fields) -> None:
        bodyless = request is not None and request.method == HEAD
        if bodyless or stream.start.code in (204, 304):  # item 1
            self._end_message(stream)
        elif fields.coding is not None:  # items 3 and 4
            stream.state = CHUNK_SIZE if fields.coding == b"chunked" else UNTIL_CLOSE
        elif fields.faulty:  # item 5
            stream.lose_position()
        elif fields.length is None:  # item 8
            stream.state = UNTIL_CLOSE
        elif fields.length:  # item 6
            stream.state, stream.remaining = BODY, fields.length
        else:
            self._end_message(stream)

    def _end_message(self, stream: Stream) -> None:
        waits = stream.side is CLIENT and self._awaited is not None
        stream.state = WAITING if waits else START

    # Bodies

    def _body(self, stream: Stream, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        size = len(data) - position
        if size < stream.remaining:
            stream.remaining -= size
            return len(data)
        size = stream.remaining
        self._skip(stream, size)
        return position + size

    def _skip(self, stream: Stream, size: int) -> None:
        stream.remaining -= size
        if not stream.remaining:
            if stream.state is CHUNK_DATA:
                stream.state = CHUNK_END
            else:
                self._end_message(stream)

    def _until_close(self, stream: Stream, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        return len(data)

    def _chunk_size(self, stream: Stream, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        line, position, whole = stream.take_line(data, position, CHUNK_LINE_LIMIT)
        if line is None:
            return position
        match = _CHUNK_SIZE.match(line) if whole else None
        digits = match[1].lstrip(b"0") if match else b""
        if match is None or len(digits) > _CHUNK_DIGITS_LIMIT:
            self._losses.count("http1", "malformed chunk size" if whole else "chunk-size line too long")
            stream.lose_position()
            self._search(stream, line, time_ns)
        elif digits:
            size = int(digits, 16)
            if data.startswith(LINE_END, position + size):  # most chunks are whole in `data`
                return position + size + len(LINE_END)
            stream.state, stream.remaining = CHUNK_DATA, size
        else:
            stream.state, stream.remaining = TRAILER, TRAILER_LIMIT  # RFC 9112, 7.1.2
        return position

    def _chunk_end(self, stream: Stream, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        line, position, _ = stream.take_line(data, position, CHUNK_LINE_LIMIT)
        if line is None:
            return position
        if line in (b"", b"\r"):
            stream.state = CHUNK_SIZE
        else:
            self._losses.count("http1", "malformed chunk end")
            stream.lose_position()
            self._search(stream, line, time_ns)
        return position

    def _trailer(self, stream: Stream, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        line, position, whole = stream.take_line(data, position, TRAILER_LIMIT)
        if line is None:
            return position
        stream.remaining -= len(line)
        if line in (b"", b"\r"):
            self._end_message(stream)
        elif stream.remaining < 0 or not whole:
            self._losses.count("http1", "trailer section too large")
            stream.lose_position()
        return position

    # After CONNECT and Upgrade

    def _waiting(self, stream: Stream, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        if not self._held or self._held[-1][1] != time_ns:
            self._held.append((bytearray(), time_ns))
            self._held_size += HELD_COST
        self._held[-1][0].extend(data[position:])
        self._held_size += len(data) - position
        if self._held_size > WAITING_LIMIT:
            self._losses.count("http1", "no answer to CONNECT or Upgrade")
            self._waits = 0
            self._release(out)
        return len(data)

    def _release(self, out: list[Message]) -> None:
        """The connection stays HTTP: read what the client has sent since."""
        self._awaited = None
        stream = self._streams[CLIENT]
        if stream.state is not WAITING:
            return
        stream.state = START
        held, self._held, self._held_size = self._held, [], 0
        for data, time_ns in held:
            out += self.feed(CLIENT, bytes(data), time_ns)

    # After lost bytes

    def _resync(self, stream: Stream, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        line, position, _ = stream.take_line(data, position, HEAD_LIMIT)
        if line is not None:
            self._search(stream, line, time_ns)
        return position

    def _search(self, stream: Stream, line: bytes, time_ns: int) -> None:
        """Look for a start line in a line; what follows it has to bear it out (TRIAL)."""
        start = start_line(stream.side, line)
        if start is None or (stream.side is CLIENT and start.method not in METHODS):
            match = START_IN_LINE[stream.side].search(line)
            start = start_line(stream.side, line[match.start() :]) if match else start
        if start is not None and len(start.target.split(None, 1)) < 2:
            stream.start, stream.time_ns = start, time_ns
            stream.state = TRIAL
            stream.section += b"\n"

    def _trial(self, stream: Stream, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        line, position, whole = stream.take_line(data, position, HEAD_LIMIT)
        if line is None:
            return position
        if line in (b"", b"\r"):
            head = bytes(stream.section)
            stream.lose_position()
            if is_plausible(stream.start, head):
                self._told(stream, head, time_ns, out)
        elif whole and FIELD_LINE.fullmatch(line) and len(stream.section) + len(line) < HEAD_LIMIT:
            stream.section += line + b"\n"
        else:
            stream.lose_position()
            self._search(stream, line, time_ns)
        return position


STEPS: Final[dict[State, Callable[[Http1, Stream, bytes, int, int, list[Message]], int]]] = {
    START: Http1._start,
    FIELDS: Http1._fields,
    BODY: Http1._body,
    CHUNK_SIZE: Http1._chunk_size,
    CHUNK_DATA: Http1._body,
    CHUNK_END: Http1._chunk_end,
    TRAILER: Http1._trailer,
    UNTIL_CLOSE: Http1._until_close,
    WAITING: Http1._waiting,
    RESYNC: Http1._resync,
    TRIAL: Http1._trial,
}
"""Who reads on in which state: from a position in the data to the next, telling messages on the way."""
