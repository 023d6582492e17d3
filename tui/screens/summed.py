"""What Top, Map and Nodes have in common: they add up the flows of the table in the background, once a second.

The thread that adds up reads columns only; what it made is shown by the screen's own thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar, Final

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Static

from tui.aggregate import Shown
from tui.keys import bindings
from tui.look import Look
from tui.matches import Rows
from tui.view import span
from tui.widgets.outline import Outline

EVERY_S: Final = 1.0
"""Between two sums; longer where one takes long, so that it is never more than a quarter of the time."""


class SummedPane(Vertical):
    """A title, and an outline of sums."""

    class Drill(Message):
        """Show the flows that a test selects."""

        def __init__(self, test: str) -> None:
            super().__init__()
            self.test = test

    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self, rows: Callable[[], Rows], look: Look, *, id: str, closed: bool = False) -> None:
        super().__init__(id=id)
        self.look = look
        self.told = 0
        """How often sums were shown."""
        self._rows = rows
        self._title = Static("", markup=False, classes="title")
        self.outline = Outline(look, closed=closed)
        self._due = 0.0
        self._adding: threading.Thread | None = None
        self._sums: Any = None

    def compose(self) -> ComposeResult:
        """Title above, sums below."""
        yield self._title
        yield self.outline

    def tick(self) -> None:
        """Add up again if it is time."""
        if time.monotonic() < self._due or self._adding is not None:
            return
        self._adding = threading.Thread(target=self._add, args=(Shown.by(self._rows()),), name="sums", daemon=True)
        self._adding.start()

    def reset(self) -> None:
        """The filter has changed."""
        self._due = 0.0

    def on_resize(self) -> None:
        """Lay the last sums out for the new width."""
        if self._sums is not None:
            self.show(self._sums)

    def focus_first(self) -> None:
        """Give the keys to the list."""
        self.outline.look = self.look
        self.outline.focus()

    def _add(self, shown: Shown) -> None:
        start = time.thread_time()
        sums = self.add(shown)
        self._due = time.monotonic() + max(EVERY_S, 3 * (time.thread_time() - start))
        if self.app.is_running:
            self.app.call_later(self._done, sums)

    def _done(self, sums: Any) -> None:
        self._adding = None
        self._sums = sums
        self.outline.look = self.look
        self.show(sums)
        self.told += 1

    def add(self, shown: Shown) -> Any:
        """The sums; in a thread of its own."""
        raise NotImplementedError

    def show(self, sums: Any) -> None:
        """Show them."""
        raise NotImplementedError

    def title(self, text: str) -> None:
        """Say over what it is."""
        self._title.update(text)

    def over(self, flows: int, seconds: float, left_out: int) -> str:
        """Over what the sums are, in words."""
        return f"{flows:,} flows of {span(round(seconds) * 1_000_000_000)}" + (
            f", {left_out:,} older ones left out" if left_out else ""
        )


def keys_of(where: str) -> list[BindingType]:
    """The bindings of one part, as a pane declares them."""
    return [*bindings(where)]
