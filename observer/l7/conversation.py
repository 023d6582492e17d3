"""One TCP connection or UDP pair on its way to messages: bytes are held until detection decides, then a parser reads.

In: bytes of a side in order, gaps, closes. Out: messages whose sides are the true ones. It knows which parser goes with
which protocol (PARSERS) and nothing of what a parser does. What it holds while undecided is bounded (PROBE_LIMIT).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from observer.l7 import detect
from observer.l7.detect import STARTTLS_PORTS, Detected, Detection
from observer.l7.dns import DnsDatagrams, DnsStream
from observer.l7.http1 import METHODS, Http1, Upgrade
from observer.l7.http1_head import HEAD_LIMIT, METHOD_LIMIT, may_start
from observer.l7.http2 import Http2
from observer.l7.kafka import Kafka
from observer.l7.kafka_header import PORTS as KAFKA_PORTS
from observer.l7.kafka_topics import TopicIds
from observer.l7.message import Message, Parser, Side
from observer.l7.tls import Tls
from observer.losses import Losses

PARSERS: Final[dict[Detected, Callable[[Losses], Parser]]] = {
    Detected.HTTP1: Http1,
    Detected.DNS_STREAM: DnsStream,
    Detected.DNS_DATAGRAM: DnsDatagrams,
    Detected.TLS: Tls,
    Detected.HTTP2: Http2,
    Detected.KAFKA: Kafka,
}
"""The one table from what was detected to who reads it."""

PROBE_LIMIT: Final = HEAD_LIMIT + 1024
"""Bytes of one side held while detection has not decided; beyond, the side speaks nothing that is read here."""

SILENCE_LIMIT: Final = 1 << 20
JOINED_SILENCE_LIMIT: Final = 1 << 26
"""Bytes of nothing that is read here which one side says without an answer, before nobody waits for one any more: after
the beginning of a connection, and where it was joined, maybe in the middle of a long body."""

LATE_PIECES: Final = 256
"""Pieces of both sides, joined inside a message, in which a request is still looked for on a port of Kafka's."""

LATE_HELLO_PIECES: Final = 16
"""Pieces of both sides in which they may agree to begin TLS, on a port where that is done."""

TUNNELS: Final = 2
"""CONNECT tunnels in one another that are looked into."""

DATAGRAM_PROBES: Final = 4
"""Unreadable datagrams after which a pair counts as opaque."""


class _Probe:
    """What one side has said so far, while nobody knows what it is."""

    __slots__ = ("data", "refused", "skipped", "time_ns")

    def __init__(self) -> None:
        self.data = bytearray()
        self.time_ns = 0  # of the last piece: no message can be complete before it, or detection had decided
        self.refused = False  # the bytes are nothing that is read here
        self.skipped = 0  # bytes passed over since then


