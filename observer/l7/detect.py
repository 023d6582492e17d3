"""Which L7 protocol do these bytes speak, and which side says them? Pure functions on the first bytes.

In: the first bytes of one side of a stream, or one datagram, and the two ports. Out: a Detection. Bytes decide; ports
only break ties (DNS has no magic number). It keeps no state and reads nothing beyond the first line or message.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from observer.l7 import dns_message, http1_head, http2_frames, kafka_header, tls
from observer.l7.message import Side

DNS_PORTS: Final = frozenset({53, 5353, 5355})
"""DNS, multicast DNS (RFC 6762) and LLMNR (RFC 4795): one message format."""

NOT_DNS_PORTS: Final = frozenset({137, 138})
"""NetBIOS names travel in DNS's format (RFC 1002) and mean something else."""


STARTTLS_PORTS: Final = frozenset({21, 25, 110, 119, 143, 389, 587, 3306, 4190, 5222, 5269, 5432})
"""FTP, SMTP, POP3, NNTP, IMAP, LDAP, submission, MySQL, ManageSieve, XMPP twice, PostgreSQL: both sides agree in the
clear to begin TLS (RFC 4217, 3207, 2595, 4642, 4511, 5804, 6120)."""


class Detected(enum.Enum):
    """What detection says; every member from HTTP1 on has a parser in conversation.PARSERS."""

    __hash__ = object.__hash__  # Enum's own is Python, and slow

    MORE = enum.auto()  # too few bytes to tell
    NONE = enum.auto()  # nothing that is read here
    HTTP1 = enum.auto()
    TLS = enum.auto()
    DNS_STREAM = enum.auto()
    DNS_DATAGRAM = enum.auto()
    HTTP2 = enum.auto()
    KAFKA = enum.auto()


class Detection(NamedTuple):
    """What the bytes are, and whose they are where that shows."""

    kind: Detected
    side: Side | None = None


MORE: Final = Detection(Detected.MORE)
NONE: Final = Detection(Detected.NONE)
DNS: Final = Detection(Detected.DNS_DATAGRAM)
DNS_QUERY: Final = Detection(Detected.DNS_DATAGRAM, Side.CLIENT)
DNS_RESPONSE: Final = Detection(Detected.DNS_DATAGRAM, Side.SERVER)


def stream(data: bytes | bytearray, ports: tuple[int, int]) -> Detection:
    """Say what the first bytes of one side of a TCP stream are; MORE until its first line or message is there."""
    if not data:
        return MORE
    undecided = False
    for probe in (_http1, _tls, _dns_stream, _http2, _kafka):
        detection = probe(data, ports)
        if detection.side is not None:
            return detection
        undecided |= detection.kind is Detected.MORE
    if undecided:
        return MORE
    return NONE


def late(data: bytes, ports: tuple[int, int]) -> Detection:
    """Say what begins with a piece behind bytes of nothing known: TLS where it is begun late, Kafka on its ports."""
    if not STARTTLS_PORTS.isdisjoint(ports):
        return Detection(Detected.TLS, Side.CLIENT) if tls.starts(data) is Side.CLIENT else NONE
    detection = stream(data, ports)
    return detection if detection.kind is Detected.KAFKA else NONE


def datagram(data: bytes, ports: tuple[int, int]) -> Detection:
    """Say what one UDP datagram is; never MORE."""
    if not DNS_PORTS.isdisjoint(ports):
        if ports[0] == ports[1]:
            # Whoever uses 5353 on both ends asks and answers from the same port (RFC 6762, 6): roles do not show.
            return DNS
        return DNS_RESPONSE if dns_message.is_response(data) else DNS_QUERY
    if NOT_DNS_PORTS.isdisjoint(ports) and dns_message.is_sane(data):
        return DNS_RESPONSE if dns_message.is_response(data) else DNS_QUERY
    return NONE


def orientation(payload: bytes) -> Side | None:
    """Say whether these first bytes of a packet look like a client's (a request) or a server's (a response)."""
    detection = stream(payload, (0, 0))
    if detection.side is None and dns_message.is_sane(payload):
        return Side.SERVER if dns_message.is_response(payload) else Side.CLIENT
    return detection.side


def _http1(data: bytes | bytearray, ports: tuple[int, int]) -> Detection:
    """A request line or a status line, whole (RFC 9112, 3 and 4)."""
    start = http1_head.empty_lines(data)
    if not http1_head.may_start(data):
        return NONE
    if start == len(data):
        return MORE  # empty lines only (RFC 9112, 2.2)
    end = data.find(b"\n", start)
    if end < 0:
        return MORE if len(data) - start <= http1_head.HEAD_LIMIT else NONE
    line = bytes(data[start:end])
    if http1_head.status_line(line) is not None:
        return Detection(Detected.HTTP1, Side.SERVER)
    if http1_head.request_line(line) is not None:
        return Detection(Detected.HTTP1, Side.CLIENT)
    return NONE


def _tls(data: bytes | bytearray, ports: tuple[int, int]) -> Detection:
    """The beginning of a ClientHello or a ServerHello (RFC 8446, 4.1)."""
    side = tls.starts(data)
    if side is not None:
        return Detection(Detected.TLS, side)
    return MORE if tls.may_start(data) else NONE


def _dns_stream(data: bytes | bytearray, ports: tuple[int, int]) -> Detection:
    """A length and a DNS message (RFC 1035, 4.2.2); without the port the whole message has to be sane."""
    if not DNS_PORTS.isdisjoint(ports):
        if len(data) < 2 + dns_message.HEADER_SIZE:
            return MORE
        if not dns_message.is_plausible_header(data[2:14], int.from_bytes(data[:2], "big")):
            return NONE
    else:
        size = int.from_bytes(data[:2], "big")
        if data[0] > dns_message.SANE_SIZE >> 8 or (
            len(data) >= 2 and not dns_message.HEADER_SIZE < size <= dns_message.SANE_SIZE
        ):
            return NONE
        if len(data) >= 2 + dns_message.HEADER_SIZE and not dns_message.is_plausible_header(data[2:14], size):
            return NONE
        if len(data) < 2 + size:
            return MORE
        if not dns_message.is_sane(bytes(data[2 : 2 + size])):
            return NONE
    return Detection(Detected.DNS_STREAM, Side.SERVER if dns_message.is_response(data[2:14]) else Side.CLIENT)


def _http2(data: bytes | bytearray, ports: tuple[int, int]) -> Detection:
    """The client's preface, or frames in the middle of a connection (RFC 9113, 3.4 and 4.1)."""
    found, side = http2_frames.looks_like(data)
    if found is None:
        return MORE
    return Detection(Detected.HTTP2, side) if found else NONE


def _kafka(data: bytes | bytearray, ports: tuple[int, int]) -> Detection:
    """A request; responses say nothing of themselves."""
    found = kafka_header.is_request(data, expected=not kafka_header.PORTS.isdisjoint(ports))
    if found is None:
        return MORE
    return Detection(Detected.KAFKA, Side.CLIENT) if found else NONE
