"""Connections: which packets belong together, who asked whom, and which packets are worth a flow.

`Packets` enter, events leave one by one, in order: tell a flow of this packet, take its payload, look at its
acknowledgment, this connection has ended. Timeouts run on packet time. A generator, so that what the pipeline learns
from one packet (roles, no more payload wanted) already holds for the next. Knows TCP's flags and sequence numbers of
SYNs (RFC 9293), nothing of payload, identity or policy.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from observer.decode import Packets
from observer.losses import Losses
from observer.record import TcpFlag, TraceReason
from observer.tunnel import Layer
from observer.tuples import ICMP, ICMPV6, KEY, TCP, Shape, keys, quoted_key, reverse

MAX_CONNECTIONS: Final = 65_536
"""Connections held; beyond, the ones silent for longest are forgotten."""

REPORT_NS: Final = 5_000_000_000
"""While packets pass, a direction is told again this long after it was told last."""

TCP_NS: Final = 8_000_000_000_000
"""Silence that ends an established TCP connection; this and the next two as in Cilium's conntrack."""
TCP_SYN_NS: Final = 60_000_000_000
"""The same before the other side has answered."""
TCP_CLOSED_NS: Final = 10_000_000_000
"""The same after RST or both FINs."""
OTHER_NS: Final = 60_000_000_000
"""Silence that ends what is not TCP."""

SWEEP_NS: Final = 10_000_000_000
"""Packet time between two looks for what has ended; whether a packet still belongs is exact all the same."""

# No timeout is shorter than TCP_CLOSED_NS, nor that than REPORT_NS: a packet after one always comes through the slow
# path of `track`.

LANE_SHIFT: Final = 48
"""Lanes of `track` as numbers to sort by: the connection's own number is in the lower bits."""

SYN: Final = int(TcpFlag.SYN)
ACK: Final = int(TcpFlag.ACK)
FIN: Final = int(TcpFlag.FIN)
RST: Final = int(TcpFlag.RST)
TOLD: Final = SYN | FIN | RST
"""The flags of which the first in each direction is told."""

# ICMP types (RFC 792, RFC 4443): an echo and its reply are a pair, an error belongs to the packet it quotes.
ECHO_REPLY: Final = {(ICMP, 0): 8, (ICMPV6, 129): 128}
ERRORS: Final = {(ICMP, 3), (ICMP, 4), (ICMP, 5), (ICMP, 11), (ICMP, 12), *((ICMPV6, kind) for kind in (1, 2, 3, 4))}


class What(enum.IntFlag):
    """What a packet is good for; an event carries at least one."""

    TELL = 1  # a flow of its own
    DATA = 2  # it has payload that is wanted
    ACK = 4  # its acknowledgment may tell that a hole of the other direction will not be filled
    END = 8  # no packet: the connection has ended


class Roles(enum.IntEnum):
    """How sure it is which side is the client."""

    UNKNOWN = 0  # whoever was seen first, for lack of better
    PORTS = 1  # by the ports
    KNOWN = 2  # by SYN, by being the first datagram, or by what the bytes say


# Looking members up in their class is slow, and this is done for every packet told.
NEW, ESTABLISHED, REPLY, RELATED = TraceReason.NEW, TraceReason.ESTABLISHED, TraceReason.REPLY, TraceReason.RELATED
UNKNOWN, PORTS, KNOWN = Roles.UNKNOWN, Roles.PORTS, Roles.KNOWN
HAS_PORTS, NO_REPLY = int(Shape.PORTS), int(Shape.ICMP)
TELL, DATA, ACKED, END = int(What.TELL), int(What.DATA), int(What.ACK), int(What.END)


class Half:
    """One direction of a connection: the packets that one side sends."""

    __slots__ = (
        "bytes", "common", "connection", "is_reply", "isn", "key", "last_ns", "other", "outer", "packets", "side",
        "stream", "tells", "told", "told_ns", "wake_ns", "wants_acks", "wants_payload", "watch",
    )  # fmt: skip

    other: Half

    def __init__(self, connection: Connection, key: bytes, watch: int) -> None:
        self.connection = connection
        self.key = key
        self.is_reply = False
        self.packets = 0
        self.bytes = 0  # IP lengths
        self.last_ns = 0
        self.wake_ns = 0  # packets from this time on need more than counting
        self.watch = watch  # and so do packets with one of these TCP flags
        self.told = 0  # flags of TOLD that were
        self.told_ns = 0
        self.tells = 0
        self.isn = -1  # sequence number of the SYN
        self.wants_payload = True
        self.wants_acks = False
        self.outer: Layer | None = None  # of the packet told last: the tunnel that it came through
        self.side: Any = None  # the pipeline's, as are the next
        self.stream: Any = None
        self.common: Any = None  # made of the key, among others

    @property
    def reason(self) -> TraceReason:
        """Why the flow being told is told, in Cilium's terms."""
        connection = self.connection
        if connection.related is not None:
            return RELATED
        if connection.roles is UNKNOWN or (connection.joined and connection.first is self and self.tells == 1):
            return ESTABLISHED
        if self.is_reply:
            return REPLY
        return NEW if self.tells == 1 and not connection.joined else ESTABLISHED

    def want_acks(self, wanted: bool) -> None:
        """Ask for What.ACK of every packet of this direction, or no longer."""
        self.wants_acks = wanted
        self.wake_ns = 0 if wanted else self.told_ns + REPORT_NS


