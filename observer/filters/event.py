"""Filters on what a flow is and where it was told: uuid, event type, verdict, drop reason, direction, reply, traces,
node.

Fields of one FlowFilter enter, terms leave; what else a flow holds is the other families' business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from observer.api import flow_pb2
from observer.filters import patterns
from observer.filters.endpoint import selectors
from observer.filters.index import Bounds, Term, certain, constant, equal, flagged, one_of, upper
from observer.record import Present, Verdict
from observer.store import Columns


def terms(wanted: flow_pb2.FlowFilter) -> Iterator[Term]:
    """The terms of this family that the filter asks for."""
    if wanted.verdict:
        verdicts = list(wanted.verdict)
        yield Term(
            lambda flow: flow.verdict in verdicts,
            lambda columns: certain(one_of(columns["verdict"], verdicts)),
            lambda columns: one_of(columns["verdict"], _with_unknown(verdicts)),
        )
    if wanted.event_type:
        yield _event_type(list(wanted.event_type))
    if wanted.traffic_direction:
        directions = list(wanted.traffic_direction)
        yield Term(
            lambda flow: flow.traffic_direction in directions,
            lambda columns: certain(one_of(columns["direction"], directions)),
            lambda columns: one_of(columns["direction"], _with_unknown(directions)),
        )
    if wanted.drop_reason_desc:
        yield _drop_reason(list(wanted.drop_reason_desc))
    if wanted.reply:
        yield _reply(list(wanted.reply))
    if wanted.uuid:
        yield _uuid(list(wanted.uuid))
    if wanted.trace_id:
        yield _trace_id(list(wanted.trace_id))
    if wanted.ip_trace_id:
        ids = list(wanted.ip_trace_id)
        # Only imported flows have one.
        yield Term(
            lambda flow: flow.HasField("ip_trace_id") and flow.ip_trace_id.trace_id in ids,
            constant(False),
        )
    if wanted.node_name:
        yield _node_name(patterns.node_name(wanted.node_name))
    if wanted.node_labels:
        matches = selectors(wanted.node_labels, "node")
        yield Term(lambda flow: matches(flow.node_labels), constant(matches(())))


def _with_unknown(values: Sequence[int]) -> Sequence[int]:
    """The values; a record of one byte holds 0 for what does not fit into it."""
    return values if all(0 <= value <= 0xFF for value in values) else [*values, 0]


def _event_type(wanted: Sequence[flow_pb2.EventTypeFilter]) -> Term:
    """Type 0 is any type; the sub type counts only where asked for."""

    def exact(flow: flow_pb2.Flow) -> bool:
        if not flow.HasField("event_type"):
            return False
        event = flow.event_type
        return any(
            want.type in (0, event.type) and (not want.match_sub_type or want.sub_type == event.sub_type)
            for want in wanted
        )

    def index(columns: Columns) -> Bounds:
        kinds, sub_types = columns["event_type"], columns["sub_type"]
        mask = np.zeros(columns.length, np.bool_)
        for want in wanted:
            hit = one_of(kinds, [want.type]) if want.type else np.ones(columns.length, np.bool_)
            if want.match_sub_type:
                hit &= one_of(sub_types, [want.sub_type])
            mask |= hit
        return certain(mask)

    # The sub type of an imported flow may have been told by its observation point only.
    types = _with_unknown([want.type for want in wanted])
    return Term(exact, index, None if 0 in types else lambda columns: one_of(columns["event_type"], types))


def _drop_reason(reasons: Sequence[int]) -> Term:
    """Only of flows that were dropped."""
    return Term(
        lambda flow: flow.verdict == flow_pb2.DROPPED and flow.drop_reason_desc in reasons,
        lambda columns: certain(
            equal(columns["verdict"], Verdict.DROPPED) & one_of(columns["drop_reason_desc"], reasons)
        ),
    )


def _reply(values: Sequence[bool]) -> Term:
    """By is_reply; where that is unknown nothing matches, but a dropped flow counts as no reply."""

    def exact(flow: flow_pb2.Flow) -> bool:
        if not flow.HasField("is_reply") and flow.verdict != flow_pb2.DROPPED:
            return False
        return flow.is_reply.value in values

    def index(columns: Columns) -> Bounds:
        known = flagged(columns["present"], Present.IS_REPLY)
        reply = columns["is_reply"] != 0
        mask = np.zeros(columns.length, np.bool_)
        if True in values:
            mask |= known & reply
        if False in values:
            mask |= np.where(known, ~reply, equal(columns["verdict"], Verdict.DROPPED))
        return certain(mask)

    return Term(exact, index, upper(index))


def _uuid(uuids: Sequence[str]) -> Term:
    def index(columns: Columns) -> Bounds:
        mask = np.zeros(columns.length, np.bool_)
        for uuid in uuids:
            sequence = columns.store.sequence(uuid)
            if sequence is not None and columns.start <= sequence < columns.start + columns.length:
                mask[sequence - columns.start] = True
        return certain(mask)

    return Term(lambda flow: flow.uuid in uuids, index)


def _trace_id(ids: Sequence[str]) -> Term:
    """The empty string matches flows without a trace."""

    def index(columns: Columns) -> Bounds:
        found = ["" if extra is None else extra.trace_id for extra in columns.extras.tolist()]
        return certain(np.array([trace_id in ids for trace_id in found], np.bool_))

    return Term(lambda flow: flow.trace_context.parent.trace_id in ids, index, upper(index))


def _node_name(matches: Callable[[str], bool]) -> Term:
    def index(columns: Columns) -> Bounds:
        answers = np.array([matches(name) for name in columns.store.nodes], np.bool_)
        return certain(answers.take(columns.nodes, mode="clip"))

    return Term(lambda flow: matches(flow.node_name), index)
