"""From toPorts and icmps of a policy document to model.py's ports, HTTP and Kafka rules.

The refusals are those of Cilium's PortRule and L7Rules checks: L7 rules only over TCP written out, no port 0, one kind
an entry. DNS rules, TLS and listeners are refused by name: they are not read yet.
"""

from __future__ import annotations

import re
from typing import Final

from observer.policy.http_rules import MISMATCH_ACTIONS, HeaderRule, HttpRule, Pattern, header_rule
from observer.policy.kafka_rules import API_KEYS, ROLES, TOPIC_NAME, KafkaRule
from observer.policy.model import IcmpType, PortRule, Ports
from observer.record import Protocol
from observer.yamlfile import Value

PORTS_LIMIT: Final = 40
"""Ports of an entry of toPorts, and types of an entry of icmps (Cilium's maxPorts, maxICMPFields)."""

_PROTOCOLS: Final = {
    "TCP": frozenset((Protocol.TCP,)),
    "UDP": frozenset((Protocol.UDP,)),
    "SCTP": frozenset((Protocol.SCTP,)),
    "ANY": frozenset((Protocol.TCP, Protocol.UDP, Protocol.SCTP)),
}
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,4}")
_NAME: Final = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")  # RFC 6335, 5.1

_LATER: Final = ("terminatingTLS", "originatingTLS", "serverNames", "listener")

_ICMP_NAMES: Final = {
    4: {
        "EchoReply": 0,
        "DestinationUnreachable": 3,
        "Redirect": 5,
        "Echo": 8,
        "EchoRequest": 8,
        "RouterAdvertisement": 9,
        "RouterSelection": 10,
        "TimeExceeded": 11,
        "ParameterProblem": 12,
        "Timestamp": 13,
        "TimestampReply": 14,
        "Photuris": 40,
        "ExtendedEchoRequest": 42,
        "ExtendedEchoReply": 43,
    },
    6: {
        "DestinationUnreachable": 1,
        "PacketTooBig": 2,
        "TimeExceeded": 3,
        "ParameterProblem": 4,
        "EchoRequest": 128,
        "EchoReply": 129,
        "MulticastListenerQuery": 130,
        "MulticastListenerReport": 131,
        "MulticastListenerDone": 132,
        "RouterSolicitation": 133,
        "RouterAdvertisement": 134,
        "NeighborSolicitation": 135,
        "NeighborAdvertisement": 136,
        "RedirectMessage": 137,
        "RouterRenumbering": 138,
        "ICMPNodeInformationQuery": 139,
        "ICMPNodeInformationResponse": 140,
        "InverseNeighborDiscoverySolicitation": 141,
        "InverseNeighborDiscoveryAdvertisement": 142,
        "HomeAgentAddressDiscoveryRequest": 144,
        "HomeAgentAddressDiscoveryReply": 145,
        "MobilePrefixSolicitation": 146,
        "MobilePrefixAdvertisement": 147,
        "DuplicateAddressRequestCodeSuffix": 157,
        "DuplicateAddressConfirmationCodeSuffix": 158,
        "ExtendedEchoRequest": 160,
        "ExtendedEchoReply": 161,
    },
}


def port_rules(value: Value, *, deny: bool) -> tuple[PortRule, ...]:
    """The entries of toPorts; those of a deny rule know no L7 rules."""
    return tuple(_port_rule(item, deny) for item in value.items())


def _port_rule(value: Value, deny: bool) -> PortRule:
    fields = value.fields(("ports",)) if deny else value.fields(("ports", "rules"), _LATER)
    entries = fields["ports"].items() if "ports" in fields else []
    if len(entries) > PORTS_LIMIT:
        raise fields["ports"].error(f"more than {PORTS_LIMIT} ports; split them over several entries, or use endPort")
    ports = tuple(_ports(entry) for entry in entries)
    http, kafka = _l7_rules(fields["rules"]) if "rules" in fields else ((), ())
    if http or kafka:
        if not ports:
            raise value.error("rules need ports with protocol: TCP; name the ports they are for")
        for entry, port in zip(entries, ports, strict=True):
            if port.protocols != {Protocol.TCP}:
                raise entry.error("L7 rules need protocol: TCP written out (missing means ANY)")
            if port.every:
                raise entry.error("L7 rules cannot be used with port 0; name the ports")
    return PortRule(ports, http, kafka)


def _ports(value: Value) -> Ports:
    fields = value.fields(("port", "endPort", "protocol"))
    if "port" not in fields:
        raise value.error('port is missing; as in port: "8080"')
    protocol = fields["protocol"].string().upper() if "protocol" in fields else "ANY"
    if protocol not in _PROTOCOLS:
        advice = "; write an icmps rule" if protocol.startswith("ICMP") else ""
        known = ", ".join(_PROTOCOLS)
        raise fields["protocol"].error(f"unknown protocol {fields['protocol'].shown}, one of {known}{advice}")
    protocols = _PROTOCOLS[protocol or "ANY"]
    text = fields["port"].string()
    end = fields["endPort"].integer(0, 65535) if "endPort" in fields else 0
    if _NAME.fullmatch(text.lower()):
        if end:
            raise fields["endPort"].error("a named port has no endPort; write the number of the port")
        return Ports(0, 0, protocols, text.lower())
    if not _NUMBER.fullmatch(text) or int(text) > 65535:
        raise fields["port"].error(
            f"must be a number from 1 to 65535, 0 for every port, or a name, not {fields['port'].shown}"
        )
    port = int(text)
    if not port:
        if end:
            raise fields["endPort"].error("port 0 is every port and has no endPort; begin the range at 1")
        return Ports(0, 65535, protocols)
    if end and end < port:
        raise fields["endPort"].error(f"must not be smaller than port {port}; swap the two")
    return Ports(port, end or port, protocols)


