"""802.11 data frames, one by one through dpkt: where their LLC header starts, and between whom they pass.

With or without a radiotap, Prism, AVS or PPI header before them. Management and control frames, encrypted ones and
fragments hold no IP that can be read; why not is told in words. dpkt is imported when the first such frame comes: it is
slow to import, and wireless captures are rare.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

IEEE802_11: Final = 105
PRISM: Final = 119
RADIOTAP: Final = 127
AVS: Final = 163
PPI: Final = 192
LINK_TYPES: Final = (IEEE802_11, PRISM, RADIOTAP, AVS, PPI)

_LENGTH: Final = {  # of the header before: where its length stands, and how it is written
    PRISM: (4, "<I"),
    RADIOTAP: (2, "<H"),
    AVS: (4, ">I"),
    PPI: (2, "<H"),
}
_AVS_MAGIC: Final = 0x80211000  # also on link type 119: drivers write either
_DATA: Final = 2
_PROTECTED, _MORE_FRAGMENTS = 0x40, 0x04
_NO_PAYLOAD: Final = 4  # bit of the subtype
_QOS: Final = 8
_AGGREGATED: Final = 0x80  # of the QoS control: several frames in one
_HT_CONTROL: Final = 0x80  # of the frame control, in QoS frames


class Data(NamedTuple):
    """What a data frame carries, from `position` of the captured bytes on, begins with an LLC header."""

    position: int
    source: bytes
    destination: bytes


def read(frame: bytes, link_type: int) -> Data | str:
    """The data in a captured frame, or why there is none."""
    start = _header(frame, link_type)
    if start is None or len(frame) < start + 2:
        return "truncated 802.11 header"
    control, flags = frame[start], frame[start + 1]
    subtype = control >> 4
    if control >> 2 & 3 != _DATA or subtype & _NO_PAYLOAD:
        return "not IP: 802.11 without data"
    if flags & _PROTECTED:
        return "not IP: 802.11, encrypted"
    from dpkt import Error, ieee80211

    try:
        parsed = ieee80211.IEEE80211(frame[start:])
        data = parsed.data_frame
        ends = (data.sa, data.da) if hasattr(data, "sa") else (data.src, data.dst)
    except (Error, ValueError, LookupError, AttributeError, TypeError, struct.error):
        return "truncated 802.11 header"
    if flags & _MORE_FRAGMENTS or data.frag_seq >> 8 & 0x0F:  # dpkt reads the field as big-endian
        return "not IP: 802.11, a fragment"
    position = len(frame) - len(bytes(parsed.data))
    if subtype & _QOS:
        if frame[position - 2] & _AGGREGATED:
            return "not IP: 802.11, several frames in one"
        if flags & _HT_CONTROL:
            position += 4
    return Data(position, bytes(ends[0]), bytes(ends[1]))


def _header(frame: bytes, link_type: int) -> int | None:
    """Bytes of the header before the 802.11 one; None where it cannot be."""
    if link_type == IEEE802_11:
        return 0
    if link_type == PRISM and frame[:4] == _AVS_MAGIC.to_bytes(4, "big"):
        link_type = AVS
    at, order = _LENGTH[link_type]
    if len(frame) < at + struct.calcsize(order):
        return None
    length: int = struct.unpack_from(order, frame, at)[0]
    if link_type == PRISM and length > len(frame):
        length = int.from_bytes(frame[at : at + 4], "big")  # the order is that of who captured
    if link_type == PPI and frame[4:8] != IEEE802_11.to_bytes(4, "little"):
        return None
    return length if at + struct.calcsize(order) <= length <= len(frame) else None
