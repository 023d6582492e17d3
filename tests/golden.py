"""Hold flows to a golden: what another program, or the clients' own log, says of the same capture.

`python -m tests.golden CAPTURE [GOLDEN]` runs a capture through flowscope and prints each difference in words; without
GOLDEN it takes NAME.golden.jsonl or CAPTURE.tshark.jsonl, whichever lies beside. Messages are compared by their order
within a direction of a connection, never by frame: others date a request to the frame in which its body ends.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.struct_pb2 import Struct

from observer.api import flow_pb2, observer_pb2
from observer.client.source import open_capture_source
from observer.l7.kafka_schema import KEYS, name_of

Golden = dict[str, Any]
FLOWING = ("tcp", "udp", "sctp", "icmp", "icmpv6")
TCP_FLAGS = ("syn", "fin", "rst")
DNS_TYPES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 13: "HINFO", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV",
    35: "NAPTR", 43: "DS", 46: "RRSIG", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 99: "SPF", 249: "TKEY", 250: "TSIG",
    251: "IXFR", 252: "AXFR", 255: "ANY", 257: "CAA",
}  # fmt: skip
"""Names of the IANA registry of DNS types."""


class Ends(NamedTuple):
    """One direction of a connection."""

    protocol: str
    source: str
    source_port: int
    destination: str
    destination_port: int
    vlan: int = 0  # the outermost id; 0 as well where the golden does not tell

    def __str__(self) -> str:
        ports = (f":{self.source_port}", f":{self.destination_port}") if self.source_port else ("", "")
        vlan = f" (VLAN {self.vlan})" if self.vlan else ""
        return f"{self.protocol} {self.source}{ports[0]} -> {self.destination}{ports[1]}{vlan}"


Unread = set[tuple[int, int]]
"""Kafka API keys and versions."""

Told = dict[Ends, list[str]]
"""What a witness tells of each direction: messages in order, in words."""


def read_golden(path: Path) -> list[Golden]:
    """The objects of a golden file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def golden_beside(capture: Path) -> Path:
    """The golden of a capture, ours or one of the public collection."""
    beside = (capture.with_suffix(".golden.jsonl"), capture.with_name(f"{capture.name}.tshark.jsonl"))
    found = next((path for path in beside if path.exists()), None)
    if found is None:
        raise SystemExit(f"{capture}: no golden beside it ({beside[0].name} or {beside[1].name})")
    return found


def flows_of(
    capture: Path, identities: Path | None = None, policies: Sequence[Path] = ()
) -> tuple[list[flow_pb2.Flow], dict[tuple[str, str], int]]:
    """All flows of a capture, as any face of flowscope gets them, and what was lost by (stage, reason)."""
    source = open_capture_source(capture, identities=identities, policies=policies)
    try:
        request = observer_pb2.GetFlowsRequest(number=1 << 40, first=True)
        flows = [answer.flow for answer in source.get_flows(request) if answer.WhichOneof("response_types") == "flow"]
        return flows, {(stage, reason): number for stage, reason, number in source.status().losses}
    finally:
        source.close()


def compare(golden: Iterable[Golden], flows: Iterable[flow_pb2.Flow]) -> list[str]:
    """Every difference between a golden and flows, in words; empty when they agree."""
    lines = list(golden)
    vlans = any("vlan" in line for line in lines)
    ends = [(_flow_ends(flow, vlans), flow) for flow in flows]
    told = _differing(_golden_messages(lines), _flow_messages(ends, _unread(lines)))
    return told + _differing(_golden_hellos(lines), _flow_hellos(ends)) + _http2(lines, ends) + _packets(lines, ends)


# What is compared of a message, from both witnesses in the same words


def _request(method: str, url: str, version: str) -> str:
    return f"request {method} {url} {version}"


def _response(status: int) -> str:
    return f"response {status}"


def _dns(identifier: int, answered: bool, name: str, types: Sequence[str], rcode: int, ips: Sequence[str]) -> str:
    question = f"{identifier} {name.rstrip('.')} {','.join(types)}"
    return f"dns answer {question} rcode {rcode} {','.join(ips)}" if answered else f"dns query {question}"