class Conversation:
    """Bytes of one connection in, messages out; `ports` are (client's, server's) as the caller sees the roles.

    Sides given to feed, gap and close stay the caller's, also after `roles_swapped` became true; sides of messages are
    the true ones. One call may give messages older than `time_ns`: what was held is read later.
    """

    __slots__ = (
        "_ends",
        "_late_pieces",
        "_losses",
        "_misses",
        "_parser",
        "_ports",
        "_probes",
        "_roles_known",
        "_silence_limit",
        "_topic_ids",
        "_tunnels",
        "is_datagram",
        "kind",
        "opaque",
        "roles_swapped",
    )

    idle: Final = False
    """A new one would know as much: never said of what has to find out what is spoken."""

    def __init__(
        self,
        losses: Losses,
        ports: tuple[int, int],
        *,
        is_datagram: bool = False,
        topic_ids: TopicIds | None = None,
        ends: tuple[bytes, ...] = (b"",),
        roles_known: bool = False,
        joined: bool = False,
    ) -> None:
        """`topic_ids` are shared with other connections, by the addresses in `ends`; `roles_known`: never swap them.

        `joined`: its beginning was not seen.
        """
        self._losses = losses
        self._ports = ports
        self._topic_ids = topic_ids
        self._ends = ends
        self._roles_known = roles_known
        self._silence_limit = JOINED_SILENCE_LIMIT if joined else SILENCE_LIMIT
        self._parser: Parser | None = None
        # Only while a stream is undecided: of datagrams, and of what was decided, there may be very many.
        self._probes = [] if is_datagram else [_Probe(), _Probe()]
        self._misses = 0
        self._tunnels = TUNNELS
        self._late_pieces = 0 if KAFKA_PORTS.isdisjoint(ports) else LATE_PIECES
        if not STARTTLS_PORTS.isdisjoint(ports):
            self._late_pieces = LATE_HELLO_PIECES
        self.is_datagram = is_datagram
        """Each feed is one datagram (UDP), not a piece of a stream (TCP)."""
        self.kind = Detected.MORE
        """What the connection speaks; stays MORE where nobody can tell."""
        self.opaque = False
        """Nothing more will be read: bytes need not be fed, nor kept."""
        self.roles_swapped = False
        """The bytes of the caller's Side.CLIENT are a server's: the caller guessed in mid-connection, and wrong."""

    def resume(self, kind: Detected) -> Parser:
        """Begin where another reader has stopped, who knew what is spoken and by whom; the parser, to be told more."""
        self._begin(Side.CLIENT, Detection(kind, Side.CLIENT))
        self._probes = []
        assert self._parser is not None
        return self._parser

    def feed(self, side: Side, data: bytes, time_ns: int) -> list[Message]:
        """Take the next bytes of a side (of a UDP pair: one datagram) and give the messages they complete."""
        if (parser := self._parser) is not None:
            messages = parser.feed(side.other if self.roles_swapped else side, data, time_ns)
            if parser.opaque:
                self.opaque = True
                if isinstance(parser, Http1) and parser.upgrade is not None:
                    messages += self._upgrade(parser.upgrade)
            return messages
        if self.opaque:
            return []
        return self._probe_datagram(side, data, time_ns) if self.is_datagram else self._probe(side, data, time_ns)

    def gap(self, side: Side, size: int) -> None:
        """`size` bytes of a side were lost."""
        if self._parser is not None:
            self._parser.gap(side.other if self.roles_swapped else side, size)
            self.opaque = self._parser.opaque
        elif self._probes:
            skipped = self._probes[side].skipped + size
            self._probes[side] = _Probe()  # what follows may be a start again
            self._probes[side].skipped = skipped

    def close(self, side: Side) -> list[Message]:
        """The side has sent its last byte (FIN, RST or the capture's end)."""
        if self._parser is not None:
            messages = self._parser.close(side.other if self.roles_swapped else side)
            self.opaque = self._parser.opaque
            return messages
        if self._probes:
            self._refuse(self._probes[side])
        return []

    def _probe(self, side: Side, data: bytes, time_ns: int) -> list[Message]:
        probe = self._probes[side]
        if probe.refused:
            if self._late_pieces and (detection := detect.late(data, self._ports)).kind in PARSERS:
                return self._start_late(side, detection, data, time_ns)
            probe.skipped += len(data)
            if self._late_pieces:
                self._late_pieces -= 1
                if not self._late_pieces and all(each.refused for each in self._probes):
                    self._give_up()
            self._lose_patience(side)
            return []
        waiting = bool(probe.data)
        probe.data += data
        probe.time_ns = time_ns
        if waiting and may_start(probe.data) and b"\n" not in data:
            # An unfinished line stays unfinished: looking again at every byte would be quadratic.
            detection = detect.MORE
        else:
            detection = detect.stream(probe.data, self._ports)
        if detection.kind is Detected.MORE and len(probe.data) <= PROBE_LIMIT:
            return []
        if detection.kind not in PARSERS:
            self._refuse(probe)
            if waiting and self._late_pieces and (detection := detect.late(data, self._ports)).kind in PARSERS:
                return self._start_late(side, detection, data, time_ns)
            self._lose_patience(side)
            return []
        return self._start(side, detection)

    def _refuse(self, probe: _Probe) -> None:
        """Look no more at this side; with both sides refused the connection is opaque."""
        if probe.refused:
            return
        probe.refused = True
        # A broken request is told from another protocol by the answer: if that is HTTP, the parser shall count it.
        is_request = bytes(probe.data[: METHOD_LIMIT + 1]).partition(b" ")[0] in METHODS
        kept = probe.data.find(b"\n") + 1 if is_request else 0
        probe.skipped += len(probe.data) - kept
        del probe.data[kept:]
        if all(each.refused for each in self._probes) and not self._late_pieces:
            self._give_up()

    def _lose_patience(self, side: Side) -> None:
        """Give up where this side has said very much, nothing of it was read, and the other is silent."""
        if not self._probes or self._late_pieces or self._probes[side].skipped <= self._silence_limit:
            return
        other = self._probes[side.other]
        if not (other.data or other.skipped or other.refused):
            self._give_up()

    def _give_up(self) -> None:
        self.opaque = True
        self._probes = []

    def _start_late(self, side: Side, detection: Detection, data: bytes, time_ns: int) -> list[Message]:
        """Begin with this piece, behind others that nobody could read."""
        self._probes[side].data, self._probes[side].time_ns = bytearray(data), time_ns
        if detection.kind is Detected.TLS:
            self._probes[side.other] = _Probe()  # what was said before is no part of it
        return self._start(side, detection)

    def _start(self, side: Side, detection: Detection) -> list[Message]:
        """Give the parser what both sides have said."""
        self._begin(side, detection)
        probe, other = self._probes[side], self._probes[side.other]
        self._probes = []
        if (other.data or other.skipped) and not (other.refused and other.data):
            # What came is no start, or not yet while the side before it speaks: its position is unknown.
            self.gap(side.other, other.skipped or 1)
            other.skipped = 0
        messages: list[Message] = []
        if other.data:
            messages += self.feed(side.other, bytes(other.data), other.time_ns)
        if other.skipped:
            self.gap(side.other, other.skipped)
        return messages + self.feed(side, bytes(probe.data), probe.time_ns)

    def _begin(self, side: Side, detection: Detection) -> None:
        self.kind = detection.kind
        self.roles_swapped = detection.side is not None and detection.side is not side and not self._roles_known
        if detection.kind is Detected.KAFKA:
            self._parser = Kafka(self._losses, self._topic_ids, self._ends)
        else:
            self._parser = PARSERS[detection.kind](self._losses)

    def _upgrade(self, upgrade: Upgrade) -> list[Message]:
        """What follows the 101 is HTTP/2; what follows an answered CONNECT is looked at anew (TLS, as a rule)."""
        if upgrade.request is None:
            if not self._tunnels:
                return []
            self._tunnels -= 1
            self.kind = Detected.MORE
            self.opaque = False
            self._parser = None
            self._probes = [_Probe(), _Probe()]
            swapped = self.roles_swapped
            return [
                message
                for side, data, time_ns in upgrade.rest
                for message in self.feed(side.other if swapped else side, data, time_ns)
            ]
        self.kind = Detected.HTTP2
        self._parser = Http2(self._losses, upgrade.request)
        messages = [message for piece in upgrade.rest for message in self._parser.feed(*piece)]
        self.opaque = self._parser.opaque
        return messages

    def _probe_datagram(self, side: Side, data: bytes, time_ns: int) -> list[Message]:
        detection = detect.datagram(data, self._ports)
        if detection.kind not in PARSERS:
            self._misses += 1
            if self._misses >= DATAGRAM_PROBES:
                self._give_up()
            return []
        self._begin(side, detection)
        return self.feed(side, data, time_ns)
