"""Below the flows: every field of one of them, and the bytes of its packet beside or in place of that.

A view, a source and a sequence number enter. Where the source is a capture, the packet is read again in the background,
one at a time: who moves on meanwhile waits for the last one only.
"""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np
from rich.style import Style
from textual.app import ComposeResult
from textual.containers import Horizontal

from observer.errors import FlowscopeError
from observer.printer import escape
from tui.columns import wrapped
from tui.look import Look
from tui.view import FlowView, hex_lines
from tui.widgets.outline import Item, Outline

NARROW: Final = 120
"""Below this width the bytes take the place of the detail instead of standing beside it."""
HEX_CELLS: Final = 74
"""Cells that the bytes take beside the detail (app.tcss)."""
LEAST_VALUE: Final = 24
"""Cells into which a value of the detail is wrapped at least."""
ELSEWHERE: Final = "no packets here: this source is a server. Open the capture itself with o or --pcap."


class Detail(Horizontal):
    """Fields, bytes; closed at first."""

    def __init__(self, look: Look) -> None:
        super().__init__(id="lower")
        self.look = look
        self.fields = Outline(look, id="detail")
        self.bytes = Outline(look, id="hex")
        self._view: FlowView | None = None
        self._packets: Any = None
        self._sequence = -1
        self._width = 0
        self._reading = -1
        """The sequence number of the flow whose packet is being read; -1: none is."""

    def compose(self) -> ComposeResult:
        """Side by side."""
        yield self.fields
        yield self.bytes

    def on_mount(self) -> None:
        """Start closed."""
        self.close()

    @property
    def parts(self) -> list[Outline]:
        """What of it is open."""
        return [part for part in (self.fields, self.bytes) if self.display and part.display]

    def show(self, view: FlowView, sequence: int, source: Any) -> None:
        """Fill what is open with a flow; `source` has its packets if it is a capture."""
        self._view, self._sequence = view, sequence
        self._packets = getattr(source, "packets", None)
        self._fill_fields()
        if self.bytes.display:
            self._fill_bytes()

    def open(self, *, bytes: bool = False) -> None:
        """Open it, on request the bytes too."""
        self.display = True
        self.bytes.display = self.bytes.display or bytes
        self._arrange()

    def close(self) -> None:
        """Close it."""
        self.display = self.bytes.display = False

    def close_bytes(self) -> None:
        """Close the bytes."""
        self.bytes.display = False
        self._arrange()
        if self._view is not None:
            self._fill_fields()

    def fit(self, width: int) -> None:
        """Beside each other where there is room."""
        self._width = width
        self.set_class(width < NARROW, "narrow")
        self._arrange()
        if self.display and self._view is not None:
            self._fill_fields()

    def _arrange(self) -> None:
        self.fields.display = not (self.bytes.display and self.has_class("narrow"))

    def _fill_fields(self) -> None:
        assert self._view is not None
        key: list[str] = []
        items = []
        beside = self.bytes.display and not self.has_class("narrow")
        width = self._width - (HEX_CELLS if beside else 0) - 3  # the signs of branches, the scroll bar
        for number, line in enumerate(self._view.detail(self._sequence, self.look)):
            del key[line.depth :]
            key.append(line.name if line.depth else f"{number if line.name.endswith(' by') else ''}{line.name}")
            style = Style(bold=not line.depth, dim=bool(line.depth))
            name = f"{line.name:<12} "
            value = Style.null()
            if line.name == "verdict":
                value = self.look.verdicts.get(line.value.split()[1], value)
            elif line.name == "denied by":
                value = self.look.bad
            first, *more = wrapped(line.value, max(LEAST_VALUE, width - 2 * line.depth - len(name)))
            items.append(Item((*key, number if line.depth else 0), line.depth, [(name, style), (first, value)]))
            for part, text in enumerate(more):  # within the branch of its first line
                items.append(
                    Item((*key, number, part), line.depth + 1, [(" " * (len(name) - 2), style), (text, value)])
                )
        self.fields.show(items, empty="This flow has left the ring.", home=self.fields.cursor is None)

    def _fill_bytes(self) -> None:
        assert self._view is not None
        records, extras, _, _ = self._view.store.take(np.array([self._sequence], np.int64))
        if self._packets is None or not len(records):
            head = extras[0].head if len(extras) and extras[0] is not None else b""
            self._show_bytes(head, "header section as sent (the packet stays with the server)" if head else ELSEWHERE)
            return
        self.bytes.show([], empty="reading the capture ...")
        if self._reading >= 0:
            return  # it looks again when it is done
        self._reading = self._sequence
        app, sequence, packets, record = self.app, self._sequence, self._packets, records[0].copy()

        def read() -> None:
            data, text = b"", "the packet was not found"
            try:
                if found := packets(record, around_ns=int(record["time_ns"]), limit=1):
                    data, text = found[0].data, f"frame {found[0].number}, {len(found[0].data)} bytes"
            except FlowscopeError as error:  # the file is another than before, or gone
                text = escape(str(error))
            if app.is_running:
                app.call_from_thread(self._show_read, sequence, data, text)

        threading.Thread(target=read, name="packets", daemon=True).start()

    def _show_read(self, sequence: int, data: bytes, title: str) -> None:
        """What was read, if it is still asked for; else read what is asked for now."""
        self._reading = -1
        if not self.bytes.display:
            return
        if sequence == self._sequence:
            self._show_bytes(data, title)
        else:
            self._fill_bytes()

    def _show_bytes(self, data: bytes, title: str) -> None:
        lines = wrapped(title, max(LEAST_VALUE, min(self._width, HEX_CELLS) - 1))
        items = [Item(-len(lines) + place, 0, [(line, self.look.faint)]) for place, line in enumerate(lines)]
        items += [Item(place, 0, [(line, Style.null())]) for place, line in enumerate(hex_lines(data))]
        self.bytes.show(items, home=True)