def _l7_rules(value: Value) -> tuple[tuple[HttpRule, ...], tuple[KafkaRule, ...]]:
    fields = value.fields(("http", "kafka", "dns", "l7proto", "l7"))
    for name in ("dns", "l7proto", "l7"):
        if name in fields and not fields[name].empty:
            raise fields[name].later()
    filled = [name for name in ("http", "kafka") if name in fields and fields[name].items()]
    if filled and len(fields) > 1:
        raise value.error("only one kind of L7 rules an entry; write one entry of toPorts for each")
    http = tuple(_http_rule(item) for item in fields["http"].items()) if "http" in fields else ()
    kafka = tuple(_kafka_rule(item) for item in fields["kafka"].items()) if "kafka" in fields else ()
    return http, kafka


def _http_rule(value: Value) -> HttpRule:
    fields = value.fields(("method", "path", "host", "headers", "headerMatches"))
    headers: list[HeaderRule] = []
    for item in fields["headers"].items() if "headers" in fields else ():
        try:
            headers.append(header_rule(item.string()))
        except ValueError as error:
            raise item.error(f"{item.shown} is no header rule; {error}") from None
    for item in fields["headerMatches"].items() if "headerMatches" in fields else ():
        rule = _header_match(item)
        if rule is not None:
            headers.append(rule)
    patterns = {name: _pattern(fields[name]) for name in ("method", "path", "host") if name in fields}
    return HttpRule(**patterns, headers=tuple(headers))


def _pattern(value: Value) -> Pattern:
    try:
        return Pattern(value.string())
    except ValueError as error:
        raise value.error(f"{value.shown} is refused by RE2: {error}; rewrite it in RE2 syntax") from None


def _header_match(value: Value) -> HeaderRule | None:
    """A condition on a header; none where a mismatch would only be logged or mended."""
    fields = value.fields(("name", "value", "mismatch"), ("secret",))
    if "name" not in fields:
        raise value.error("name is missing; as in {name: X-Token, value: abc}")
    name = fields["name"].name()
    text = fields["value"].string() if "value" in fields else ""
    mismatch = fields["mismatch"].string() if "mismatch" in fields else ""
    if mismatch and mismatch not in MISMATCH_ACTIONS:
        raise fields["mismatch"].error(
            f"unknown action {fields['mismatch'].shown}; one of {', '.join(MISMATCH_ACTIONS)}"
        )
    return None if mismatch else HeaderRule(name.lower(), text or None)


def _kafka_rule(value: Value) -> KafkaRule:
    fields = value.fields(("role", "apiKey", "apiVersion", "clientID", "topic"))
    text = {name: field.string() for name, field in fields.items()}
    keys: frozenset[int] | None = None
    if role := text.get("role"):
        if role.lower() not in ROLES:
            raise fields["role"].error(f"unknown role {fields['role'].shown}; produce or consume")
        keys = ROLES[role.lower()]
    if api_key := text.get("apiKey"):
        if api_key.lower() not in API_KEYS:
            raise fields["apiKey"].error(f"unknown API key {fields['apiKey'].shown}; one of {', '.join(API_KEYS)}")
        keys = (keys or frozenset()) | {API_KEYS[api_key.lower()]}
    version: int | None = None
    if text.get("apiVersion"):
        if not _NUMBER.fullmatch(text["apiVersion"]) or int(text["apiVersion"]) > 32767:
            raise fields["apiVersion"].error(f"must be a number in quotes, not {fields['apiVersion'].shown}")
        version = int(text["apiVersion"])
    topic = text.get("topic", "")
    if topic and not TOPIC_NAME.fullmatch(topic):
        raise fields["topic"].error(f"{fields['topic'].shown} is no topic name: letters, digits, . _ -; no wildcards")
    return KafkaRule(keys, version, text.get("clientID", ""), topic)


def icmp_types(value: Value) -> tuple[IcmpType, ...]:
    """The types that icmps names."""
    types: list[IcmpType] = []
    for rule in value.items():
        fields = rule.fields(("fields",))
        entries = fields["fields"].items() if "fields" in fields else []
        if len(entries) > PORTS_LIMIT:
            raise fields["fields"].error(f"more than {PORTS_LIMIT} types; split them over several entries")
        types += [_icmp_type(entry) for entry in entries]
    return tuple(types)


def _icmp_type(value: Value) -> IcmpType:
    fields = value.fields(("family", "type"))
    if "type" not in fields:
        raise value.error("type is missing; as in {family: IPv4, type: EchoRequest}")
    name = fields["family"].string() if "family" in fields else "IPv4"
    families = {"IPv4": 4, "IPv6": 6, "": 4}
    if name not in families:
        raise fields["family"].error(f"unknown family {fields['family'].shown}; IPv4 or IPv6")
    family = families[name]
    type_ = fields["type"]
    if type_.type != "str":
        return IcmpType(family, type_.integer(0, 255))
    text = type_.string()
    if _NUMBER.fullmatch(text) and int(text) <= 255:
        return IcmpType(family, int(text))
    if text not in _ICMP_NAMES[family]:
        raise type_.error(f"unknown type {type_.shown} of family {name}; a number from 0 to 255, or as EchoRequest")
    return IcmpType(family, _ICMP_NAMES[family][text])
