"""Live frames from a packet socket: what passes the chosen interfaces, out of a ring that the kernel fills.

Blocks of the ring enter (TPACKET_V3, Documentation/networking/packet_mmap.rst), `Frames` leave, as from a capture
file; what found no room is counted. Needs CAP_NET_RAW to be opened, and nothing afterwards. One socket serves all
interfaces; a filter in the kernel passes over the others.
"""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Collection, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from observer.errors import CaptureError
from observer.losses import Losses
from observer.sources.frames import Frames
from observer.sources.gather import gather

ETH_P_ALL: Final = 3
SOL_PACKET: Final = 263
PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION = 5, 6, 10
TPACKET_V3: Final = 2
SO_ATTACH_FILTER: Final = 26

BLOCK_SIZE: Final = 1 << 20
"""Bytes of a block; holds at least one frame of any length that the kernel makes."""
BLOCKS: Final = 32
RETIRE_MS: Final = 10
"""When a block that is not full is handed over all the same."""
MAX_FILTERED: Final = 2000
"""Interfaces that the kernel's filter can hold; of more, the others' frames are passed over here."""

REQUEST: Final = struct.Struct("=7I")
"""tpacket_req3: block size and count, frame size and count, retire timeout, private size, features."""
BLOCK: Final = struct.Struct("=8xIIIIQ")
"""tpacket_block_desc: status, packets, offset of the first, length, sequence number."""
STATUS: Final = struct.Struct("=I")
STATUS_OFFSET: Final = 8
TO_KERNEL, TO_USER = 0, 1
STATISTICS: Final = struct.Struct("=III")
"""tpacket_stats_v3: packets, drops, freezes since it was asked for last."""
INSTRUCTION: Final = struct.Struct("=HBBI")
"""sock_filter: code, jump if true, jump if false, constant."""
LOAD_IFINDEX: Final = INSTRUCTION.pack(0x20, 0, 0, 0xFFFFF000 + 8)
RETURN: Final = 0x06
JUMP_EQUAL: Final = 0x15

FRAME: Final = np.dtype(
    [
        ("next", "<u4"),  # struct tpacket3_hdr
        ("seconds", "<u4"),
        ("nanoseconds", "<u4"),
        ("captured", "<u4"),
        ("length", "<u4"),
        ("status", "<u4"),
        ("mac", "<u2"),
        ("network", "<u2"),
        ("hash", "<u4"),
        ("vlan", "<u4"),
        ("vlan_type", "<u2"),
        ("_padding", "V10"),
        ("family", "<u2"),  # struct sockaddr_ll
        ("protocol", ">u2"),
        ("ifindex", "<i4"),
        ("hardware", "<u2"),
        ("way", "u1"),
        ("_address", "V9"),
    ]
)
VLAN_VALID, VLAN_TYPE_VALID = 1 << 4, 1 << 6
"""In the status: the VLAN tag was taken out of the frame."""
OUTGOING: Final = 4

ARPHRD_LOOPBACK: Final = 772
LINK_TYPES: Final = {
    1: 1,  # Ethernet
    ARPHRD_LOOPBACK: 1,
    65534: 101,  # NONE: tun, WireGuard; bare IP
    768: 101,  # IPIP
    769: 101,  # IP6IP6
    776: 101,  # SIT
}
"""LINKTYPE_ of what an interface's hardware type puts before IP."""


