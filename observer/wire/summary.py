"""The texts of Flow.Summary, as Hubble's server composes them (contract: the CLI prints them unchanged).

Numbers of protocols in, texts out; names of ICMP types and DNS response codes are those Hubble prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from observer.extra import DnsAnswer
from observer.record import Protocol, TcpFlag

_FLAG_ORDER: Final = (
    TcpFlag.SYN,
    TcpFlag.ACK,
    TcpFlag.RST,
    TcpFlag.FIN,
    TcpFlag.PSH,
    TcpFlag.URG,
    TcpFlag.ECE,
    TcpFlag.CWR,
    TcpFlag.NS,
)

# Types without codes of their own map to no names.
_ICMP_V4: Final[dict[int, tuple[str, tuple[str, ...]]]] = {
    0: ("EchoReply", ()),
    3: (
        "DestinationUnreachable",
        (
            "Net",
            "Host",
            "Protocol",
            "Port",
            "FragmentationNeeded",
            "SourceRoutingFailed",
            "NetUnknown",
            "HostUnknown",
            "SourceIsolated",
            "NetAdminProhibited",
            "HostAdminProhibited",
            "NetTOS",
            "HostTOS",
            "CommAdminProhibited",
            "HostPrecedence",
            "PrecedenceCutoff",
        ),
    ),
    4: ("SourceQuench", ()),
    5: ("Redirect", ("Net", "Host", "TOS+Net", "TOS+Host")),
    8: ("EchoRequest", ()),
    9: ("RouterAdvertisement", ()),
    10: ("RouterSolicitation", ()),
    11: ("TimeExceeded", ("TTLExceeded", "FragmentReassemblyTimeExceeded")),
    12: ("ParameterProblem", ("PointerIndicatesError", "MissingOption", "BadLength")),
    13: ("TimestampRequest", ()),
    14: ("TimestampReply", ()),
    15: ("InfoRequest", ()),
    16: ("InfoReply", ()),
    17: ("AddressMaskRequest", ()),
    18: ("AddressMaskReply", ()),
}
_ICMP_V6: Final[dict[int, tuple[str, tuple[str, ...]]]] = {
    1: (
        "DestinationUnreachable",
        (
            "NoRouteToDst",
            "AdminProhibited",
            "BeyondScopeOfSrc",
            "AddressUnreachable",
            "PortUnreachable",
            "SrcAddressFailedPolicy",
            "RejectRouteToDst",
        ),
    ),
    2: ("PacketTooBig", ()),
    3: ("TimeExceeded", ("HopLimitExceeded", "FragmentReassemblyTimeExceeded")),
    4: ("ParameterProblem", ("ErroneousHeaderField", "UnrecognizedNextHeader", "UnrecognizedIPv6Option")),
    128: ("EchoRequest", ()),
    129: ("EchoReply", ()),
    133: ("RouterSolicitation", ()),
    134: ("RouterAdvertisement", ()),
    135: ("NeighborSolicitation", ()),
    136: ("NeighborAdvertisement", ()),
    137: ("Redirect", ()),
}

# "Server Failure " ends in a space, in Hubble too.
_DNS_RCODES: Final = {
    1: "Format Error",
    2: "Server Failure ",
    3: "Non-Existent Domain",
    4: "Not Implemented",
    5: "Query Refused",
    6: "Name Exists when it should not",
    7: "RR Set Exists when it should not",
    8: "RR Set that should exist does not",
    9: "Server Not Authoritative for zone",
    10: "Name not contained in zone",
    16: "Bad OPT Version",
    17: "Key not recognized",
    18: "Signature out of time window",
    19: "Bad TKEY Mode",
    20: "Duplicate key name",
    21: "Algorithm not supported",
    22: "Bad Truncation",
    23: "Bad/missing Server Cookie",
}

_QUOTED: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def quote(text: str) -> str:
    """A Go string literal, as %q prints it."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join([_quote(character) for character in text]) + '"'


def _quote(character: str) -> str:
    if known := _QUOTED.get(character):
        return known
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def tcp(flags: int) -> str:
    """The summary of a TCP packet, from its flags."""
    return "TCP Flags: " + ", ".join([str(flag.name) for flag in _FLAG_ORDER if flags & flag])


def icmp(version: int, icmp_type: int, code: int) -> str:
    """The summary of an ICMP packet of IP version 4 or 6."""
    known = (_ICMP_V4 if version == 4 else _ICMP_V6).get(icmp_type)
    if known is None:
        text = f"{icmp_type}({code})"
    else:
        name, codes = known
        if code < len(codes):
            text = f"{name}({codes[code]})"
        elif codes or code:
            text = f"{name}(Code: {code})"
        else:
            text = name
    return f"ICMPv{version} {text}"


def transport(protocol: int, icmp_type: int, icmp_code: int) -> str:
    """The summary of a packet that is not TCP; empty for protocols that Hubble does not know."""
    match protocol:
        case Protocol.UDP:
            return "UDP"
        case Protocol.SCTP:
            return "SCTP"
        case Protocol.ICMP:
            return icmp(4, icmp_type, icmp_code)
        case Protocol.ICMPV6:
            return icmp(6, icmp_type, icmp_code)
        case Protocol.IGMP:
            return "IGMP"
        case Protocol.VRRP:
            return "VRRP"
        case _:
            return ""


def dns_query(query: str, qtypes: Sequence[str]) -> str:
    """The summary of a DNS query."""
    return f"DNS Query {query} {','.join(qtypes)}"


def dns_answer(query: str, qtypes: Sequence[str], rcode: int, answer: DnsAnswer) -> str:
    """The summary of a DNS response."""
    if rcode:
        text = f"RCode: {_DNS_RCODES.get(rcode, 'Unknown')}"
    else:
        parts = []
        if answer.ips:
            parts.append(quote(",".join(answer.ips)))
        if answer.cnames:
            parts.append(f"CNAMEs: {quote(','.join(answer.cnames))}")
        text = " ".join(parts)
    return f"DNS Answer {text} TTL: {answer.ttl} (Query {query} {','.join(qtypes)})"


def kafka(request: bool, api_key: str, correlation_id: int, topic: str, error_code: int) -> str:
    """The summary of a Kafka request or response."""
    if request:
        return f"Kafka request {api_key} correlation id {correlation_id} topic '{topic}'"
    return f"Kafka response {api_key} correlation id {correlation_id} topic '{topic}' return code {error_code}"
