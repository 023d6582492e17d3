"""The filter as the screen has it: a text, as a condition over columns and as what a server can select by itself.

Texts of the filter language enter; conditions, FlowFilters, changed texts and words for the bar leave. It knows no
store and no screen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from observer.api import flow_pb2
from observer.filters.expression import Expression
from observer.filters.fields import PROTOCOLS
from observer.filters.fields import VERDICTS as ALL_VERDICTS
from observer.filters.language import joined, parse
from observer.filters.tree import EVERYTHING, And, Node, Word, quoted, term, text_of
from observer.filters.tree import Condition as Test
from observer.printer import flow_type
from observer.record import EventType
from tui.matches import Condition
from tui.view import deciding, direction, protocol, verdict_name

VERDICTS: Final = ("", "DROPPED", "FORWARDED", "AUDIT", "ERROR")
"""What the verdict key steps through; empty is any."""
assert set(VERDICTS[1:]) <= set(ALL_VERDICTS)

QUICK: Final = ("pod", "port", "verdict")
"""Fields with a key of their own."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that can be used; the empty text is none."""

    text: str = ""
    condition: Condition | None = None
    """None: everything passes."""
    local: Condition | None = None
    """What is left to be judged of what a server selects; None: nothing."""
    whitelist: tuple[flow_pb2.FlowFilter, ...] = ()
    blacklist: tuple[flow_pb2.FlowFilter, ...] = ()
    """What a server can select by itself."""

    @property
    def pushable(self) -> bool:
        """Whether a server can do some of it."""
        return bool(self.whitelist or self.blacklist)

    def where(self, pushed: bool) -> str:
        """Who does it, in words for the bar."""
        if not self.text:
            return ""
        if not pushed or not self.pushable:
            return "local"
        return "pushed to server" if self.local is None else "pushed to server in part, rest local"


NONE: Final = Filter()


def read(text: str) -> Filter:
    """Compile a text; FilterError with the position of the mistake."""
    expression = Expression.parse(text)
    if expression.matches_all:
        return NONE
    halves = expression.split
    return Filter(
        text.strip(),
        condition=expression,
        local=None if halves.local == EVERYTHING else expression.local,
        whitelist=halves.whitelist,
        blacklist=halves.blacklist,
    )


def literal(text: str) -> Condition:
    """The condition that a flow's names, addresses or summary hold a text, in any case."""
    return Expression(Word(text))


def quick(text: str, field: str) -> str:
    """The value that a filter's text gives one of the quick fields; empty where it gives none."""
    found = [part for part in _parts(parse(text)) if _is_quick(part, field)]
    return str(found[0].values[0].text) if found else ""  # type: ignore[union-attr]


def with_quick(text: str, field: str, value: str) -> str:
    """A filter's text with another value of one of the quick fields, in its old place; empty takes it away."""
    parts = list(_parts(parse(text)))
    place = next((place for place, part in enumerate(parts) if _is_quick(part, field)), len(parts))
    new = _parts(parse(f"{field}={quoted(_any_namespace(value)) if field == 'pod' else value}")) if value else ()
    parts[place : place + 1] = new
    return text_of(parts[0] if len(parts) == 1 else And(tuple(parts)))


def _any_namespace(pod: str) -> str:
    return pod if "/" in pod else f"/{pod}"


def _parts(node: Node) -> tuple[Node, ...]:
    return node.parts if isinstance(node, And) else (node,)


def _is_quick(part: Node, field: str) -> bool:
    return isinstance(part, Test) and part.name == field and part.operator == "="


def with_cell(text: str, test: str, *, exclude: bool) -> str:
    """A filter's text with one more test; excluded, it is turned round."""
    return joined([text, f"not ({test})" if exclude else test])


def cell_test(flow: Any, field: str) -> str:
    """The test that a flow passes because of one cell of its row; empty where the cell says nothing to filter by.

    An end is meant whichever side it stands on, so that questions and answers stay together.
    """
    test = _TESTS.get(field)
    return test(flow) if test is not None else ""


def flow_test(flow: Any) -> str:
    """A filter for flows like this one: the same ends, port, protocol and verdict."""
    fields = ("source", "destination", "port", "protocol", "verdict")
    return joined([test for field in fields if (test := cell_test(flow, field))])


def _end(side: str) -> Callable[[Any], str]:
    """An end is named by what is best known of it: pod, name, address; in a row the client stands left."""

    def test(flow: Any) -> str:
        reply = flow.HasField("is_reply") and flow.is_reply.value
        place = side if not reply else ("destination" if side == "source" else "source")
        end = getattr(flow, place)
        if end.pod_name:
            return term("pod", f"{end.namespace}/{end.pod_name}")
        names = getattr(flow, f"{place}_names")
        if names:
            return term("fqdn", names[0])
        address = getattr(flow.IP, place)
        return term("ip", address) if address else ""

    return test


def _port(flow: Any) -> str:
    layer4 = flow.l4.WhichOneof("protocol")
    if layer4 not in ("TCP", "UDP", "SCTP"):
        return ""
    header = getattr(flow.l4, layer4)
    reply = flow.HasField("is_reply") and flow.is_reply.value
    return term("port", str(header.source_port if reply else header.destination_port))


def _protocol(flow: Any) -> str:
    word = protocol(flow).partition("/")[0].lower()
    return word if word in PROTOCOLS else ""


def _type(flow: Any) -> str:
    kind = flow.event_type.type
    if kind == EventType.TRACE:
        return term("type", f"trace:{flow_type(flow)}")
    return term("type", {EventType.L7: "l7", EventType.DROP: "drop"}[kind]) if kind in _TYPES else ""


def _identity(flow: Any) -> str:
    return term("identity", str(flow.source.identity))


def _summary(flow: Any) -> str:
    record = flow.l7.WhichOneof("record")
    if record == "http" and flow.l7.http.url:
        return term("http.url", flow.l7.http.url)
    if record == "dns" and flow.l7.dns.query:
        return term("dns.query", flow.l7.dns.query)
    if record == "kafka" and flow.l7.kafka.topic:
        return term("kafka.topic", flow.l7.kafka.topic)
    return quoted(flow.Summary) if flow.Summary else ""


_TYPES: Final = (EventType.L7, EventType.DROP)
_TESTS: Final[dict[str, Callable[[Any], str]]] = {
    "node": lambda flow: term("node", flow.node_name) if flow.node_name else "",
    "source": _end("source"),
    "destination": _end("destination"),
    "arrow": lambda flow: f"reply={str(flow.is_reply.value).lower()}" if flow.HasField("is_reply") else "",
    "port": _port,
    "protocol": _protocol,
    "type": _type,
    "verdict": lambda flow: term("verdict", verdict_name(flow)),
    "latency": lambda flow: f"latency>={flow.l7.latency_ns // 1000}us" if flow.l7.latency_ns else "",
    "policy": lambda flow: term("policy", deciding(flow)[0][1].name) if deciding(flow) else "",
    "direction": lambda flow: f"direction={direction(flow)}" if direction(flow) else "",
    "identity": _identity,
    "summary": _summary,
}
"""By column; `port` is one more."""