class Connection:
    """Two directions and what is known of both; addresses and ports are those of the client."""

    __slots__ = (
        "asker", "challenge", "client", "conversation", "first", "icmp_type", "joined", "notes", "number",
        "protocol", "related", "roles", "server", "tag",
    )  # fmt: skip

    client: Half
    server: Half
    first: Half

    def __init__(self, number: int, protocol: int) -> None:
        self.number = number
        self.protocol = protocol
        self.icmp_type: int | None = None  # of the request, where the protocol is ICMP
        self.joined = False  # its first packets were not seen
        self.roles = KNOWN
        self.related: Connection | None = None  # an ICMP error's: what it is about
        self.challenge = -1  # sequence number of a SYN that came while the connection stood
        self.asker: Half | None = None  # the pipeline's, as are the next
        self.conversation: Any = None
        self.notes: Any = None
        self.tag: Any = None

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.client.key[39]

    @property
    def client_ip(self) -> bytes:
        """16 bytes."""
        return self.client.key[:16]

    @property
    def server_ip(self) -> bytes:
        """16 bytes."""
        return self.client.key[16:32]

    @property
    def client_port(self) -> int:
        """0 without ports."""
        return int.from_bytes(self.client.key[32:34], "big") if self.client.key[40] == HAS_PORTS else 0

    @property
    def server_port(self) -> int:
        """0 without ports."""
        return int.from_bytes(self.client.key[34:36], "big") if self.client.key[40] == HAS_PORTS else 0

    @property
    def last_ns(self) -> int:
        """When its last packet passed."""
        return max(self.client.last_ns, self.server.last_ns)

    @property
    def closed(self) -> bool:
        """A TCP connection that both sides, or a RST, have ended."""
        told = self.client.told | self.server.told
        return bool(told & RST or self.client.told & self.server.told & FIN)

    @property
    def timeout_ns(self) -> int:
        """The silence after which it has ended."""
        if self.protocol != TCP:
            return OTHER_NS
        if self.closed:
            return TCP_CLOSED_NS
        return TCP_NS if self.client.packets and self.server.packets else TCP_SYN_NS

    def swap_roles(self) -> None:
        """The client is the server: what was guessed in mid-connection was wrong."""
        self.client, self.server = self.server, self.client
        self.client.is_reply = False
        self.server.is_reply = True


