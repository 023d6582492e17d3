"""Packets that the kernel dropped: which of its reasons are worth a flow, and what Hubble and the kernel call them.

In: the names of `enum skb_drop_reason` of the running kernel (its numbers change from release to release), records as
bpf/drops.bpf.c writes them. Out: the contents of its map `reasons`, and the records with extras that carry the kernel's
own words. Knows no packets; asks /proc/kallsyms which function dropped one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from observer.extra import Extra
from observer.record import EventType, Flags, Records

REASON_WORD: Final = "skb_drop_reason"
"""Key of the kernel's own word in an extension; the printer shows it."""
PLACE_WORD: Final = "skb_drop_location"
"""Key of the kernel's function that dropped the packet."""
PREFIX: Final = "SKB_DROP_REASON_"
MAX_REASONS: Final = 256
"""Reasons of the core that the map has room for; Linux 6.18 has 128."""
REASON: Final = struct.Struct("<BBH")
"""quiet, by_tc, description: struct reason of bpf/drops.bpf.c."""
LOCATION: Final = struct.Struct("<Q")

QUIET: Final = frozenset(
    {
        # No drop at all, or one that nobody gave a reason: mostly copies that were used up.
        "SKB_NOT_DROPPED_YET", "SKB_CONSUMED", "NOT_SPECIFIED",
        # The socket or the device went away with what was queued.
        "SOCKET_CLOSE", "QUEUE_PURGE", "TCP_CLOSE", "TCP_ABORT_ON_DATA", "DEV_READY",
        # TCP at work: what came twice, too early or too late, and is sent again or was there already.
        "TCP_OLD_DATA", "TCP_OFOMERGE", "TCP_OLD_SEQUENCE", "TCP_OLD_ACK", "TCP_TOO_OLD_ACK", "TCP_ZEROWINDOW",
        "TCP_OVERWINDOW", "TCP_RESET", "TCP_FASTOPEN", "TCP_OFO_QUEUE_PRUNE", "TCP_RFC7323_PAWS_ACK", "DUP_FRAG",
        # Meant for somebody else: a switch floods, a sniffer filters its copy.
        "OTHERHOST", "UNICAST_IN_L2_MULTICAST", "SOCKET_FILTER", "PACKET_SOCK_ERROR", "TAP_FILTER", "TAP_TXFILTER",
        "IPV6_NDISC_NS_OTHERHOST", "LOCAL_MAC",
    }
)  # fmt: skip
"""Reasons that refuse nobody; what is left is told."""

BY_TC: Final = frozenset({"TC_INGRESS", "TC_EGRESS"})

# flow.DropReason where Cilium means the same. The rest is DROP_REASON_UNKNOWN, with the kernel's word in the extension:
# a netfilter rule or a closed port is nothing that Cilium has a number for.
DESCRIPTIONS: Final[Mapping[str, int]] = {
    "MAC_INVALID_SOURCE": 130,  # INVALID_SOURCE_MAC
    "IP_RPFILTER": 132,  # INVALID_SOURCE_IP
    "IP_INVALID_SOURCE": 132,
    "IP_LOCAL_SOURCE": 132,
    "IP_INHDR": 134,  # INVALID_PACKET_DROPPED
    "PKT_TOO_SMALL": 134,
    "HDR_TRUNC": 135,  # CT_TRUNCATED_OR_INVALID_HEADER
    "UNHANDLED_PROTO": 139,  # UNSUPPORTED_L3_PROTOCOL
    "IP_NOPROTO": 142,  # UNKNOWN_L4_PROTOCOL
    "IP_OUTNOROUTES": 151,  # STALE_OR_UNROUTABLE_IP
    "IP_INNOROUTES": 151,
    "IP_INADDRERRORS": 151,
    "IP_INVALID_DEST": 151,
    "IP_CSUM": 153,  # ERROR_WHILE_CORRECTING_L3_CHECKSUM
    "TCP_CSUM": 154,  # ERROR_WHILE_CORRECTING_L4_CHECKSUM
    "UDP_CSUM": 154,
    "ICMP_CSUM": 154,
    "IPV6_BAD_EXTHDR": 156,  # INVALID_IPV6_EXTENSION_HEADER
    "NEIGH_FAILED": 164,  # LOCAL_HOST_IS_UNREACHABLE
    "VXLAN_VNI_NOT_FOUND": 183,  # INVALID_VNI
}