class PacketSocket:
    """Frames of the interfaces chosen with `choose`; none before. `fd` becomes readable when there are some."""

    def __init__(self, losses: Losses, *, blocks: int = BLOCKS) -> None:
        self._losses = losses
        self._chosen: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._blocks = blocks
        self._block = 0
        self._frames = 0
        try:
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(ETH_P_ALL)
            )
        except PermissionError:
            raise CaptureError(
                "cannot open a packet socket: CAP_NET_RAW missing; run as root, or grant the capability"
            ) from None
        self._socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
        frame_size = 2048  # of no meaning in this version, but checked
        ring = REQUEST.pack(BLOCK_SIZE, blocks, frame_size, BLOCK_SIZE // frame_size * blocks, RETIRE_MS, 0, 0)
        self._socket.setsockopt(SOL_PACKET, PACKET_RX_RING, ring)
        self._ring = mmap.mmap(self._socket.fileno(), BLOCK_SIZE * blocks, mmap.MAP_SHARED)
        self.choose(())

    @property
    def fd(self) -> int:
        """The socket, for poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give the ring back."""
        self._ring.close()
        self._socket.close()

    def choose(self, indexes: Collection[int]) -> None:
        """Take the frames of these interfaces from now on."""
        self._chosen = np.array(sorted(indexes), np.int64)
        program = [LOAD_IFINDEX]
        whole = INSTRUCTION.pack(RETURN, 0, 0, 0xFFFFFFFF)
        if len(indexes) <= MAX_FILTERED:
            for index in indexes:
                program += [INSTRUCTION.pack(JUMP_EQUAL, 0, 1, index), whole]
            program.append(INSTRUCTION.pack(RETURN, 0, 0, 0))
        else:
            program.append(whole)
        code = b"".join(program)
        held = memoryview(bytearray(code))  # alive during the call
        address = np.frombuffer(held, np.uint8).ctypes.data
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program), address))

    def frames(self) -> Iterator[Frames]:
        """What has come, a batch for each block; does not block."""
        for _ in range(self._blocks):  # one round: a flood does not keep the caller from its other work
            start = self._block * BLOCK_SIZE
            status, count, first, length, _ = BLOCK.unpack_from(self._ring, start)
            if not status & TO_USER:
                return
            data = self._ring[start : start + length]
            STATUS.pack_into(self._ring, start + STATUS_OFFSET, TO_KERNEL)
            self._block = (self._block + 1) % self._blocks
            frames = self._read(data, count, first)
            if len(frames):
                yield frames

    def count_losses(self) -> None:
        """Count what found no room since the last call."""
        _, drops, _ = STATISTICS.unpack(self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, STATISTICS.size))
        if drops:
            self._losses.count("packet", "ring full", drops)

    def _read(self, data: bytes, count: int, first: int) -> Frames:
        """The frames of one block that are of a chosen interface and not seen twice."""
        starts = np.empty(count, np.int64)
        at = first
        for number in range(count):
            starts[number] = at
            at += STATUS.unpack_from(data, at)[0]
        heads = gather(data, starts, FRAME.itemsize).view(FRAME)
        # The loopback shows each frame on its way out and on its way in.
        twice = (heads["hardware"] == ARPHRD_LOOPBACK) & (heads["way"] == OUTGOING)
        rows = np.flatnonzero(np.isin(heads["ifindex"], self._chosen) & ~twice)
        links = np.array([LINK_TYPES.get(kind, 0) for kind in heads["hardware"][rows].tolist()], np.uint16)
        if not links.all():
            self._losses.count("packet", "interface of a kind that is not read", int((links == 0).sum()))
            rows, links = rows[links != 0], links[links != 0]
        starts, heads = starts[rows], heads[rows]
        offsets = starts + heads["mac"]
        lengths = heads["captured"].astype(np.int64)
        wire_lengths = heads["length"].astype(np.int64)
        tagged = np.flatnonzero((heads["status"] & VLAN_VALID != 0) & (links == 1) & (lengths >= 12))
        if len(tagged):
            data, offsets = _put_tags(data, offsets, lengths, heads, tagged)
            lengths[tagged] += 4
            wire_lengths[tagged] += 4
        numbers = np.arange(self._frames + 1, self._frames + 1 + len(rows))
        self._frames += len(rows)
        return Frames(
            data=data,
            offsets=offsets,
            lengths=lengths,
            wire_lengths=wire_lengths,
            times_ns=heads["seconds"].astype(np.int64) * 1_000_000_000 + heads["nanoseconds"],
            link_types=links,
            interfaces=heads["ifindex"].astype(np.uint32),
            numbers=numbers,
        )


def _put_tags(
    data: bytes,
    offsets: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    heads: npt.NDArray[np.void],
    rows: npt.NDArray[np.intp],
) -> tuple[bytes, npt.NDArray[np.int64]]:
    """Put the VLAN tag back into the frames `rows`, which come to stand behind all others."""
    parts, end = [data], len(data)
    offsets = offsets.copy()
    for row in rows.tolist():
        start, length = int(offsets[row]), int(lengths[row])
        frame, head = data[start : start + length], heads[row]
        kind = int(head["vlan_type"]) if head["status"] & VLAN_TYPE_VALID else 0x8100
        parts += [frame[:12], struct.pack(">HH", kind, int(head["vlan"]) & 0xFFFF), frame[12:]]
        offsets[row] = end
        end += length + 4
    return b"".join(parts), offsets