class Conntrack:
    """The table of connections of one packet source."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._halves: dict[bytes, Half] = {}
        self._connections: dict[int, Connection] = {}
        # Who sent a SYN, by the tuple without its network; nobody as long as all packets were of one network.
        self._askers: dict[bytes, Half] | None = None
        self._vlan = -1  # of the first packet
        self._number = 0
        self._swept_ns = 0

    def __len__(self) -> int:
        """Connections held."""
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        """Every connection held, oldest first; none may be opened meanwhile."""
        return iter(self._connections.values())

    def track(
        self, packets: Packets, lane: Callable[[Connection], int] | None = None
    ) -> Iterator[tuple[int, Half, int]]:
        """Yield (row, half, What bits) of the packets worth it, in order; END carries the row that made room.

        With `lane` the packets of connections for which it is not 0 come behind all others, lane by lane and connection
        by connection: the same work at a stretch takes the processor a fifth less time. It may be given for who keeps
        nothing in common between such connections and others.
        """
        get = self._halves.get
        if self._askers is None and self._mixes_networks(packets):
            self._askers = {_ends(each.client.key): each.client for each in self if each.protocol == TCP}
        names = keys(packets)
        rows: Sequence[int] = range(len(names))
        columns: Sequence[npt.NDArray[Any]] = (
            packets.time_ns,
            packets.tcp_flags,
            packets.payload_length + packets.payload_missing > 0,
            packets.ip_length,
        )
        if lane is not None and (order := self._order(packets, names, lane)) is not None:
            rows = order.tolist()
            names = list(itemgetter(*rows)(names))
            columns = [column[order] for column in columns]
        lists = [column.tolist() for column in columns]
        for row, key, time_ns, flags, payload, size in zip(rows, names, *lists, strict=True):
            half = get(key)
            what = 0
            if half is not None and (time_ns >= half.wake_ns or flags & half.watch):
                ends, what = self._look(half, packets, row, time_ns, flags)
                if ends:
                    yield row, half, END
                    self._forget(half.connection)
                    half = get(key)
            if half is None:
                for victim in self._make_room():
                    yield row, victim.client, END
                    self._forget(victim)
                if self._askers is not None:
                    half = self._answering(packets, row, key, flags)
                if half is None:
                    half = self._open(packets, row, key, flags)
                what = self.tell(half, time_ns, flags)
            half.packets += 1
            half.bytes += size
            half.last_ns = time_ns
            if payload and half.wants_payload:
                what |= DATA
            if what:
                yield row, half, what

    def _order(
        self, packets: Packets, names: list[bytes], lane: Callable[[Connection], int]
    ) -> npt.NDArray[np.intp] | None:
        """The rows lane by lane; None where they have to stay as they are."""
        if len(names) < 2 or self._askers is not None:
            return None
        last_ns = int(packets.time_ns.max())
        lanes = dict.fromkeys(names, 0)
        # Nothing may end in a lane, and so nothing begin: connections are numbered as they begin.
        if len(self._connections) + len(lanes) > MAX_CONNECTIONS or last_ns - packets.time_ns.min() >= TCP_CLOSED_NS:
            return None
        get = self._halves.get
        alive_ns = last_ns - TCP_CLOSED_NS
        for key in lanes:
            half = get(key)
            if half is not None and (half.last_ns > alive_ns or half.other.last_ns > alive_ns):
                number = lane(half.connection)
                lanes[key] = number << LANE_SHIFT | half.connection.number if number else 0
        for row in np.flatnonzero(packets.tcp_flags & SYN).tolist():
            for key in (names[row], reverse(names[row])):
                if key in lanes:
                    lanes[key] = 0
        if not any(lanes.values()):
            return None
        return np.argsort(np.fromiter(map(lanes.__getitem__, names), np.int64, len(names)), kind="stable")

    def advance(self, time_ns: int) -> Iterator[Connection]:
        """Yield the connections that have ended by silence, each still whole; forget it afterwards."""
        if time_ns < self._swept_ns + SWEEP_NS:
            return
        self._swept_ns = time_ns
        for connection in [each for each in self if time_ns - each.last_ns >= each.timeout_ns]:
            yield connection
            self._forget(connection)

    def clear(self) -> None:
        """Forget every connection."""
        for connection in list(self):
            self._forget(connection)

    def _look(self, half: Half, packets: Packets, row: int, time_ns: int, flags: int) -> tuple[bool, int]:
        """Whether the packet ends the connection it seems to belong to, and else what it is good for."""
        connection = half.connection
        # Nearly always one of the halves was heard not long ago, and that takes a fraction of asking the connection.
        if (
            time_ns - half.other.last_ns >= TCP_CLOSED_NS
            and time_ns - half.last_ns >= TCP_CLOSED_NS
            and time_ns - connection.last_ns >= connection.timeout_ns
        ):
            return True, 0
        what = 0
        if flags & SYN and connection.protocol == TCP:
            sequence = int(packets.sequence[row])
            if flags & ACK:
                confirmed = (int(packets.acknowledgment[row]) - 1) & 0xFFFFFFFF
                if confirmed == connection.challenge and sequence != half.isn:
                    return True, 0
            elif sequence != half.isn:
                if half.isn < 0 and half.packets == 0 and not connection.closed:
                    pass  # a simultaneous open (RFC 9293, 3.5)
                elif connection.closed or not half.other.packets:
                    return True, 0
                elif sequence != connection.challenge:
                    # Forged, or the ports are used again and the end was not seen: the SYN-ACK will tell.
                    connection.challenge = sequence
                    return False, self.tell(half, time_ns, flags)
            if half.isn < 0:
                half.isn = sequence
        if not half.tells or flags & TOLD & ~half.told or time_ns >= half.told_ns + REPORT_NS:
            what = self.tell(half, time_ns, flags)
        if half.wants_acks and flags & ACK:
            what |= ACKED
        return False, what

    def tell(self, half: Half, time_ns: int, flags: int) -> int:
        """Note that a flow is told of a packet of this half; What.TELL."""
        half.tells += 1
        if half.connection.protocol == TCP:
            half.told |= flags & TOLD
            half.watch = TOLD & ~half.told | SYN
        half.told_ns = time_ns
        half.wake_ns = 0 if half.wants_acks else time_ns + REPORT_NS
        return TELL

    def _mixes_networks(self, packets: Packets) -> bool:
        """Whether packets come through tunnels, or in more than one VLAN."""
        if self._vlan < 0 and len(packets):
            self._vlan = int(packets.vlan[0])
        return packets.tunnel is not None or bool((packets.vlan != self._vlan).any())

    def _answering(self, packets: Packets, row: int, key: bytes, flags: int) -> Half | None:
        """The half whose first packet this is, where it answers a SYN from another tunnel or VLAN, or from none.

        A network of tunnels may have an id for each direction (Cilium's VNI is the sender's identity), or have tunnels
        in one direction only; a port that mirrors a link may tag one direction, or see another VLAN in each. That the
        SYN-ACK confirms the number of the SYN tells it from equal addresses elsewhere.
        """
        if self._askers is None or flags & (SYN | ACK) != SYN | ACK or key[38] != TCP:
            return None
        asker = self._askers.get(_ends(reverse(key)))
        if asker is None or asker.other.packets or asker.isn != (int(packets.acknowledgment[row]) - 1) & 0xFFFFFFFF:
            return None
        half = asker.other
        if self._halves.get(half.key) is half:
            del self._halves[half.key]
        half.key = key
        half.common = None
        half.isn = int(packets.sequence[row])
        self._halves[key] = half
        return half

    def _open(self, packets: Packets, row: int, key: bytes, flags: int) -> Half:
        """A new connection; the half that the packet belongs to."""
        self._number += 1
        connection = Connection(self._number, key[38])
        watch = TOLD if connection.protocol == TCP else 0
        half = Half(connection, key, watch)  # by place: keywords make this a third dearer
        half.other = Half(connection, reverse(key), watch)
        half.other.other = half
        is_reply = False
        if key[38] == TCP:
            if flags & SYN:
                is_reply = bool(flags & ACK)
                half.isn = int(packets.sequence[row])
            else:
                is_reply, connection.roles = guess(key)
            connection.joined = not flags & SYN or is_reply
        elif key[40] == HAS_PORTS:
            # A datagram that comes first asks, unless it left a privileged port for an unprivileged one.
            is_reply = key[32] < 4 and key[34] >= 4 and key[32:34] != b"\0\0"
            connection.joined = is_reply
            connection.roles = PORTS if is_reply else KNOWN
        else:
            self._icmp(connection, packets, row, key)
            is_reply = connection.joined
        connection.first = half
        connection.client, connection.server = (half.other, half) if is_reply else (half, half.other)
        connection.server.is_reply = True
        self._connections[connection.number] = connection
        self._halves[key] = half
        if self._askers is not None and connection.protocol == TCP and flags & (SYN | ACK) == SYN:
            self._askers[_ends(key)] = half
        if key[40] != NO_REPLY:
            # Both ends of a connection may have the same address and port; then there is one direction only.
            self._halves.setdefault(half.other.key, half.other)
        return half

    def _icmp(self, connection: Connection, packets: Packets, row: int, key: bytes) -> None:
        kind = (connection.protocol, int(packets.icmp_type[row]))
        connection.icmp_type = ECHO_REPLY.get(kind, kind[1])
        connection.joined = kind in ECHO_REPLY
        if kind in ERRORS:
            quoted = self._halves.get(quoted_key(packets.payload(row), key))
            connection.related = quoted.connection if quoted is not None else None

    def _make_room(self) -> list[Connection]:
        """The connections to forget before one more can be held, silent for longest first."""
        if len(self._connections) < MAX_CONNECTIONS:
            return []
        # Some at once, because looking for them takes a pass over all.
        victims = heapq.nsmallest(max(1, MAX_CONNECTIONS // 64), self, key=lambda each: each.last_ns)
        self._losses.count("conntrack", "connection table full", len(victims))
        return victims

    def _forget(self, connection: Connection) -> None:
        del self._connections[connection.number]
        for half in (connection.client, connection.server):
            if self._halves.get(half.key) is half:
                del self._halves[half.key]
            if self._askers is not None and self._askers.get(_ends(half.key)) is half:
                del self._askers[_ends(half.key)]
            # Without these circles nobody has to wait for the garbage collector.
            del half.connection, half.other


def _ends(key: bytes) -> bytes:
    """A key without the network that its addresses are of: VLAN and tunnel."""
    return key[:36] + key[38 : KEY.size]


def guess(key: bytes) -> tuple[bool, Roles]:
    """Whether a packet seen in mid-connection comes from the server, by its ports, and how sure that is."""
    source = int.from_bytes(key[32:34], "big")
    destination = int.from_bytes(key[34:36], "big")
    # Privileged ports are servers'; Linux takes client ports from 32768 up.
    for limit in (1024, 32_768):
        if (source < limit) != (destination < limit):
            return source < limit, Roles.PORTS
    return False, Roles.UNKNOWN
