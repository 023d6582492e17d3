"""Lays flows, lost events and the status of nodes out on two streams: compact, dict, table or JSON.

GetFlowsResponses in, text out, one response at a time; only a table waits for its end, to know its widths. Whatever
came from the network passes `escape` on its way, or stands inside JSON.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Sequence
from typing import Final, TextIO

from google.protobuf.timestamp_pb2 import Timestamp

from observer.api import flow_pb2, observer_pb2, relay_pb2
from observer.jsonpb import to_json
from observer.printer.fields import (
    TIME_FORMATS,
    deciding_policies,
    flow_type,
    format_time,
    hosts_and_ports,
    identity_names,
    join_port,
    summary,
    verdict,
)
from observer.printer.terminal import Colour, Paint, escape, paint, wants_colour

LEGACY_JSON: Final = "legacy-json-output"
"""In HUBBLE_COMPAT: JSON prints bare flows, as Hubble before 0.11 did."""

DICT_SEPARATOR: Final = "------------"
NODE_NAMES_MAX: Final = 50
"""Characters of node names in a status line before the rest is only counted."""

_TABLE_PADDING: Final = 3
_TABLE_MIN: Final = 2
_VERDICT_PAINT: Final = {
    flow_pb2.FORWARDED: Paint.GREEN,
    flow_pb2.REDIRECTED: Paint.GREEN,
    flow_pb2.DROPPED: Paint.RED,
    flow_pb2.ERROR: Paint.RED,
    flow_pb2.AUDIT: Paint.YELLOW,
    flow_pb2.TRACED: Paint.YELLOW,
    flow_pb2.TRANSLATED: Paint.YELLOW,
}
_LOST_SOURCES: Final = {value.number: value.name for value in flow_pb2.LostEventSource.DESCRIPTOR.values}
_NODE_STATES: Final = {value.number: value.name for value in relay_pb2.NodeState.DESCRIPTOR.values}


class Output(enum.StrEnum):
    """The formats of -o."""

    COMPACT = "compact"
    DICT = "dict"
    TABLE = "table"
    JSON = "json"  # jsonpb: one GetFlowsResponse a line


class Printer:
    """Prints responses in the order they come; `close` prints what a table holds back."""

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        *,
        output: Output = Output.COMPACT,
        colour: Colour = Colour.AUTO,
        time_format: str = "StampMilli",
        node_name: bool = False,
        policy_names: bool = False,
        ip_translation: bool = True,
        debug: bool = False,
        silent: bool = False,
        legacy_json: bool | None = None,  # None: as HUBBLE_COMPAT says
    ) -> None:
        if time_format not in TIME_FORMATS:
            raise ValueError(f"unknown time format {time_format!r}")
        self._out = out
        self._err = err
        self._output = output
        # A table counts characters, and colours would count.
        self._paints = output is not Output.TABLE and wants_colour(colour, out)
        self._time_format = time_format
        self._node_name = node_name
        self._policy_names = policy_names
        self._ip_translation = ip_translation
        self._debug = debug
        self._silent = silent
        if legacy_json is None:
            legacy_json = LEGACY_JSON in os.environ.get("HUBBLE_COMPAT", "").split(",")
        self._legacy_json = legacy_json
        self._rows: list[list[str]] = []
        self._printed = 0
        self._write_flow: Callable[[observer_pb2.GetFlowsResponse], None] = {
            Output.COMPACT: self._compact,
            Output.DICT: self._dict,
            Output.TABLE: self._table,
            Output.JSON: self._json,
        }[output]

    def response(self, response: observer_pb2.GetFlowsResponse) -> None:
        """Print a flow, lost events, or the status of nodes (that on `err`)."""
        kind = response.WhichOneof("response_types")
        if kind == "flow":
            self._write_flow(response)
            self._printed += 1
        elif kind == "lost_events":
            self._lost_events(response)
            self._printed += 1
        elif kind == "node_status":
            self._node_status(response)

    def flush(self) -> None:
        """Let what was printed so far reach its reader."""
        self._out.flush()

    def close(self) -> None:
        """Print what was held back and flush."""
        if self._rows:
            widths = [max(map(len, column)) for column in zip(*self._rows, strict=True)]
            for row in self._rows:
                cells = [
                    cell.ljust(max(width + _TABLE_PADDING, _TABLE_MIN))
                    for cell, width in zip(row[:-1], widths, strict=False)
                ]
                self._out.write("".join(cells) + row[-1] + "\n")
            self._rows.clear()
        self._out.flush()

    # Single texts, escaped and painted

    def _time(self, response: observer_pb2.GetFlowsResponse) -> str:
        """A response's own time; a flow's where there is one."""
        if response.HasField("flow"):
            flow = response.flow
            return format_time(flow.time if flow.HasField("time") else None, self._time_format)
        return self._format(response.time if response.HasField("time") else None)

    def _format(self, time: Timestamp | None) -> str:
        return format_time(time, self._time_format)

    def _hosts(self, flow: flow_pb2.Flow) -> tuple[str, str]:
        source, destination = hosts_and_ports(flow, translate=self._ip_translation)
        if not self._paints:
            return escape(join_port(*source)), escape(join_port(*destination))
        return self._painted_host(*source), self._painted_host(*destination)

    @staticmethod
    def _painted_host(host: str, port: str) -> str:
        return paint(join_port(escape(host), paint(port, Paint.YELLOW) if port else ""), Paint.CYAN)

    def _identities(self, flow: flow_pb2.Flow) -> tuple[str, str]:
        source, destination = identity_names(flow)
        if not self._paints:
            return source, destination
        return paint(source, Paint.MAGENTA), paint(destination, Paint.MAGENTA)

    def _verdict(self, flow: flow_pb2.Flow) -> str:
        text = verdict(flow)
        if self._paints and (colour := _VERDICT_PAINT.get(flow.verdict)):
            text = paint(text, colour)
        return text + escape(deciding_policies(flow)) if self._policy_names else text

    def _summary(self, flow: flow_pb2.Flow) -> str:
        text = escape(summary(flow))
        if self._paints and flow.auth_type:
            head, _, auth = text.rpartition("Auth: ")
            colour = Paint.RED if flow.auth_type == flow_pb2.AuthType.TEST_ALWAYS_FAIL else Paint.GREEN
            text = f"{head}Auth: {paint(auth, colour)}"
        return text

    # Flows

    def _compact(self, response: observer_pb2.GetFlowsResponse) -> None:
        flow = response.flow
        source, destination = self._hosts(flow)
        source_identity, destination_identity = self._identities(flow)
        arrow = "<>"
        if flow.HasField("is_reply"):
            arrow = "->"
            if flow.is_reply.value:
                # The client stays on the left.
                arrow = "<-"
                source, destination = destination, source
                source_identity, destination_identity = destination_identity, source_identity
        node = f" [{escape(flow.node_name)}]" if self._node_name else ""
        self._out.write(
            f"{self._time(response)}{node}: {source} {source_identity} {arrow} {destination} {destination_identity} "
            f"{escape(flow_type(flow))} {self._verdict(flow)} ({self._summary(flow)})\n"
        )

    def _cells(self, response: observer_pb2.GetFlowsResponse) -> list[tuple[str, str]]:
        """A flow for table and dict, which do not swap the ends of replies."""
        flow = response.flow
        source, destination = self._hosts(flow)
        return self._with_node(
            response,
            flow.node_name,
            [
                ("SOURCE", source),
                ("DESTINATION", destination),
                ("TYPE", escape(flow_type(flow))),
                ("VERDICT", self._verdict(flow)),
                ("SUMMARY", self._summary(flow)),
            ],
        )

    def _with_node(
        self, response: observer_pb2.GetFlowsResponse, node_name: str, cells: list[tuple[str, str]]
    ) -> list[tuple[str, str]]:
        node = [("NODE", escape(node_name))] if self._node_name else []
        return [("TIMESTAMP", self._time(response)), *node, *cells]

    def _dict(self, response: observer_pb2.GetFlowsResponse) -> None:
        self._write_dict(self._out, self._cells(response))

    def _write_dict(self, stream: TextIO, cells: Sequence[tuple[str, str]]) -> None:
        lines = [DICT_SEPARATOR] if self._printed else []
        lines += [f"{key:>11}: {text}" for key, text in cells]
        stream.write("\n".join(lines) + "\n")

    def _table(self, response: observer_pb2.GetFlowsResponse) -> None:
        self._add_row(self._cells(response))

    def _add_row(self, cells: Sequence[tuple[str, str]]) -> None:
        if not self._rows:
            self._rows.append([key for key, _ in cells])
        self._rows.append([text for _, text in cells])

    def _json(self, response: observer_pb2.GetFlowsResponse) -> None:
        self._out.write(to_json(response.flow if self._legacy_json else response) + "\n")

    # What is no flow

    def _lost_events(self, response: observer_pb2.GetFlowsResponse) -> None:
        lost = response.lost_events
        if self._output is Output.JSON:
            self._out.write(to_json(lost if self._legacy_json else response) + "\n")
            return
        source = _LOST_SOURCES.get(lost.source, str(lost.source))
        span = ""
        if lost.HasField("first") or lost.HasField("last"):
            first = self._format(lost.first if lost.HasField("first") else None)
            span = f" (first: {first}, last: {self._format(lost.last if lost.HasField('last') else None)})"
        if self._output is Output.COMPACT:
            node = f" [{escape(response.node_name)}]" if self._node_name else ""
            self._out.write(
                f"{self._time(response)}{node} EVENTS LOST: {source} "
                f"CPU({lost.cpu.value}) {lost.num_events_lost}{span}\n"
            )
            return
        cells = [
            ("SOURCE", source),
            ("DESTINATION", ""),
            ("TYPE", "EVENTS LOST"),
            ("VERDICT", ""),
            ("SUMMARY", f"CPU({lost.cpu.value}) - {lost.num_events_lost}{span}"),
        ]
        if self._output is Output.TABLE:
            self._add_row(self._with_node(response, response.node_name, cells))
        else:
            del cells[1]  # Hubble's dict has no destination here
            self._write_dict(self._out, self._with_node(response, response.node_name, cells))

    def _node_status(self, response: observer_pb2.GetFlowsResponse) -> None:
        status = response.node_status
        noteworthy = status.state_change in (relay_pb2.NODE_ERROR, relay_pb2.NODE_UNAVAILABLE)
        if self._silent or not (noteworthy or self._debug):
            return
        names = escape(_join_nodes(status.node_names))
        if self._output is Output.JSON:
            if not self._legacy_json:
                self._err.write(to_json(response) + "\n")
            return
        if self._output is Output.DICT:
            self._write_dict(
                self._err,
                [
                    ("TIMESTAMP", self._time(response)),
                    ("STATE", _NODE_STATES.get(status.state_change, str(status.state_change))),
                    ("NODES", names),
                    ("MESSAGE", escape(_quote(status.message)) if status.message else "N/A"),
                ],
            )
            self._printed = max(self._printed, 1)
            return
        count = len(status.node_names)
        match status.state_change:
            case relay_pb2.NODE_CONNECTED:
                text = f"Receiving flows from {count} nodes: {names}"
            case relay_pb2.NODE_UNAVAILABLE:
                text = f"{count} nodes are unavailable: {names}"
            case relay_pb2.NODE_GONE:
                text = f"{count} nodes removed from cluster: {names}"
            case relay_pb2.NODE_ERROR:
                text = f"Error {escape(_quote(status.message))} on {count} nodes: {names}"
            case _:
                text = f"unknown node status event: {to_json(status)}"
        self._err.write(f"{self._time(response)} [{escape(response.node_name)}]: {text}\n")


def _join_nodes(names: Sequence[str]) -> str:
    """Names up to NODE_NAMES_MAX characters, one at least, and how many were left out."""
    length = 0
    for index, name in enumerate(names):
        length += len(name.encode()) + 2
        if length > NODE_NAMES_MAX and index:
            return f"{', '.join(names[:index])} (and {len(names) - index} more)"
    return ", ".join(names)


def _quote(text: str) -> str:
    from observer.wire.summary import quote  # with it comes numpy, which nothing else here needs

    return quote(text)
