"""The extra of a flow: what a record has no room for (headers, DNS answers, long paths, an imported protobuf).

Raw bytes stay raw until somebody reads them. Extras are rare in the kernel tier and one per L7 flow in user space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class DnsAnswer(NamedTuple):
    """What a DNS message says beyond query name, type and rcode (flow.DNS has the same fields).

    A tuple, because a frozen dataclass takes four times as long to make, and there is one for every message.
    """

    ips: tuple[str, ...] = ()
    cnames: tuple[str, ...] = ()
    ttl: int = 0  # seconds, the smallest of the answers
    qtypes: tuple[str, ...] = ()
    rrtypes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The outer headers of an encapsulated packet (flow.Tunnel)."""

    protocol: int  # flow.Tunnel.Protocol
    source_ip: str
    destination_ip: str
    source_port: int
    destination_port: int
    vni: int


@dataclass(slots=True)
class Extra:
    """What belongs to one record and does not fit into it; every field is optional."""

    texts: tuple[bytes, ...] = ()  # the record's strings whole, where it had to cut one
    head: bytes = b""  # HTTP header fields as sent: lines after the start line, without the empty line
    dns: DnsAnswer | None = None
    source_names: tuple[str, ...] = ()
    destination_names: tuple[str, ...] = ()
    tunnel: Tunnel | None = None
    trace_id: str = ""  # W3C traceparent
    extension: Mapping[str, Any] | None = None  # what Hubble has no place for; JSON values only
    imported: bytes = b""  # a serialized flow.Flow from another server or a file


def header_fields(head: bytes) -> list[tuple[str, str]]:
    """Split the raw header section of an HTTP/1 message into (name, value) pairs, in order, names as sent.

    Obsolete line folding is joined with one space (RFC 9112, 5.2); lines without a colon are left out.
    """
    fields: list[tuple[str, str]] = []
    for line in head.split(b"\n"):
        line = line.rstrip(b"\r")
        if line[:1] in (b" ", b"\t") and fields:
            name, value = fields[-1]
            more = line.strip(b" \t").decode("utf-8", "backslashreplace")
            fields[-1] = (name, f"{value} {more}".strip())
            continue
        raw_name, colon, raw_value = line.partition(b":")
        if colon and raw_name:
            fields.append(
                (
                    raw_name.rstrip(b" \t").decode("utf-8", "backslashreplace"),
                    raw_value.strip(b" \t").decode("utf-8", "backslashreplace"),
                )
            )
    return fields