def _kafka_request(key: int, version: int, id_: int, client_id: str, topics: Iterable[str] | None) -> str:
    named = "?" if topics is None else ",".join(dict.fromkeys(topics))
    return f"kafka request {name_of(key)} v{version} id {id_} client {client_id} topics {named}"


def _kafka_response(key: int | None, version: int | None, id_: int) -> str:
    known = "?" if key is None else f"{name_of(key)} v{version}"
    return f"kafka response {known} id {id_}"


def number_of(name: str) -> int:
    """The number of a Kafka API key."""
    return KEYS[name] if name in KEYS else int(name)


def _unread(lines: Iterable[Golden]) -> Unread:
    """Where the golden does not tell topics (null): its witness cannot read those versions."""
    return {
        (line["api_key"], line["api_version"]) for line in lines if line["t"] == "kafka_req" and line["topics"] is None
    }


def _golden_messages(lines: Iterable[Golden]) -> Told:
    told: Told = defaultdict(list)
    lines = list(lines)
    unread = _unread(lines)
    for line in lines:
        if line["t"] == "http1_req":
            words = _request(line["method"], _url(line["method"], line["uri"], line["host"] or ""), line["version"])
        elif line["t"] == "http1_resp":
            if 100 <= line["status"] < 200 and line["status"] != 101:
                continue  # interim responses are passed over (RFC 9110, 15.2)
            words = _response(line["status"])
        elif line["t"] == "dns" and line["qr"] is not None:
            name = "" if line["names"][:1] in ([], ["<Root>"]) else line["names"][0]
            types = [DNS_TYPES.get(kind, f"TYPE{kind}") for kind in line["types"]]
            words = _dns(line["id"], bool(line["qr"]), name, types, line["rcode"] or 0, line["answers"])
        elif line["t"] == "kafka_req":
            key, version = line["api_key"], line["api_version"]
            topics = None if (key, version) in unread else line["topics"]
            words = _kafka_request(key, version, line["correlation_id"], line["client_id"] or "", topics)
        elif line["t"] == "kafka_resp":
            words = _kafka_response(line.get("api_key"), line.get("api_version"), line["correlation_id"])
        else:
            continue
        told[_golden_ends(line, line.get("proto", "tcp"))].append(words)
    return told


def _url(method: str, target: str, host: str) -> str:
    if method == "CONNECT" or not host or not target.startswith("/"):
        return f"http://{host}" if target == "*" and host else target
    return f"http://{host}{target}"


def _golden_ends(line: Golden, protocol: str) -> Ends:
    return Ends(protocol, line["src"], line["sport"] or 0, line["dst"], line["dport"] or 0, line.get("vlan", 0))


def _flow_messages(flows: Iterable[tuple[Ends, flow_pb2.Flow]], unread: Unread) -> Told:
    told: Told = defaultdict(list)
    for ends, flow in flows:
        if flow.Type != flow_pb2.L7:
            continue
        http, dns = flow.l7.http, flow.l7.dns
        is_response = flow.l7.type == flow_pb2.RESPONSE
        match flow.l7.WhichOneof("record"):
            case "http" if http.protocol.startswith("HTTP/2"):
                continue
            case "http":
                words = _response(http.code) if is_response else _request(http.method, http.url, http.protocol)
            case "dns":
                words = _dns(
                    int(_ours(flow)["dns"]["id"]), is_response, dns.query, list(dns.qtypes), dns.rcode, list(dns.ips)
                )
            case "kafka" if is_response:
                kafka = flow.l7.kafka
                key = number_of(kafka.api_key) if kafka.api_key else None
                words = _kafka_response(key, kafka.api_version, kafka.correlation_id)
            case "kafka":
                kafka, ours = flow.l7.kafka, dict(dict(_ours(flow)).get("kafka", {}))
                key = number_of(kafka.api_key)
                topics = None if (key, kafka.api_version) in unread else list(ours.get("topics", ()))
                client_id = ours.get("client_id", "")
                words = _kafka_request(key, kafka.api_version, kafka.correlation_id, client_id, topics)
            case _:
                continue
        told[ends].append(words)
    return told


