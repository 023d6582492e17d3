"""What the kernel could not finish, finished in user space: payload snapshots to records, by the parsers of l7/.

Items of the ring `snapshots` enter, and the kernel's own records; both leave as one batch in the order of time, with
extras. A connection that the kernel handed over goes on exactly where it stopped: positions, states and requests that
wait are taken over. DNS answers seen here name the ends of the kernel's connections too. Knows no maps beyond the two
that it is given, and no rings.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from observer.conntrack import Connection
from observer.datapath import http2_state
from observer.datapath.handed import Handed, Reason, Speaks, read_snapshots
from observer.decode import Packets
from observer.extra import Extra
from observer.identity.endpoints import EndpointTable, IpCache
from observer.l7.detect import Detected
from observer.l7.http1 import TRAILER_LIMIT, Http1
from observer.l7.http1_stream import State
from observer.l7.http2 import Http2
from observer.l7.kafka import Kafka
from observer.l7.message import Message, Side
from observer.losses import Losses
from observer.pipeline import Pipeline, Sink
from observer.policy.engine import Engine
from observer.record import EventType, Flags, L7Kind, L7Type, Present, Records, empty, unpack_text
from observer.tag import PolicyMode
from observer.tuples import TCP

MAX_NAMED: Final = 65_536
"""Connections of the kernel whose names are remembered; beyond, the oldest are looked up again."""

LET_GO: Final = b"\x01"
WANTED: Final = b"\x02"
"""Words for the map `let_go`: nothing more is read of a connection; its datagrams are, though no port says so."""

CUT: Final = "…".encode()
"""Stands for what the kernel has cut off a text."""

KINDS: Final = {
    Speaks.HTTP1: Detected.HTTP1,
    Speaks.KAFKA: Detected.KAFKA,
    Speaks.HTTP2: Detected.HTTP2,
}


SIDES: Final = (Side.CLIENT, Side.SERVER)

KAFKA_CUT: Final = 3
"""Bits of bpf/kafka.h: a message of this side is cut over segments, or the place in its bytes is lost."""

KAFKA_SEARCH: Final = 64
"""Correlation ids before that of the last request, beyond as many as wait, under which a request is looked for."""

KAFKA_WAITING: Final = 1_024
"""kafka.PENDING_LIMIT."""


class Requests(Protocol):
    """As much of PendingRequests as is used here."""

    def get(self, connection: int, id: int) -> Any | None:
        """The request that waits in the kernel under this id, a row of PENDING; None if none does."""
        ...


class Table(Protocol):
    """As much of a map of the kernel's as is used here."""

    def set(self, key: bytes, value: bytes) -> None:
        """Write one entry."""
        ...


class Batch(NamedTuple):
    """Flows in the order of their times."""

    records: Records
    extras: list[tuple[int, Extra]]


class Waiting:
    """Flows on their way to the store, until they are taken: several producers put them in, in any order."""

    def __init__(self, endpoints: EndpointTable, losses: Losses) -> None:
        self.endpoints = endpoints
        self.losses = losses
        self.nodes: list[str] = [""]
        self._records: list[Records] = []
        self._extras: list[tuple[int, Extra]] = []
        self._count = 0

    def append(self, records: Records, extras: Sequence[tuple[int, Extra]], node: int = 0) -> None:
        """Take a batch, as a store does."""
        self._extras += [(self._count + row, extra) for row, extra in extras]
        self._records.append(records)
        self._count += len(records)

    def take(self) -> Batch:
        """All there are; of equal times the first that came are first."""
        if not self._records:
            return Batch(empty(0), [])
        records: Records = np.concatenate(self._records) if len(self._records) > 1 else self._records[0]
        extras = self._extras
        self._records, self._extras, self._count = [], [], 0
        times = records["time_ns"]
        if (times[1:] >= times[:-1]).all():
            return Batch(records, extras)
        order = np.argsort(times, kind="stable")
        if extras:
            place = np.empty(len(order), np.intp)
            place[order] = np.arange(len(order))
            extras = sorted(((int(place[row]), extra) for row, extra in extras), key=lambda each: each[0])
        return Batch(records[order], extras)


