"""The single texts of a flow as the stock `hubble` CLI words them, plain and unescaped.

Messages in, text out: time, hosts, identities, type, verdict, summary. It knows no terminal and no layout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from time import gmtime
from typing import Any, Final

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from observer.api import flow_pb2
from observer.identity.endpoints import RESERVED_NAMES
from observer.monitor import DROP_REASONS, EVENT_TYPES, OBSERVATION_POINTS, POLICY_MATCHES

NO_TIME: Final = "N/A"
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FIRST_SECOND: Final = -62_135_596_800  # year 1
_END_SECOND: Final = 253_402_300_800  # year 10000

# Not record.EventType: `observe` prints before numpy would be loaded.
_EVENTS: Final = {name: number for number, name in EVENT_TYPES.items()}
_DROP: Final = _EVENTS["drop"]
_CAPTURE: Final = _EVENTS["capture"]
_TRACE: Final = _EVENTS["trace"]
_POLICY_VERDICT: Final = _EVENTS["policy-verdict"]
_TRACE_SOCK: Final = _EVENTS["trace-sock"]

_VERDICTS: Final = {value.number: value.name for value in flow_pb2.Verdict.DESCRIPTOR.values}
_AUTH_TYPES: Final = {value.number: value.name for value in flow_pb2.AuthType.DESCRIPTOR.values}
_DIRECTIONS: Final = {value.number: value.name for value in flow_pb2.TrafficDirection.DESCRIPTOR.values}
_L7_TYPES: Final = {value.number: value.name.lower() for value in flow_pb2.L7FlowType.DESCRIPTOR.values}
_CAPTURE_POINTS: Final = {value.number: value.name for value in flow_pb2.DebugCapturePoint.DESCRIPTOR.values}
_SOCKET_POINTS: Final = {value.number: value.name for value in flow_pb2.SocketTranslationPoint.DESCRIPTOR.values} | {
    flow_pb2.SOCK_XLATE_POINT_PRE_DIRECTION_FWD: "pre-xlate-fwd",
    flow_pb2.SOCK_XLATE_POINT_POST_DIRECTION_FWD: "post-xlate-fwd",
    flow_pb2.SOCK_XLATE_POINT_PRE_DIRECTION_REV: "pre-xlate-rev",
    flow_pb2.SOCK_XLATE_POINT_POST_DIRECTION_REV: "post-xlate-rev",
}
_OF_POLICY: Final = {
    flow_pb2.FORWARDED: "ALLOWED",
    flow_pb2.REDIRECTED: "ALLOWED",
    flow_pb2.DROPPED: "DENIED",
    flow_pb2.ERROR: "DENIED",
    flow_pb2.AUDIT: "AUDITED",
}


@lru_cache(maxsize=1024)
def _stamp(second: int) -> str:
    time = gmtime(second)
    return f"{_MONTHS[time.tm_mon - 1]} {time.tm_mday:2} {time.tm_hour:02}:{time.tm_min:02}:{time.tm_sec:02}"


@lru_cache(maxsize=1024)
def _iso(second: int) -> str:
    time = gmtime(second)
    return f"{time.tm_year:04}-{time.tm_mon:02}-{time.tm_mday:02}T{time.tm_hour:02}:{time.tm_min:02}:{time.tm_sec:02}"


def _rfc1123(second: int) -> str:
    time = gmtime(second)
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[time.tm_wday]
    clock = f"{time.tm_hour:02}:{time.tm_min:02}:{time.tm_sec:02}"
    return f"{day}, {time.tm_mday:02} {_MONTHS[time.tm_mon - 1]} {time.tm_year:04} {clock} +0000"


def _rfc3339(digits: int) -> Callable[[int, int], str]:
    """RFC 3339 with up to so many digits of the second, trailing zeros cut as Go cuts them."""

    def write(second: int, nanos: int) -> str:
        fraction = f"{nanos:09d}"[:digits].rstrip("0")
        return f"{_iso(second)}.{fraction}Z" if fraction else f"{_iso(second)}Z"

    return write


TIME_FORMATS: Final[dict[str, Callable[[int, int], str]]] = {
    "StampMilli": lambda second, nanos: f"{_stamp(second)}.{nanos // 1_000_000:03d}",
    "YearMonthDay": lambda second, _: _iso(second)[:10],
    "YearMonthDayHour": lambda second, _: f"{_iso(second)[:13]}Z",
    "YearMonthDayHourMinute": lambda second, _: f"{_iso(second)[:16]}Z",
    "RFC3339": _rfc3339(0),
    "RFC3339Milli": _rfc3339(3),
    "RFC3339Micro": _rfc3339(6),
    "RFC3339Nano": _rfc3339(9),
    "RFC1123Z": lambda second, _: _rfc1123(second),
}
"""How to write second and nanosecond in UTC, by the names that --time-format takes."""


def format_time(time: Timestamp | None, time_format: str = "StampMilli") -> str:
    """The time in UTC in one of TIME_FORMATS; "N/A" where there is none."""
    if time is None:
        return NO_TIME
    second, nanos = time.seconds, time.nanos
    if not (_FIRST_SECOND <= second < _END_SECOND and 0 <= nanos < 1_000_000_000):
        return NO_TIME
    return TIME_FORMATS[time_format](second, nanos)


def hosts_and_ports(flow: flow_pb2.Flow, *, translate: bool = True) -> tuple[tuple[str, str], tuple[str, str]]:
    """Host and port of source and destination; the port is empty where there is none."""
    if not flow.HasField("IP"):
        return (flow.ethernet.source, ""), (flow.ethernet.destination, "")
    source_port = destination_port = ""
    name = flow.l4.WhichOneof("protocol")
    if name in ("TCP", "UDP", "SCTP"):
        header = getattr(flow.l4, name)
        source_port, destination_port = str(header.source_port or ""), str(header.destination_port or "")
    ip = flow.IP
    if not translate:
        return (ip.source, source_port), (ip.destination, destination_port)
    return (
        (_host(flow, "source", ip.source, flow.source_names), source_port),
        (_host(flow, "destination", ip.destination, flow.destination_names), destination_port),
    )


def _host(flow: flow_pb2.Flow, side: Any, address: str, names: Sequence[str]) -> str:
    """Pod, service, names or address; a service's namespace stands before the pod too, as in Hubble."""
    end = getattr(flow, side)
    namespace, name = end.namespace, end.pod_name
    if flow.HasField(f"{side}_service"):
        service = getattr(flow, f"{side}_service")
        namespace, name = service.namespace, name or service.name
    if name:
        return f"{namespace}/{name}" if namespace else name
    return ",".join(names) if names else address