def _ours(flow: flow_pb2.Flow) -> Struct:
    """What Hubble has no place for: the DNS id, the VLAN."""
    ours = Struct()
    flow.extensions.Unpack(ours)
    return ours


def _flow_ends(flow: flow_pb2.Flow, vlans: bool) -> Ends:
    protocol = flow.l4.WhichOneof("protocol") or "ip"
    name = {"ICMPv4": "icmp", "ICMPv6": "icmpv6"}.get(protocol, protocol.lower())
    layer = getattr(flow.l4, protocol, None)
    ports = (getattr(layer, "source_port", 0), getattr(layer, "destination_port", 0))
    vlan = int(dict(_ours(flow)).get("vlan", 0)) if vlans else 0
    return Ends(name, flow.IP.source, ports[0], flow.IP.destination, ports[1], vlan)


def _differing(golden: Told, ours: Told) -> list[str]:
    out = []
    for ends in sorted(golden.keys() | ours.keys()):
        theirs, mine = golden.get(ends, []), ours.get(ends, [])
        for kind, i1, i2, j1, j2 in SequenceMatcher(None, theirs, mine, autojunk=False).get_opcodes():
            if kind != "equal":
                out += [f"{ends}: message {n + 1}: only the golden has: {theirs[n]}" for n in range(i1, i2)]
                out += [f"{ends}: message {n + 1}: only flowscope has: {mine[n]}" for n in range(j1, j2)]
    return out


# TLS: the first ClientHello of a connection, which is no message of ours: the connection's flows tell it from then on


def _golden_hellos(lines: Sequence[Golden]) -> Told:
    overs = {_golden_ends(line, "tcp") for line in lines if line["t"] == "l4" and line["proto"] == "tcp"}
    told: Told = defaultdict(list)
    streams = set()
    for line in lines:
        if line["t"] == "tls_hello" and (ends := _golden_ends(line, "tcp")) in overs:  # else QUIC's
            if (line.get("stream"), ends) not in streams:  # a second one answers HelloRetryRequest
                told[ends].append(_hello(line["sni"] or "", line["alpn"]))
            streams.add((line.get("stream"), ends))
    return told


def _flow_hellos(flows: Iterable[tuple[Ends, flow_pb2.Flow]]) -> Told:
    told: Told = defaultdict(list)
    greeted = set()
    for ends, flow in flows:
        if flow.l4.TCP.flags.SYN:
            greeted.discard(ends)
        tls = dict(_ours(flow)).get("tls")
        if tls is not None and not flow.is_reply.value and ends not in greeted:
            greeted.add(ends)
            told[ends].append(_hello(dict(tls).get("server_name", ""), list(dict(tls).get("alpn", []))))
    return told


def _hello(name: str, protocols: Sequence[str]) -> str:
    return f"hello for {name} alpn {','.join(protocols)}"


# HTTP/2: by stream, because others date a response to its first frame, and flowscope that of gRPC to its last


HTTP2 = ("http2_req", "http2_resp", "http2_trailer")


def _http2(lines: Iterable[Golden], flows: Iterable[tuple[Ends, flow_pb2.Flow]]) -> list[str]:
    theirs: dict[Ends, list[tuple[int, str]]] = defaultdict(list)
    for line in lines:
        if line["t"] not in HTTP2:
            continue
        here, sid = theirs[_golden_ends(line, "tcp")], line["sid"]
        if line["t"] == "http2_req":
            scheme, authority = line["scheme"] or "http", line["authority"] or ""
            path = (authority if line["method"] == "CONNECT" else "") if line["path"] is None else line["path"]
            url = f"{scheme}://{authority}{path}" if path.startswith("/") and authority else path
            here.append((sid, f"stream {sid}: {line['method']} {url}"))
        elif line["t"] == "http2_resp" and not 100 <= line["status"] < 200:
            here.append((sid, f"stream {sid}: {_response(line['status'])}"))
        if line.get("grpc_status") is not None:
            here.append((sid, f"stream {sid}: grpc-status {line['grpc_status']}"))
    ours: dict[Ends, list[tuple[int, str]]] = defaultdict(list)
    for ends, flow in flows:
        extension = dict(_ours(flow))
        if flow.Type != flow_pb2.L7 or "http2" not in extension:
            continue
        sid = int(extension["http2"]["stream_id"])
        http = flow.l7.http
        if flow.l7.type == flow_pb2.REQUEST:
            ours[ends].append((sid, f"stream {sid}: {http.method} {http.url}"))
        elif http.code:
            ours[ends].append((sid, f"stream {sid}: {_response(http.code)}"))
        if "status" in (grpc := dict(extension.get("grpc", {}))):
            ours[ends].append((sid, f"stream {sid}: grpc-status {int(grpc['status'])}"))
    return _differing(_by_stream(theirs), _by_stream(ours))


