"""Follow stream: the conversation of one connection, both sides in order, with the time each answer took.

Messages are the L7 flows of the connection, and its first and last packets where there are none. Where the source is a
capture, each message's bytes can be opened below it.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from rich.style import Style
from textual.app import App

from observer.errors import FlowscopeError
from observer.printer import escape
from tui.columns import wrapped
from tui.look import Look
from tui.screens.window import ListWindow
from tui.stream import Stream
from tui.widgets.outline import Item, Outline

WINDOW: Final = 112
"""Cells of a window at most (app.tcss); asked before there is one."""
LEAST: Final = 24
"""Cells into which a line of a message is wrapped at least."""


class StreamWindow(ListWindow[None]):
    """One conversation; grows while it goes on."""

    def __init__(self, stream: Stream, look: Look) -> None:
        super().__init__(stream.title, "", look, small=False, closed=True)
        self._stream = stream
        self._bytes: dict[int, list[str]] = {}
        self._asked = False

    @property
    def _width(self) -> int:
        """Cells for a line of a message: of the widest window, without frame, indentation and scroll bar."""
        return max(LEAST, min(self.app.size.width, WINDOW) - 9)

    def on_mount(self) -> None:
        """Look for more from time to time."""
        self.set_interval(0.5, self._look_again)

    def _look_again(self) -> None:
        if self._stream.changed():
            self.fill()

    def _read(self, app: App[Any], width: int) -> None:
        payloads, wrong = {}, ""
        try:
            for sequence, lines in self._stream.payloads().items():
                payloads[sequence] = [part for line in lines for part in wrapped(line, width)]
        except FlowscopeError as error:  # the file is another than before, or gone
            wrong = escape(str(error))
        if app.is_running:
            app.call_from_thread(self._show_bytes, payloads, wrong)

    def _show_bytes(self, payloads: dict[int, list[str]], wrong: str) -> None:
        """What was read, if the window is still there."""
        if self.is_attached:
            self._bytes = payloads
            self.complain(wrong)
            self.fill()

    def fill(self) -> None:
        """Show the messages, their bytes in branches."""
        items = []
        messages = self._stream.messages()
        if self._stream.packets is not None and not self._asked:
            self._asked = True  # once it is known which messages there are
            threading.Thread(target=self._read, args=(self.app, self._width), name="packets", daemon=True).start()
        for one in messages:
            style = self.look.verdicts.get(one.verdict, Style.null())
            arrow = "-->" if one.from_client else "<--"
            latency = f" {one.latency:>8}" if one.latency else " " * 9
            pieces = [
                (f"{one.time} ", self.look.faint),
                (f"{arrow} ", Style(bold=True)),
                (f"{self.look.signs.get(one.verdict, '?')}", style),
                (f"{latency}  ", Style.null()),
                (one.text, Style(bold=one.from_client)),
            ]
            items.append(Item(one.sequence, 0, pieces))
            # The bytes hold the header section too, where there are any.
            headers = [part for line in one.lines for part in wrapped(line, self._width)]
            for number, line in enumerate(self._bytes.get(one.sequence) or headers):
                items.append(Item((one.sequence, number), 1, [(line, Style.null())]))
        self.list.show(items, empty="this connection has left the ring")
        self._hint.update(f"{self._stream.note}; right opens a message, left closes it; esc closes")

    def on_outline_chosen(self, event: Outline.Chosen) -> None:
        """Open or close a message."""
        event.stop()
        event.outline.toggle()
