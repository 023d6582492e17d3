"""From captured frames to IP packets: link layer, IPv4, IPv6 and L4 headers, a batch at a time (RFC 791, 8200, 9293).

`Frames` enter, `Packets` leave: one array per field, payloads as ranges of one buffer. Header bytes are gathered with
numpy; only fragments and NFLOG go packet by packet. A frame that holds no readable IP packet is counted by
reason, never raised. Knows nothing of connections; tunnels are not entered, the outer packet is the row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from observer.losses import Losses
from observer.sources.frames import Frames


@dataclass(slots=True)
class Packets:
    """IP packets in the order of the capture, one row each; fragments are one row, where the last one arrived.

    Ranges of payload index `data`, which may differ from batch to batch. Whoever keeps payload copies it.
    """

    data: bytes | memoryview
    time_ns: npt.NDArray[np.int64]
    frame: npt.NDArray[np.int64]
    """Frame number in the capture, from 1."""
    family: npt.NDArray[np.uint8]
    """4 or 6."""
    protocol: npt.NDArray[np.uint8]
    """IP protocol number, of IPv6 the one after the extension headers."""
    source_ip: npt.NDArray[np.uint8]
    """(n, 16); IPv4 as ::ffff:a.b.c.d."""
    destination_ip: npt.NDArray[np.uint8]
    source_mac: npt.NDArray[np.uint8]
    """(n, 6)."""
    destination_mac: npt.NDArray[np.uint8]
    has_mac: npt.NDArray[np.bool_]
    """Both MAC addresses are known."""
    source_port: npt.NDArray[np.uint16]
    """TCP, UDP, SCTP; else 0."""
    destination_port: npt.NDArray[np.uint16]
    vlan: npt.NDArray[np.uint16]
    """Outermost VLAN id."""
    has_vlan: npt.NDArray[np.bool_]
    tcp_flags: npt.NDArray[np.uint16]
    """Nine bits as record.TcpFlag; 0 unless TCP."""
    sequence: npt.NDArray[np.uint32]
    acknowledgment: npt.NDArray[np.uint32]
    payload_start: npt.NDArray[np.int64]
    """Where the L4 payload starts in `data`; of a protocol without ports, what follows the IP header.

    Of ICMP and ICMPv6 it starts after the first 8 bytes, so an error's payload is the packet it quotes."""
    payload_length: npt.NDArray[np.int64]
    """Bytes of it captured, without Ethernet padding."""
    payload_missing: npt.NDArray[np.int64]
    """Bytes that the IP header announces behind those captured: cut by the snap length."""
    ip_length: npt.NDArray[np.int64]
    """Bytes of the IP packet on the wire, header included; of TSO and BIG TCP the real length."""
    icmp_type: npt.NDArray[np.uint8]
    icmp_code: npt.NDArray[np.uint8]
    icmp_id: npt.NDArray[np.uint16]
    """Identifier of an ICMP or ICMPv6 echo; else 0."""

    def __len__(self) -> int:
        return len(self.time_ns)

    def payload(self, row: int) -> bytes:
        """A copy of the captured payload of one row."""
        start = int(self.payload_start[row])
        return bytes(self.data[start : start + int(self.payload_length[row])])


class Decoder:
    """Decodes the frames of one capture; holds the fragments that wait for the rest of their datagram."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses

    def decode(self, frames: Frames) -> Packets:
        """The IP packets of a batch."""
        raise NotImplementedError

    def finish(self) -> None:
        """Count the fragments whose datagram never became whole: at the end of the capture."""