def _by_stream(told: dict[Ends, list[tuple[int, str]]]) -> Told:
    return {ends: [words for _, words in sorted(lines, key=lambda line: line[0])] for ends, lines in told.items()}


# Packets: every direction has a flow and no flow has a direction that was not there; so for SYN, FIN and RST


def _packets(golden: Iterable[Golden], flows: Iterable[tuple[Ends, flow_pb2.Flow]]) -> list[str]:
    theirs: dict[Ends, set[str]] = defaultdict(set)
    around = set()
    for line in golden:
        if line["t"] == "l4":
            ends = _golden_ends(line, line["proto"])
            if line["layer"] == "outer":
                around.add(ends)
            if line["proto"] in FLOWING:
                theirs[ends] |= {flag for flag in TCP_FLAGS if line[flag]}
    ours: dict[Ends, set[str]] = defaultdict(set)
    for ends, flow in flows:
        if ends.protocol in FLOWING:
            ours[ends] |= {flag for flag in TCP_FLAGS if getattr(flow.l4.TCP.flags, flag.upper())}
    tunnels = {ends for _, flow in flows if (ends := _tunnel_ends(flow)) is not None}
    out = [f"{ends}: a tunnel, but no packets" for ends in sorted(tunnels - around)]
    # What a tunnel carries stands in its packets' place.
    out += [f"{ends}: packets, but no flow" for ends in sorted(theirs.keys() - ours.keys() - tunnels)]
    out += [f"{ends}: a flow, but no packets" for ends in sorted(ours.keys() - theirs.keys())]
    for ends in sorted(theirs.keys() & ours.keys()):
        out += [f"{ends}: {flag.upper()} in no flow" for flag in sorted(theirs[ends] - ours[ends])]
        out += [f"{ends}: {flag.upper()} in no packet" for flag in sorted(ours[ends] - theirs[ends])]
    return out


def _tunnel_ends(flow: flow_pb2.Flow) -> Ends | None:
    """The outermost headers around the packet of a flow."""
    told = dict(_ours(flow)).get("tunnel")
    if told is not None:
        outermost = dict(told)
        while "outer" in outermost:
            outermost = dict(outermost["outer"])
        ports = (int(outermost.get("source_port", 0)), int(outermost.get("destination_port", 0)))
        ends = (outermost["source"], ports[0], outermost["destination"], ports[1])
        return Ends("udp" if ports[1] else "ip", *ends)
    if flow.HasField("tunnel"):
        outer, ports = flow.tunnel.IP, flow.tunnel.l4.UDP
        return Ends("udp", outer.source, ports.source_port, outer.destination, ports.destination_port)
    return None


def main(words: Sequence[str]) -> int:
    """Compare one capture with its golden; exit code 1 when they differ."""
    if not 1 <= len(words) <= 2:
        raise SystemExit("usage: python -m tests.golden CAPTURE [GOLDEN]")
    capture = Path(words[0])
    golden = read_golden(Path(words[1]) if len(words) > 1 else golden_beside(capture))
    flows, losses = flows_of(capture)
    differences = compare(golden, flows)
    messages = sum(map(len, (*_golden_messages(golden).values(), *_golden_hellos(golden).values())))
    messages += sum(line["t"] in HTTP2 for line in golden)
    print("\n".join([*differences, f"{capture.name}: {messages} messages, {len(differences)} differences"]))
    for (stage, reason), number in losses.items():
        print(f"  lost: {stage}: {reason}: {number}")
    return bool(differences)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