class Completion:
    """The user space half of the datapath; used by one thread."""

    def __init__(
        self,
        *,
        endpoints: IpCache,
        policy: Engine | None,
        mode: PolicyMode,
        losses: Losses,
        pending: Requests,
        words: Table,
        http2: http2_state.Maps | None = None,
    ) -> None:
        """`pending` are the kernel's requests, `words` is the map let_go, `http2` what is known of dynamic tables."""
        self._waiting = Waiting(endpoints.table, losses)
        self._conntrack = Handed(losses)
        self._conntrack.opened = self._opened
        sink: Sink = self._waiting
        self._pipeline = Pipeline(
            store=sink, endpoints=endpoints, policy=policy, mode=mode, losses=losses, conntrack=self._conntrack
        )
        self._pending = pending
        self._words = words
        self._http2 = http2
        # Names of both ends of the kernel's connections, as they were when each began: client's, server's.
        self._named: OrderedDict[int, tuple[tuple[str, ...], tuple[str, ...]]] = OrderedDict()

    def judge_by(self, endpoints: IpCache, policy: Engine | None) -> None:
        """Judge what is read here by these from now on."""
        self._pipeline.judge_by(endpoints, policy)

    def records(self, records: Records) -> None:
        """Take what the kernel told."""
        if len(records):
            self._waiting.append(records, self._name(records) if len(self._pipeline.names) else [])

    def snapshots(self, items: Sequence[bytes]) -> None:
        """Take what the kernel could not finish."""
        if not items:
            return
        snapshots = read_snapshots(items)
        heads = snapshots.heads
        self._conntrack.follow(heads)
        self._pipeline.packets(snapshots.packets)
        self._conntrack.follow(None)
        spoken = heads[(heads["length"] > 0) & (heads["reason"] != Reason.END)]
        for number, l7 in dict(
            zip(spoken["record"]["connection"].tolist(), spoken["l7"].tolist(), strict=True)
        ).items():
            self._answer(number, l7)

    def packets(self, packets: Packets) -> None:
        """Take packets that the kernel cannot read at all: tunnels, fragments, rare link types."""
        self._pipeline.packets(packets)

    def advance(self, time_ns: int) -> None:
        """End the connections that were silent for too long."""
        self._pipeline.advance(time_ns)

    def finish(self) -> None:
        """End every connection: nothing more comes."""
        self._pipeline.finish()

    def take(self) -> Batch:
        """The flows since the last time."""
        return self._waiting.take()

    def _answer(self, number: int, l7: int) -> None:
        """Tell the kernel what of this connection is wanted, if that is not what it does by itself."""
        connection = self._conntrack.of_kernel(number)
        if connection is None:
            return
        if not connection.client.wants_payload and not connection.server.wants_payload:
            self._words.set(struct.pack("=Q", number), LET_GO)
        elif connection.protocol != TCP and l7 == Speaks.UNDECIDED and connection.asker is not None:
            self._words.set(struct.pack("=Q", number), WANTED)

    # Connections that the kernel has read so far

    def _opened(self, connection: Connection, head: Any) -> None:
        """Go on where the kernel has stopped."""
        kind = KINDS.get(head["l7"])
        if connection.protocol != TCP or head["l7"] not in (Speaks.UNDECIDED, *KINDS):
            return
        starts: list[int | None] = [None, None]
        cut = head["parser"][:, 0] & KAFKA_CUT if kind is Detected.KAFKA else (0, 0)
        for side in SIDES:
            if head["synced"] >> side & 1:
                # What is left of Kafka's frame counts as read: with the octet behind it a message begins.
                left = int(head["left"][side]) if kind is Detected.KAFKA and not cut[side] else 0
                starts[side] = int(head["next_sequence"][side]) + left & 0xFFFFFFFF
        if kind is None:
            self._pipeline.start(connection, (starts[0], starts[1]))
            return
        parser = self._pipeline.take_over(connection, (starts[0], starts[1])).resume(kind)
        if isinstance(parser, Http1):
            for side in SIDES:
                parser.resume(side, *http_state(head["parser"][side].tolist(), int(head["left"][side])))
            first, last = int(head["shared"][1]), int(head["shared"][0])
            parser.asked(self._asked(connection.number, range(first, last)))
        elif isinstance(parser, Http2):
            http2_state.resume(
                parser, connection.number, head, self._http2, lambda stream: self._stream(connection.number, stream)
            )
        elif isinstance(parser, Kafka):
            for side in SIDES:
                if cut[side]:
                    parser.gap(side, 1)
            last, waiting = int(head["last_id"]), int(head["waiting"])
            ids = range(last - min(waiting + KAFKA_SEARCH, KAFKA_WAITING) + 1, last + 1) if waiting else range(0)
            asked = zip(ids, self._asked(connection.number, ids), strict=True)
            parser.asked([numbered(request, each) for each, request in asked if request is not None])

    def _stream(self, number: int, stream: int) -> tuple[Message, bytes] | None:
        """The request of an HTTP/2 stream that waits in the kernel, and what its parser knew of the response."""
        pending = self._pending.get(number, stream)
        if pending is None:
            return None
        request = waiting_request(pending)
        request.id = stream
        return request, pending["parser"].tobytes()

    def _asked(self, number: int, ids: range) -> list[Message | None]:
        """The requests that wait in the kernel under these ids; None for one that was pushed out, or is ambiguous."""
        rows = (self._pending.get(number, each & 0xFFFFFFFF) for each in ids)
        return [None if row is None or row["is_ambiguous"] else waiting_request(row) for row in rows]

    # Names

    def _name(self, records: Records) -> list[tuple[int, Extra]]:
        """The extras of records whose ends were named by DNS answers; the records are marked."""
        numbers = records["connection"].tolist()
        extras = []
        for row, number in enumerate(numbers):
            names = self._named.get(number)
            if names is None:
                names = self._look_up(records[row])
                if len(self._named) >= MAX_NAMED:
                    self._named.popitem(last=False)
                self._named[number] = names
            if names[0] or names[1]:
                is_reply = bool(records[row]["is_reply"])
                extra = Extra()
                extra.source_names, extra.destination_names = names[::-1] if is_reply else names
                records["flags"][row] |= Flags.EXTRA
                extras.append((row, extra))
        return extras

    def _look_up(self, record: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of client and server, as the other knows them."""
        ends = record["source_ip"].tobytes(), record["destination_ip"].tobytes()
        client, server = ends[::-1] if record["is_reply"] else ends
        place = int(record["vlan"]).to_bytes(2, "big")
        lookup, time_ns = self._pipeline.names.lookup, int(record["time_ns"])
        return lookup(place + server, client, time_ns), lookup(place + client, server, time_ns)


# States of bpf/http.h, by their numbers there, and what of an unfinished line each stands for.
_HTTP_STATES: Final = (
    (State.START, b""),
    (State.CHUNK_SIZE, b""),
    (State.CHUNK_SIZE, b"%x"),
    (State.CHUNK_SIZE, b"%x "),
    (State.CHUNK_SIZE, b"%x;"),
    (State.CHUNK_SIZE, b"%x\r"),
    (State.CHUNK_DATA, b""),
    (State.CHUNK_END, b""),
    (State.CHUNK_END, b"\r"),
    (State.TRAILER, b""),
    (State.TRAILER, b"\r"),
    (State.TRAILER, b"-"),
    (State.UNTIL_CLOSE, b""),
)


def http_state(parser: Sequence[int], left: int) -> tuple[State, int, bytes]:
    """The state of one direction as the kernel's parser left it, octets to come, and the beginning of its line."""
    state, line = _HTTP_STATES[parser[0]]
    if b"%" in line:
        line %= parser[1] | parser[2] << 32
    if state is State.START and left:
        state = State.BODY
    return state, TRAILER_LIMIT - parser[3] if state is State.TRAILER else left, line


def numbered(request: Message, correlation: int) -> Message:
    """A request of Kafka's under its own id, which has a sign."""
    correlation &= 0xFFFFFFFF
    request.id = correlation - (correlation >> 31 << 32)
    return request


def waiting_request(pending: Any) -> Message:
    """A request of `pending_requests` as the parser that takes it over would have told it."""
    texts = list(unpack_text(pending))
    while len(texts) > 2 and not texts[-1]:
        texts.pop()
    if pending["flags"] & Flags.TEXT_CUT:
        longest = max(range(len(texts)), key=lambda slot: len(texts[slot]))
        texts[longest] += CUT  # too long for a record again, which says that there was more
    words = ("drop_reason_desc", "direction", "egress_rule", "ingress_rule", "policy_match")
    judged = (int(pending["verdict"]), int(EventType.L7), *(int(pending[word]) for word in words))
    return Message(
        L7Kind(int(pending["l7_kind"])),
        L7Type.REQUEST,
        Side.CLIENT,
        int(pending["time_ns"]),
        tuple(texts),
        int(pending["l7_method"]) if pending["present"] & Present.METHOD else None,
        int(pending["l7_version"]),
        judged=judged,
        incomplete=bool(pending["flags"] & Flags.L7_INCOMPLETE),
    )