def join_port(host: str, port: str) -> str:
    """host:port, the host in brackets where it holds a colon itself."""
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_names(flow: flow_pb2.Flow, *, translate: bool = True) -> tuple[str, str]:
    """Source and destination with port: namespace/pod, service, names, address or MAC."""
    source, destination = hosts_and_ports(flow, translate=translate)
    return join_port(*source), join_port(*destination)


def _identity(number: int) -> str:
    name = _RESERVED.get(number)
    return f"(ID:{number})" if name is None else f"({name})"


_RESERVED: Final[dict[int, str]] = {int(identity): name for identity, name in RESERVED_NAMES.items()}


def identity_names(flow: flow_pb2.Flow) -> tuple[str, str]:
    """Identities of source and destination: "(world)", "(ID:1234)"."""
    return _identity(flow.source.identity), _identity(flow.destination.identity)


def flow_type(flow: flow_pb2.Flow) -> str:
    """What happened: "to-endpoint", "http-request", "Policy denied"."""
    if flow.HasField("l7"):
        kind = flow.l7.WhichOneof("record") or "l7"
        text = f"{kind}-{_L7_TYPES.get(flow.l7.type, str(flow.l7.type))}"
        return f"{text} {flow.l7.dns.observation_source}" if kind == "dns" else text
    event = flow.event_type
    sub_type = event.sub_type & 0xFF
    if event.type == _TRACE:
        return OBSERVATION_POINTS.get(sub_type, str(sub_type))
    if event.type == _DROP:
        return kernel_drop_reason(flow) or DROP_REASONS.get(sub_type, str(sub_type))
    if event.type == _POLICY_VERDICT:
        match = POLICY_MATCHES.get(flow.policy_match_type, str(flow.policy_match_type))
        return f"policy-verdict:{match} {_DIRECTIONS.get(flow.traffic_direction, str(flow.traffic_direction))}"
    if event.type == _CAPTURE:
        return _CAPTURE_POINTS.get(flow.debug_capture_point, str(flow.debug_capture_point))
    if event.type == _TRACE_SOCK:
        return _SOCKET_POINTS.get(flow.sock_xlate_point, str(flow.sock_xlate_point))
    return "UNKNOWN"


def kernel_drop_reason(flow: flow_pb2.Flow) -> str:
    """What the kernel calls the reason why it dropped a packet; Hubble has no place for it, and few numbers."""
    if not flow.extensions.Is(Struct.DESCRIPTOR):
        return ""
    extension = Struct()
    try:
        flow.extensions.Unpack(extension)
    except DecodeError:
        return ""
    return extension.fields["skb_drop_reason"].string_value if "skb_drop_reason" in extension.fields else ""


def verdict(flow: flow_pb2.Flow, *, policy_names: bool = False) -> str:
    """The verdict, with the policies that decided where asked for."""
    text = _VERDICTS.get(flow.verdict, str(flow.verdict))
    if flow.event_type.type == _POLICY_VERDICT:
        text = _OF_POLICY.get(flow.verdict, text)
    return text + deciding_policies(flow) if policy_names else text


def deciding_policies(flow: flow_pb2.Flow) -> str:
    """' BY name (Kind), ...': who refused, else who allowed; empty where no policy is named."""
    decided = [*flow.egress_denied_by, *flow.ingress_denied_by] or [*flow.egress_allowed_by, *flow.ingress_allowed_by]
    if not decided:
        return ""
    return " BY " + ", ".join(
        dict.fromkeys(f"{policy.name} ({policy.kind})" if policy.kind else policy.name for policy in decided)
    )


def summary(flow: flow_pb2.Flow) -> str:
    """The server's summary with the CLI's additions."""
    text = flow.Summary
    if flow.ip_trace_id.trace_id:
        text = f"IP Trace ID: {flow.ip_trace_id.trace_id}; {text}"
    if flow.auth_type:
        text += f"; Auth: {_AUTH_TYPES.get(flow.auth_type, flow.auth_type)}"
    return text
