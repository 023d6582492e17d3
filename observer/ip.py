"""IPv4 and IPv6 headers of a batch of frames, with extension headers and fragments (RFC 791, 8200, 2675).

Frames and the positions of their IP headers enter; addresses, protocol and the position of the L4 header leave, one
row per frame. Refuses to read L4. A header that cannot be is counted by reason and its row is not alive any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from observer.fragments import Fragments
from observer.losses import Losses
from observer.sources.frames import Frames
from observer.sources.gather import gather
from observer.sources.linktypes import network
from observer.sources.network import IPV4, IPV6, Rows

MAX_EXTENSIONS: Final = 12
"""Extension headers of one packet; RFC 8200 needs seven."""

_IPV4: Final = np.dtype(
    [
        ("version", "u1"),
        ("service", "u1"),
        ("length", ">u2"),
        ("id", ">u2"),
        ("fragment", ">u2"),
        ("ttl", "u1"),
        ("protocol", "u1"),
        ("checksum", ">u2"),
        ("source", "V4"),
        ("destination", "V4"),
    ]
)
_IPV6: Final = np.dtype(
    [
        ("version", ">u4"),
        ("length", ">u2"),
        ("protocol", "u1"),
        ("hops", "u1"),
        ("source", "V16"),
        ("destination", "V16"),
    ]
)
# Extension headers by (is IPv6, protocol): how their length is told.
_WORDS_OF_8, _WORDS_OF_4, _FRAGMENT = 1, 2, 3
_EXTENSION: Final = np.zeros((2, 256), np.uint8)
_EXTENSION[1, [0, 43, 60, 135, 139, 140]] = _WORDS_OF_8  # hop-by-hop, routing, destination, mobility, HIP, shim6
_EXTENSION[:, 51] = _WORDS_OF_4  # AH, of IPv4 too
_EXTENSION[1, 44] = _FRAGMENT
_NO_NEXT_HEADER: Final = 59
_JUMBO: Final = 0xC204  # option type and length, RFC 2675


class IpHeaders:
    """The IP headers of a batch as columns; one row per frame, `alive` where there is an IP packet."""

    def __init__(
        self, frames: Frames, losses: Losses, fragments: Fragments, networks: Sequence[bytes] | None = None
    ) -> None:
        """Read the headers of `frames`; datagrams that `fragments` makes whole stand where their last fragment was.

        `networks` tells equal addresses of different networks apart, one per frame.
        """
        count = len(frames)
        found = network(frames, losses)
        self.losses = losses
        self.frames = frames
        self.network = found
        self.data = frames.data
        self._networks = networks
        self.alive = (found.kind == IPV4) | (found.kind == IPV6)
        self.is_ipv6 = (found.kind == IPV6).astype(np.uint8)
        self.position = found.position  # of the header at hand
        self.captured_end = found.end
        self.ip_start = found.position.copy()
        self.ip_length = np.zeros(count, np.int64)
        self.protocol = np.zeros(count, np.uint8)
        self.source_ip = np.zeros((count, 16), np.uint8)
        self.destination_ip = np.zeros((count, 16), np.uint8)
        self.fragment = np.zeros(count, np.bool_)
        self.held = np.zeros(count, np.bool_)
        """Fragments that are part of, or were refused for, a datagram that stands elsewhere."""
        self.fragment_id = np.zeros(count, np.int64)
        self.fragment_field = np.zeros(count, np.int64)  # IPv6's layout: offset in bytes, lowest bit: more
        self._ipv4()
        self._ipv6()
        self._extensions(np.flatnonzero((_EXTENSION[self.is_ipv6, self.protocol] != 0) & self.alive & ~self.fragment))
        if self.fragment.any():
            self._reassemble(fragments)

    def refuse(self, rows: Rows, bad: npt.NDArray[np.bool_], reason: str) -> None:
        """Count those of `rows` that are `bad` and were not counted before."""
        if bad.any():
            of = rows[bad & self.alive[rows]]
            if len(of):
                self.losses.count("decode", reason, len(of))
                self.alive[of] = False

    def _ipv4(self) -> None:
        """RFC 791."""
        rows = np.flatnonzero(self.network.kind == IPV4)
        if not len(rows):
            return
        start = self.position[rows]
        captured = self.captured_end[rows] - start
        head = gather(self.data, start, 20).view(_IPV4)
        header = (head["version"] & 0x0F).astype(np.int64) * 4
        length = head["length"].astype(np.int64)
        if not length.all():  # segmentation left to the card: the length was not yet known
            length = np.where(length == 0, self._wire_length(rows), length)
        self.refuse(rows, captured < 20, "truncated IPv4 header")
        self.refuse(rows, head["version"] >> 4 != 4, "IPv4 header of another version")
        self.refuse(rows, header < 20, "IPv4 header length below 20")
        self.refuse(rows, captured < header, "truncated IPv4 header")
        self.refuse(rows, length < header, "IPv4 length below that of its header")
        self.ip_length[rows] = length
        self.position[rows] = start + header
        self.protocol[rows] = head["protocol"]
        for column, name in ((self.source_ip, "source"), (self.destination_ip, "destination")):
            column[rows, 10:12] = 0xFF
            column.view("V4")[rows, 3] = head[name]
        field = head["fragment"].astype(np.int64)
        self.fragment[rows] = field & 0x3FFF != 0
        self.fragment_field[rows] = (field & 0x1FFF) << 3 | field >> 13 & 1
        self.fragment_id[rows] = head["id"]

    def _ipv6(self) -> None:
        """RFC 8200."""
        rows = np.flatnonzero(self.network.kind == IPV6)
        if not len(rows):
            return
        start = self.position[rows]
        head = gather(self.data, start, 40).view(_IPV6)
        length = head["length"].astype(np.int64) + 40
        unknown = (length == 40) & (head["protocol"] != _NO_NEXT_HEADER)
        if unknown.any():  # a jumbogram or segmentation left to the card; the wire knows
            length[unknown] = self._jumbo_length(rows[unknown])
        self.refuse(rows, self.captured_end[rows] - start < 40, "truncated IPv6 header")
        self.refuse(rows, head["version"] >> 28 != 6, "IPv6 header of another version")
        self.ip_length[rows] = length
        self.position[rows] = start + 40
        self.protocol[rows] = head["protocol"]
        self.source_ip.view("V16")[rows, 0] = head["source"]
        self.destination_ip.view("V16")[rows, 0] = head["destination"]

    def _wire_length(self, rows: Rows) -> npt.NDArray[np.int64]:
        """What the frame held from the IP header on."""
        frames = self.frames
        return frames.offsets[rows] + frames.wire_lengths[rows] - self.ip_start[rows]

    def _jumbo_length(self, rows: Rows) -> npt.NDArray[np.int64]:
        """What the jumbo option says if it comes first, as Linux writes it, but not more than the frame held."""
        start = self.ip_start[rows]
        wire = self._wire_length(rows)
        head = gather(self.data, start, 48).view(
            [("", "V6"), ("next", "u1"), ("", "V35"), ("option", ">u2"), ("length", ">u4")]
        )
        jumbo = (head["next"] == 0) & (head["option"] == _JUMBO) & (self.captured_end[rows] - start >= 48)
        return np.where(jumbo, np.minimum(head["length"].astype(np.int64) + 40, wire), wire)

    def _extensions(self, rows: Rows) -> None:
        """Pass over extension headers, up to the fragment header of a fragment."""
        for _ in range(MAX_EXTENSIONS):
            if not len(rows):
                return
            kind = _EXTENSION[self.is_ipv6[rows], self.protocol[rows]]
            start = self.position[rows]
            end = np.minimum(self.captured_end[rows], self.ip_start[rows] + self.ip_length[rows])
            self.refuse(rows, end - start < 8, "truncated IP extension header")
            head = gather(self.data, start, 8)
            octets = head.view("u1").reshape(-1, 8)
            size = octets[:, 1].astype(np.int64)
            size = np.select([kind == _WORDS_OF_4, kind == _WORDS_OF_8], [(size + 2) * 4, (size + 1) * 8], 8)
            self.position[rows] = start + size
            self.protocol[rows] = octets[:, 0]
            of = rows[kind == _FRAGMENT]
            if len(of):
                field = head.view([("", "V2"), ("field", ">u2"), ("id", ">u4")])[kind == _FRAGMENT]
                self.fragment_field[of] = field["field"]
                self.fragment_id[of] = field["id"]
                self.fragment[of] = field["field"] & 0xFFF9 != 0  # else it is whole (RFC 6946)
            following = _EXTENSION[self.is_ipv6[rows], self.protocol[rows]] != 0
            rows = rows[following & ~self.fragment[rows] & self.alive[rows]]
        self.refuse(rows, np.ones(len(rows), np.bool_), "too many IP extension headers")

    def _reassemble(self, fragments: Fragments) -> None:
        """Replace the last fragment of a datagram by the datagram; the others end here.

        What was put together lies behind a copy of the frames, so that one buffer holds all."""
        rows = np.flatnonzero(self.fragment & self.alive)
        ip_end = self.ip_start + self.ip_length
        self.refuse(rows, self.captured_end[rows] < ip_end[rows], "fragment not captured whole")
        low, high = int(self.frames.offsets.min()), int(self.captured_end.max())
        behind = high - low
        parts: list[bytes] = []
        whole_rows: list[int] = []
        for row in rows[self.alive[rows]].tolist():
            self.alive[row] = False
            self.held[row] = True
            start, end = int(self.position[row]), int(ip_end[row])
            field = int(self.fragment_field[row])
            protocol = int(self.protocol[row])
            key = (
                self.source_ip[row].tobytes(),
                self.destination_ip[row].tobytes(),
                int(self.fragment_id[row]),
                None if self.is_ipv6[row] else protocol,  # RFC 8200 leaves it out
                int(self.network.vlan[row]),
                b"" if self._networks is None else self._networks[row],
            )
            whole = fragments.add(
                key, int(self.frames.times_ns[row]), field & ~7, bool(field & 1), protocol, bytes(self.data[start:end])
            )
            if whole is None:
                continue
            header = start - int(self.ip_start[row]) - 8 * int(self.is_ipv6[row])
            self.alive[row] = True
            self.held[row] = False
            self.protocol[row] = whole.protocol
            self.position[row] = low + behind
            # No header lies in front of the payload: a length that ends where it does is what the rest needs.
            self.ip_start[row] = low + behind - header
            self.ip_length[row] = header + len(whole.payload)
            self.captured_end[row] = low + behind + len(whole.payload)
            behind += len(whole.payload)
            parts.append(whole.payload)
            whole_rows.append(row)
        if parts:
            self.data = b"".join((self.data[low:high], *parts))
            self.position -= low
            self.ip_start -= low
            self.captured_end -= low
            again = np.array(whole_rows)
            self.fragment[again] = False
            self._extensions(again[_EXTENSION[self.is_ipv6[again], self.protocol[again]] != 0])
            self.refuse(again, self.fragment[again], "fragments in a fragment")