def reason_entries(names: Mapping[int, str]) -> Iterator[tuple[bytes, bytes]]:
    """The contents of the map `reasons`, as (key, value), for a kernel whose reasons are numbered so.

    Zero stands for what has no name here: reasons of a subsystem, told as they come.
    """
    for number in range(MAX_REASONS):
        name = names.get(number, "").removeprefix(PREFIX)
        value = REASON.pack(name in QUIET, name in BY_TC, DESCRIPTIONS.get(name, 0))
        yield number.to_bytes(4, "little"), value


class DropWords:
    """Puts the kernel's own words to its drops."""

    def __init__(self, names: Mapping[int, str], symbols: Path = Path("/proc/kallsyms")) -> None:
        self._names = {number: name.removeprefix(PREFIX) for number, name in names.items()}
        self._symbols_path = symbols
        self._symbols: Symbols | None = None
        self._extras: dict[tuple[int, int], Extra] = {}

    @property
    def symbols(self) -> Symbols:
        """The kernel's functions; read when they are asked for first, which may need rights that are given up later."""
        if self._symbols is None:
            self._symbols = Symbols(self._symbols_path)
        return self._symbols

    def annotate(self, records: Records) -> list[tuple[int, Extra]]:
        """Extras for the kernel's drops among `records`, by row; the records lose what only travelled in them.

        `records` has to be writable. One extra serves all drops of a reason at a place: they are few.
        """
        rows = np.flatnonzero((records["event_type"] == EventType.DROP) & (records["drop_reason"] != 0))
        if not len(rows):
            return []
        places = records["text"][rows, : LOCATION.size].copy().view("<u8").ravel().tolist()
        numbers = records["drop_reason"][rows].tolist()
        records["text"][rows, : LOCATION.size] = 0
        records["text_length"][rows] = 0
        records["flags"][rows] |= int(Flags.EXTRA)
        return [
            (row, self._extra(number, place)) for row, number, place in zip(rows.tolist(), numbers, places, strict=True)
        ]

    def _extra(self, number: int, place: int) -> Extra:
        extra = self._extras.get((number, place))
        if extra is None:
            words = {REASON_WORD: self._names.get(number, f"subsystem {number >> 16} reason {number & 0xFFFF}")}
            if symbol := self.symbols.at(place):
                words[PLACE_WORD] = symbol
            extra = self._extras[number, place] = Extra(extension=words)
        return extra


class Symbols:
    """The kernel's functions by address; empty where it does not show them."""

    def __init__(self, path: Path) -> None:
        addresses: list[int] = []
        names: list[str] = []
        try:
            with path.open(encoding="ascii", errors="replace") as lines:
                for line in lines:
                    address, kind, name = line.split(maxsplit=3)[:3]
                    if kind in "tTwW" and (value := int(address, 16)):
                        addresses.append(value)
                        names.append(name)
        except OSError:
            pass  # hardened kernels show it to nobody; the reason alone is still worth telling
        self._addresses: npt.NDArray[np.uint64] = np.array(addresses, np.uint64)
        order = np.argsort(self._addresses, kind="stable")
        self._addresses = self._addresses[order]
        self._names = [names[index] for index in order.tolist()]

    def at(self, address: int) -> str:
        """The function that an address lies in; empty where that is not known."""
        index = int(np.searchsorted(self._addresses, np.uint64(address), side="right")) - 1
        return self._names[index] if index >= 0 else ""
