"""DNS over UDP and TCP: queries and answers out, paired by side, id, name and type.

In: datagrams, or bytes of a stream with two octets of length before each message (RFC 1035, 4.2). An answer carries the
time since the first query it answers. Malformed messages are counted by reason; what dns_message.py could read of them
is told. It refuses to know the format, and who resolves for whom.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from observer.extra import DnsAnswer
from observer.l7.detect import Detected
from observer.l7.dns_message import HEADER_SIZE, MalformedError, is_plausible_header, is_response, read_message
from observer.l7.dns_types import type_names
from observer.l7.message import Message, Side
from observer.losses import Losses
from observer.record import L7Kind, L7Type

# Looking members up in their class is slow, and done for every message.
DNS = L7Kind.DNS
CLIENT, SERVER = Side.CLIENT, Side.SERVER
REQUEST, RESPONSE = L7Type.REQUEST, L7Type.RESPONSE

PENDING_LIMIT: Final = 1_024
"""Queries of one connection that wait for their answers."""

QUERY_TIMEOUT_NS: Final = 120 * 10**9
"""A query unanswered for this long is asked anew when it comes again."""

MALFORMED_LIMIT: Final = 8
"""Unreadable messages in a row after which a connection counts as opaque."""

MEMO_LIMIT: Final = 4_096
"""Queries remembered, because the same are asked again and again."""

MEMO_SIZE: Final = 128
"""Octets of one that is remembered."""

_queries: Final[dict[bytes, tuple[tuple[bytes, ...], int | None, DnsAnswer | None]]] = {}
"""What sound queries say, by what stands behind their ids."""

_SHORT: Final = struct.Struct("!H")

_Key = tuple[Side, int, bytes, int | None]


class _Exchange:
    """Queries of one connection and the answers to them."""

    __slots__ = ("_losses", "_malformed", "_pending", "opaque")  # there is one for every port that asks

    def __init__(self, losses: Losses) -> None:
        self.opaque = False
        self._losses = losses
        # The first query and how often it was asked, those asked last behind the others.
        self._pending: dict[_Key, tuple[Message, int]] = {}
        self._malformed = 0  # in a row

    def _message(self, side: Side, data: bytes, time_ns: int) -> list[Message]:
        known = _queries.get(data[2:])
        if known is not None:
            self._malformed = 0
            number = data[0] << 8 | data[1]
            query = Message(DNS, REQUEST, side, time_ns, known[0], known[1])
            query.id, query.dns = number, known[2]
            self._ask(query)
            return [query]
        try:
            read = read_message(data)
        except MalformedError as malformed:
            self._losses.count("dns", str(malformed))
            self._malformed += 1
            self.opaque = self._malformed >= MALFORMED_LIMIT
            return []
        self._malformed = 0
        if read.damage:
            self._losses.count("dns", read.damage)
        if read.untold:
            self._losses.count("dns", "too many answers", read.untold)
        message = Message(DNS, RESPONSE if read.is_response else REQUEST, side, time_ns, (read.query,), read.qtype)
        message.id = read.id
        message.dns = DnsAnswer(
            tuple(read.ips),
            tuple(read.cnames),
            read.ttl or 0,
            type_names(read.qtypes),
            type_names(tuple(read.rrtypes)),
        )
        message.incomplete = bool(read.damage or read.untold)
        if read.is_response:
            message.code = read.rcode
            self._answer(message)
        else:
            self._ask(message)
            if not message.incomplete and len(data) <= MEMO_SIZE:
                if len(_queries) >= MEMO_LIMIT:
                    _queries.clear()
                _queries[data[2:]] = message.texts, message.method, message.dns
        return [message]

    def _ask(self, query: Message) -> None:
        key = (query.side, query.id or 0, query.texts[0].lower(), query.method)
        pending = self._pending
        if not pending:  # as nearly always
            pending[key] = (query, 1)
            return
        known = pending.pop(key, None)
        first, asked = known or (query, 0)
        if query.time_ns - first.time_ns > QUERY_TIMEOUT_NS:
            first, asked = query, 0
        elif not asked and len(pending) >= PENDING_LIMIT:
            del pending[next(iter(pending))]
            self._losses.count("dns", "too many pending queries")
        pending[key] = (first, asked + 1)

    def _answer(self, response: Message) -> None:
        pending = self._pending
        asker = SERVER if response.side is CLIENT else CLIENT
        key: _Key = (asker, response.id or 0, response.texts[0].lower(), response.method)
        if response.method is None and response.id:  # an error may come without its question (RFC 1035, 4.1.1)
            key = next((each for each in reversed(pending) if each[:2] == key[:2]), key)
        waiting = pending.get(key)
        if waiting is None:
            return
        query, asked = waiting
        if asked > 1:
            pending[key] = (query, asked - 1)  # it was asked again and may be answered again
        elif len(pending) == 1:
            pending.clear()  # unlike an emptied dict it keeps no table, and most ports ask only once
        else:
            del pending[key]
        if response.time_ns < query.time_ns:
            return
        response.request = query
        response.latency_ns = response.time_ns - query.time_ns
        if response.method is None:
            response.texts, response.method = query.texts, query.method


class DnsDatagrams(_Exchange):
    """Parser of one UDP pair: each feed is one message."""

    __slots__ = ()

    def feed(self, side: Side, data: bytes, time_ns: int) -> list[Message]:
        """Read one datagram."""
        return [] if self.opaque else self._message(side, data, time_ns)

    def gap(self, side: Side, size: int) -> None:
        """A datagram lost is a message lost, no more."""

    def close(self, side: Side) -> list[Message]:
        """Nothing is held."""
        return []


class DnsPair(DnsDatagrams):
    """A UDP pair with a port of DNS's: what a Conversation is to others.

    Nothing has to be found out but who asks, and every port that asks one query has such a pair for as long as the
    answer takes: they are many, so this is one object with little in it.
    """

    __slots__ = ("_may_swap", "roles_swapped")

    kind: Final = Detected.DNS_DATAGRAM

    def __init__(self, losses: Losses, *, roles_known: bool) -> None:
        """`roles_known`: never swap them."""
        super().__init__(losses)
        self._may_swap = not roles_known
        self.roles_swapped = False
        """The datagrams of the caller's Side.CLIENT are a server's: he guessed in mid-connection, and wrong."""

    @property
    def idle(self) -> bool:
        """Every query was answered, and nothing malformed came since: a new pair would know as much."""
        return not (self._pending or self._malformed)

    def feed(self, side: Side, data: bytes, time_ns: int) -> list[Message]:
        """Read one datagram; the first says who asks."""
        if self._may_swap:
            self._may_swap = False
            self.roles_swapped = is_response(data) == (side is CLIENT)
        if self.opaque:
            return []
        return self._message(side.other if self.roles_swapped else side, data, time_ns)


@dataclass(slots=True)
class _Framing:
    """One side's place in its frames."""

    buffer: bytearray = field(default_factory=bytearray)
    need: int = 0  # octets of the message whose length was read; 0: the length comes next
    skip: int = 0  # octets left of a message that lost bytes
    doubtful: bool = False  # bytes were lost: the next frame has to look like one


