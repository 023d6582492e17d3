"""The conversation of one connection as messages: what was said, by whom, when, and how long the answer took.

A store and a flow's sequence number enter; lines leave. Bytes come from the capture, if the source is one. Knows no
screen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from observer.printer import escape
from observer.record import FlowType
from tui.matches import Matches, SameConnection
from tui.view import FlowView, Row, byte_lines, clock

MESSAGES: Final = 2_000
"""Messages shown of one conversation: the last of them."""
PAYLOAD: Final = 1 << 16
"""Bytes of one message that are shown."""


class Message(NamedTuple):
    """One message."""

    sequence: int
    time_ns: int
    time: str
    from_client: bool
    verdict: str
    latency: str
    text: str
    lines: tuple[str, ...]  # header fields


class Stream:
    """One conversation."""

    def __init__(self, view: FlowView, sequence: int, *, packets: Callable[..., Any] | None, local: bool) -> None:
        records, _, nodes, _ = view.store.take(np.array([sequence], np.int64))
        self.packets = packets
        """Reads the packets of a record's connection again; None where the source has none."""
        self.note = ""
        row = view.row(sequence)
        self.title = f"{row.source} -> {row.destination}  {row.protocol}" if row is not None else "gone"
        self._view = view
        self._local = local
        self._record = records[0].copy() if len(records) else None
        self._rows = Matches(view.store, SameConnection(records[0], int(nodes[0]))) if len(records) else None
        self._messages: list[Message] = []

    def changed(self) -> bool:
        """Take note of what came; whether anything did."""
        return self._rows is not None and (any(self._rows.advance()) or not self._rows.complete)

    def messages(self) -> list[Message]:
        """All messages that the ring holds, oldest first: the L7 flows, or the packets where there are none."""
        if self._rows is None:
            return []
        while not self._rows.complete:
            self._rows.advance()
        store = self._view.store
        sequences = self._rows.between(store.first, store.next)
        _, _, _, sequences = store.take(sequences)
        types = {int(one): self._type(int(one)) for one in sequences[-4 * MESSAGES :]}
        spoken = [one for one, kind in types.items() if kind == FlowType.L7] or list(types)
        shown = spoken[-MESSAGES:]
        self._messages = [message for one in shown if (message := self._message(one)) is not None]
        asked = sum(message.from_client for message in self._messages)
        self.note = f"{asked} from the client, {len(self._messages) - asked} from the server"
        if len(shown) < len(spoken):
            self.note += f"; {len(spoken) - len(shown)} older ones are not shown"
        return self._messages

    def payloads(self) -> dict[int, list[str]]:
        """The bytes of each message as text or hex: of the packets between it and the message before, in its direction.

        Slow: reads the capture from its start.
        """
        if self.packets is None or self._record is None:
            return {}
        packets = [packet for packet in self.packets(self._record) if packet.payload]
        forward = None
        out: dict[int, list[str]] = {}
        used = 0
        for message in list(self._messages):
            data = b""
            first = self._source_is_client() if forward is None else forward
            forward = first
            while used < len(packets) and packets[used].time_ns <= message.time_ns:
                packet = packets[used]
                used += 1
                if (packet.forward == first) == message.from_client:
                    data += packet.payload
            out[message.sequence] = byte_lines(data[:PAYLOAD])
            if len(data) > PAYLOAD:
                out[message.sequence].append(f"... {len(data) - PAYLOAD} bytes more")
        return out

    def _source_is_client(self) -> bool:
        """Whether the record's source is the client."""
        assert self._record is not None
        return not self._record["is_reply"]

    def _type(self, sequence: int) -> int:
        return int(self._view.store.columns(sequence, sequence + 1)[0]["type"][0])

    def _message(self, sequence: int) -> Message | None:
        row: Row | None = self._view.row(sequence)
        flow = self._view.flow(sequence)
        if row is None or flow is None:
            return None
        headers = flow.l7.http.headers if flow.l7.WhichOneof("record") == "http" else ()
        return Message(
            sequence,
            row.time_ns,
            clock(row.time_ns, local=self._local),
            row.arrow != "<-",
            row.verdict,
            row.latency,
            row.summary,
            tuple(escape(f"{header.key}: {header.value}") for header in headers),
        )
