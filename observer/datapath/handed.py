"""Connections that the kernel handed over: payload snapshots as packets, and the conntrack that knows whose they are.

Items of the ring `snapshots` enter (struct snapshot of bpf/maps.h); `Packets` leave, and of them events as from any
conntrack. The kernel has counted, timed and numbered these connections, so nothing of that is done again: a snapshot
says which connection it belongs to and what the kernel knew of it. Knows nothing of payload.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from observer.conntrack import ACKED, DATA, END, TOLD, Connection, Conntrack, Half, Roles
from observer.decode import Packets
from observer.record import RECORD, Present, TcpFlag
from observer.tuples import TCP, keys, reverse

SNAPSHOT: Final = np.dtype(
    [
        ("record", RECORD),
        ("left", "<u8", (2,)),
        ("next_sequence", "<u4", (2,)),
        ("initial_sequence", "<u4", (2,)),
        ("packets", "<u4", (2,)),
        ("parser", "<u4", (2, 6)),
        ("shared", "<u4", (4,)),
        ("length", "<u4"),
        ("missing", "<u4"),
        ("sequence", "<u4"),
        ("acknowledgment", "<u4"),
        ("tells", "<u4"),
        ("last_id", "<u4"),
        ("waiting", "<u4"),
        ("told", "<u2", (2,)),
        ("tcp_flags", "<u2"),
        ("side", "u1"),
        ("reason", "u1"),
        ("l7", "u1"),
        ("synced", "u1"),
        ("has_initial", "u1"),
        ("roles", "u1"),
        ("joined", "u1"),
        ("first", "u1"),
        ("is_told", "u1"),
        ("pad", "u1", (5,)),
    ]
)
"""`struct snapshot`, without the octets behind it."""

HEAD_SIZE: Final = SNAPSHOT.itemsize
SYN: Final = int(TcpFlag.SYN)
ACK: Final = int(TcpFlag.ACK)


class Reason(enum.IntEnum):
    """Why payload came to user space."""

    UNDECIDED = 1
    DATAGRAM = 2
    GAP = 3
    LONG = 4
    RULE = 5
    MORE = 6
    END = 7


class Speaks(enum.IntEnum):
    """enum l7: what the kernel knew a connection to speak when it handed it over."""

    UNDECIDED = 0
    HTTP1 = 1
    KAFKA = 2
    HTTP2 = 3
    USER = 4
    OPAQUE = 5


@dataclass(slots=True)
class Snapshots:
    """A batch of snapshots, and the same as packets, row by row."""

    heads: npt.NDArray[np.void]
    """Of dtype SNAPSHOT."""
    packets: Packets


def read_snapshots(items: Sequence[bytes]) -> Snapshots:
    """Read the items of the ring."""
    heads = np.frombuffer(b"".join([item[:HEAD_SIZE] for item in items]), SNAPSHOT)
    lengths = heads["length"].astype(np.int64)
    records = heads["record"]
    zeros = np.zeros(len(items), np.uint8)
    return Snapshots(
        heads,
        Packets(
            data=b"".join([item[HEAD_SIZE:] for item in items]),
            time_ns=records["time_ns"].astype(np.int64),
            frame=np.arange(len(items)),
            family=records["family"],
            protocol=records["protocol"],
            source_ip=records["source_ip"],
            destination_ip=records["destination_ip"],
            source_mac=records["source_mac"],
            destination_mac=records["destination_mac"],
            has_mac=(records["present"] & Present.MAC) != 0,
            source_port=records["source_port"],
            destination_port=records["destination_port"],
            vlan=records["vlan"],
            has_vlan=(records["present"] & Present.VLAN) != 0,
            tcp_flags=heads["tcp_flags"],
            # The octets' own: a SYN counts for one, and whoever reads the packet adds it again.
            sequence=heads["sequence"] - ((heads["tcp_flags"] & SYN) != 0).astype(np.uint32),
            acknowledgment=heads["acknowledgment"],
            payload_start=np.cumsum(lengths) - lengths,
            payload_length=lengths,
            payload_missing=heads["missing"].astype(np.int64),
            ip_length=np.zeros(len(items), np.int64),
            icmp_type=zeros,
            icmp_code=zeros,
            icmp_id=zeros.astype(np.uint16),
        ),
    )


def lengthened(item: bytes, rest: bytes) -> bytes:
    """A snapshot with as much of `rest` behind its octets as it says are missing."""
    head = np.frombuffer(item[:HEAD_SIZE], SNAPSHOT).copy()
    added = rest[: int(head["missing"][0])]
    head["length"] += len(added)
    head["missing"] -= len(added)
    return head.tobytes() + item[HEAD_SIZE:] + added


class Handed(Conntrack):
    """A conntrack that also follows connections of the kernel, by what their snapshots say.

    `opened` is called with each such connection, and the row of the snapshot that it came with.
    """

    opened: Callable[[Connection, Any], None]

    _heads: npt.NDArray[np.void] | None = None

    def of_kernel(self, number: int) -> Connection | None:
        """The connection of this number, if it was handed over and is still held."""
        return self._connections.get(number)

    def follow(self, heads: npt.NDArray[np.void] | None) -> None:
        """Whose the packets of the next `track` are; None: they are tracked here."""
        self._heads = heads

    def track(
        self, packets: Packets, lane: Callable[[Connection], int] | None = None
    ) -> Iterator[tuple[int, Half, int]]:
        """Yield (row, half, What bits), as the kernel has them."""
        if self._heads is None:
            yield from super().track(packets)
            return
        heads = self._heads
        columns = zip(
            keys(packets),
            packets.time_ns.tolist(),
            packets.tcp_flags.tolist(),
            (packets.payload_length + packets.payload_missing).tolist(),
            heads["record"]["connection"].tolist(),
            heads["reason"].tolist(),
            strict=True,
        )
        for row, (key, time_ns, flags, payload, number, reason) in enumerate(columns):
            connection = self._connections.get(number)
            if reason == Reason.END:
                if connection is not None:
                    yield row, connection.client, END
                    self._forget(connection)
                continue
            head = heads[row]
            if connection is None:
                for victim in self._make_room():
                    yield row, victim.client, END
                    self._forget(victim)
                connection = self._adopt(key, head)
                self.opened(connection, head)
            half = connection.client if connection.client.key == key else connection.server
            what = self._update(half, head, time_ns, flags)
            if payload and half.wants_payload:
                what |= DATA
            if half.wants_acks and flags & ACK:
                what |= ACKED
            if what:
                yield row, half, what

    def _adopt(self, key: bytes, head: Any) -> Connection:
        """A connection of the kernel's, as it stands."""
        connection = Connection(int(head["record"]["connection"]), key[38])
        connection.roles = Roles(int(head["roles"]))
        connection.joined = bool(head["joined"])
        watch = TOLD if connection.protocol == TCP else 0
        half = Half(connection, key, watch)
        half.other = Half(connection, reverse(key), watch)
        half.other.other = half
        is_reply = bool(head["side"])
        connection.client, connection.server = (half.other, half) if is_reply else (half, half.other)
        connection.server.is_reply = True
        connection.first = connection.server if head["first"] else connection.client
        for side, each in enumerate((connection.client, connection.server)):
            if head["has_initial"] >> side & 1:
                each.isn = int(head["initial_sequence"][side])
        self._connections[connection.number] = connection
        return connection

    def _update(self, half: Half, head: Any, time_ns: int, flags: int) -> int:
        """Note what the kernel has counted; What.TELL where the packet is told here."""
        # The roles may have been turned here since; the kernel's stay as they were.
        own = int(head["side"])
        for side, each in ((own, half), (1 - own, half.other)):
            each.packets = int(head["packets"][side])
            each.told = int(head["told"][side])
        half.bytes = int(head["record"]["bytes"])
        half.last_ns = time_ns
        is_told = int(head["is_told"])
        half.tells = max(half.tells, int(head["tells"]) - is_told)
        return self.tell(half, time_ns, flags) if is_told else 0