class DnsStream(_Exchange):
    """Parser of one TCP connection: messages behind two octets of length (RFC 1035, 4.2.2)."""

    def __init__(self, losses: Losses) -> None:
        super().__init__(losses)
        self._framings = (_Framing(), _Framing())

    def feed(self, side: Side, data: bytes, time_ns: int) -> list[Message]:
        """Take the next bytes of a side and give the messages they complete."""
        framing = self._framings[side]
        out: list[Message] = []
        position, size = 0, len(data)
        while position < size and not self.opaque:
            if framing.skip:
                step = min(framing.skip, size - position)
                framing.skip -= step
                position += step
                continue
            wanted = (framing.need or 2) - len(framing.buffer)
            piece = data[position : position + wanted]
            position += len(piece)
            if len(piece) < wanted:
                framing.buffer += piece
                break
            if framing.buffer:
                framing.buffer += piece
                piece = bytes(framing.buffer)
                framing.buffer.clear()
            if not framing.need:
                framing.need = _SHORT.unpack(piece)[0]
                if not framing.need:
                    self._unframed("empty message")
                continue
            framing.need = 0
            out += self._frame(framing, side, piece, time_ns)
        return out

    def _frame(self, framing: _Framing, side: Side, data: bytes, time_ns: int) -> list[Message]:
        if framing.doubtful and not (len(data) >= HEADER_SIZE and is_plausible_header(data[:HEADER_SIZE], len(data))):
            self._losses.count("dns", "framing lost with bytes")
            self.opaque = True
            return []
        framing.doubtful = False
        return self._message(side, data, time_ns)

    def _unframed(self, reason: str) -> None:
        self._losses.count("dns", reason)
        self._malformed += 1
        self.opaque = self._malformed >= MALFORMED_LIMIT

    def gap(self, side: Side, size: int) -> None:
        """Pass over the rest of the message that lost bytes; beyond it the next frame is doubtful."""
        framing = self._framings[side]
        left = framing.skip or framing.need - len(framing.buffer)
        if framing.skip or framing.need:
            if not framing.skip:
                self._losses.count("dns", "message lost bytes")
            framing.skip = max(0, left - size)
            framing.doubtful |= size > left
        else:
            framing.doubtful = True
        framing.need = 0
        framing.buffer.clear()

    def close(self, side: Side) -> list[Message]:
        """Count what the side left unfinished."""
        framing = self._framings[side]
        if framing.buffer or framing.need:
            self._losses.count("dns", "message cut short")
        framing.buffer.clear()
        framing.need = 0
        return []
