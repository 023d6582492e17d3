"""The flows, one a line, with the detail and the bytes of the one under the cursor below.

It takes a feed and a filter, and decides which rows the table shows: all, those that pass, those of one connection, or
those marked. What it wants from the rest (another filter, a question, a window) it says by message.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar, Final

import numpy as np
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message import Message

from observer.client import State
from observer.extra import header_fields
from observer.printer import escape
from observer.store import Store
from tui.config import TIMES
from tui.feed import Feed
from tui.filtering import NONE, Filter
from tui.keys import bindings
from tui.look import Look
from tui.matches import AllRows, InTrouble, Matches, PickedRows, Rows, SameConnection, Seek
from tui.view import FlowView
from tui.widgets.detail import Detail
from tui.widgets.flow_table import FlowTable
from tui.widgets.outline import Outline

SWAP_S: Final = 3.0
"""How long the server may take to send what a pushed filter selects before its ring is shown as it is."""


class FlowsPane(Vertical):
    """Table, detail, bytes."""

    class Cell(Message):
        """Include or exclude what stands under the cursor."""

        def __init__(self, flow: Any, field: str, *, exclude: bool) -> None:
            super().__init__()
            self.flow = flow
            self.field = field
            self.exclude = exclude

    class Wanted(Message):
        """A window, or a question, about the flow under the cursor."""

        def __init__(self, what: str) -> None:
            super().__init__()
            self.what = what

    BINDINGS: ClassVar[list[BindingType]] = [
        binding for binding in bindings("flows") if binding not in FlowTable.BINDINGS
    ]

    def __init__(self, feed: Feed, look: Look, *, columns: list[str], time: str, why_empty: Callable[[], str]) -> None:
        super().__init__(id="flows")
        self.feed = feed
        self.look = look
        self.time = time
        self.columns = columns
        self.only = ""
        """What is shown instead of what the filter lets pass: "related", "marked", or empty."""
        self.needle = ""
        """The text searched for, and its condition."""
        self._needle_condition: Any = None
        self._filter: Filter = NONE
        self._store = feed.store
        """The ring that is shown; a pushed filter's only once it has something to show."""
        self._views = {id(self._store): FlowView(self._store)}
        self._waiting_since = 0.0
        self._seek: Seek | None = None
        self._seek_failed = ""
        self._followed = False
        self._only_from = -1
        self.table = FlowTable(self.view, AllRows(self._store), look, why_empty=why_empty, id="table")
        self.table.appear(columns=columns, time=time)
        # Held, not looked up: a tick may still come while the screen is being taken down.
        self.detail = Detail(look)

    def compose(self) -> ComposeResult:
        """Table above, detail and bytes below."""
        yield self.table
        yield self.detail

    def on_resize(self) -> None:
        """The detail has the same width."""
        self.detail.fit(self.size.width)

    # -- what is shown ------------------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The ring that is shown."""
        return self._store

    @property
    def view(self) -> FlowView:
        """Rows and details of that ring."""
        return self._views[id(self._store)]

    @property
    def rows(self) -> Rows:
        """The rows of the table."""
        return self.table.rows

    def use(self, filter: Filter) -> None:
        """Show what a filter lets pass of what is held; the place is kept. A pushed one's ring comes later."""
        self._filter = filter
        self.only = ""
        if not self.feed.pushed:
            self._waiting_since = 0.0
            self._show_store(self.feed.store)
            return
        self._waiting_since = time.monotonic()
        if self._store is not self.feed.base:
            self._show_store(self.feed.base)
        else:
            self._show_rows()

    def attach(self, feed: Feed) -> None:
        """Show another feed from its tail on."""
        self.feed = feed
        self._filter = NONE
        self.only = self.needle = ""
        self._waiting_since = 0.0
        self.detail.close()
        self.table.following = True
        self.table.marks = set()
        self._store = feed.store
        self._views = {id(self._store): FlowView(self._store)}
        self._show_rows(-1)

    def _show_store(self, store: Store) -> None:
        """Show another ring, with the cursor on the same flow."""
        at = -1 if self.table.following else counterpart(self._store, self.table.cursor, store)
        marks = {counterpart(self._store, mark, store) for mark in self.table.marks}
        self._store = store
        self._views = {id(store): self._views.get(id(store)) or FlowView(store)}
        self._show_rows(at)
        self.table.marks = marks - {-1}

    def _show_rows(self, at: int | None = None) -> None:
        """Make the rows anew, with the cursor on `at`, or where it is."""
        if at is None:
            at = -1 if self.table.following else self.table.cursor
        self._seek = None
        self.table.show(self.view, self._rows(), at=at if at >= 0 else None)

    def _rows(self) -> Rows:
        if self.only == "marked":
            return PickedRows(self._store, lambda: self.table.marks)
        if self.only == "related":
            records, _, nodes, _ = self._store.take(np.array([self._only_from], np.int64))
            if len(records):
                return Matches(self._store, SameConnection(records[0], int(nodes[0])))
            self.only = ""
        selected = self._store is not self.feed.base  # by the server
        condition = self._filter.local if selected else self._filter.condition
        return AllRows(self._store) if condition is None else Matches(self._store, condition)

    def tick(self) -> None:
        """Take note of what came."""
        if self._waiting_since:
            state = self.feed.subscription.state
            waited = time.monotonic() - self._waiting_since
            told = state in (State.LIVE, State.ENDED) and (len(self.feed.store) > 0 or waited > SWAP_S / 6)
            if told or waited > SWAP_S:
                self._waiting_since = 0.0
                self._show_store(self.feed.store)
        self.table.advance()
        if self._seek is not None:
            self._step()

    @property
    def unfinished(self) -> bool:
        """Whether older flows are still being judged, or something is being looked for."""
        return not self.rows.complete or self._seek is not None

    # -- detail and bytes ---------------------------------------------------------------------------------------

    def on_flow_table_chosen(self) -> None:
        """Open the detail."""
        self.detail.open()
        self._fill()

    def on_flow_table_moved(self) -> None:
        """Let an open detail follow the cursor."""
        if self.detail.display:
            self._fill()

    def on_outline_chosen(self, event: Outline.Chosen) -> None:
        """In the detail, open or close the branch."""
        event.stop()
        event.outline.toggle()

    def on_outline_moved(self, event: Outline.Moved) -> None:
        """Nobody else needs to know."""
        event.stop()

    def _fill(self) -> None:
        self.detail.look = self.look
        self.detail.show(self.view, self.table.cursor, self.feed.source)

    def focus_first(self) -> None:
        """Give the keys to the table."""
        self.table.focus()

    def back(self) -> bool:
        """Close the last thing that was opened; False where nothing is."""
        if self.detail.bytes.display:
            self.action_hex()
        elif self.detail.display:
            self.detail.close()
            self.table.focus()
        elif self.only:
            self.only = ""
            self._show_rows(max(self._only_from, -1) if self._only_from >= 0 else None)
        elif self.needle:
            self.search("", None)
        else:
            return False
        return True

    # -- keys ---------------------------------------------------------------------------------------------------

    def action_next_pane(self) -> None:
        """Move the focus on to the next part that is open."""
        panes = [self.table, *self.detail.parts]
        here = next((place for place, pane in enumerate(panes) if pane.has_focus), 0)
        panes[(here + 1) % len(panes)].focus()

    def action_hex(self) -> None:
        """Open or close the bytes."""
        if self.table.cursor < 0:
            return
        if not self.detail.bytes.display:
            self.detail.open(bytes=True)
            self.table.pause()
            self._fill()
            return
        if self.detail.bytes.has_focus:
            self.table.focus()
        self.detail.close_bytes()

    def action_stream(self) -> None:
        """Show the conversation."""
        self._want("stream")

    def action_copy_as(self) -> None:
        """Ask as what to copy."""
        self._want("copy_as")

    def action_columns(self) -> None:
        """Ask for the columns."""
        self.post_message(self.Wanted("columns"))

    def action_search(self) -> None:
        """Ask for a text to search."""
        self.post_message(self.Wanted("search"))

    def _want(self, what: str) -> None:
        if self.table.cursor >= 0:
            self.table.pause()
            self.post_message(self.Wanted(what))

    def action_copy_line(self) -> None:
        """Copy the line."""
        if self.table.cursor >= 0:
            self.app.copy_to_clipboard(self.table.text(self.table.cursor))
            self.app.notify("copied the line", timeout=2)

    def action_include(self) -> None:
        """Filter by the cell's value."""
        self._cell(exclude=False)

    def action_exclude(self) -> None:
        """Filter the cell's value out."""
        self._cell(exclude=True)

    def _cell(self, *, exclude: bool) -> None:
        flow = self.view.flow(self.table.cursor)
        if flow is not None:
            self.post_message(self.Cell(flow, self.table.column, exclude=exclude))

    def action_related(self) -> None:
        """Show the flows of the same connection, or go back."""
        if self.only == "related":
            self.back()
            return
        if self.table.cursor >= 0:
            self._only_from = self.table.cursor
            self.only = "related"
            self._show_rows(self.table.cursor)

    def action_mark(self) -> None:
        """Mark the flow, or take the mark away."""
        if self.table.cursor >= 0:
            self.table.marks ^= {self.table.cursor}
            self.table.redraw()

    def action_next_mark(self) -> None:
        """Go to the next mark, from the last to the first."""
        marks = sorted(mark for mark in self.table.marks if mark >= self._store.first)
        shown = [mark for mark in marks if len(self.rows.between(mark, mark + 1))]
        if shown:
            self.table.go(next((mark for mark in shown if mark > self.table.cursor), shown[0]))
        else:
            self.app.notify("no marked flow is shown: m marks one", timeout=3)

    def action_only_marked(self) -> None:
        """Show only the marked flows, or all again."""
        if self.only == "marked":
            self.only = ""
            self._show_rows()
        elif self.table.marks:
            self.only = "marked"
            self._only_from = self.table.cursor
            self._show_rows(self.table.cursor)
        else:
            self.app.notify("no flow is marked: m marks one", timeout=3)

    def action_next_time(self) -> None:
        """Write times the next way."""
        self.time = TIMES[(TIMES.index(self.time) + 1) % len(TIMES)]
        self.table.appear(time=self.time)
        self.app.notify(
            {"utc": "time in UTC", "local": "local time", "delta": "time since the flow above"}[self.time], timeout=2
        )

    # -- looking for flows --------------------------------------------------------------------------------------

    def search(self, text: str, condition: Any) -> None:
        """Highlight a text, and go to the flow that has it, the one under the cursor included."""
        self.needle = text
        self._needle_condition = condition
        self.table.appear(needle=text)
        if text:
            self._look_for(condition, -1, self.table.cursor + 1, f"{text!r} is in no flow shown")

    def action_match(self, direction: int) -> None:
        """Go to the next flow with the text searched for."""
        if not self.needle:
            self.action_search()
            return
        failed = f"no flow {_where(direction, 'N', 'n')} has {self.needle!r}"
        self._look_for(self._needle_condition, direction, self.table.cursor, failed)

    def action_trouble(self, direction: int) -> None:
        """Go to the next drop or error."""
        failed = f"no drop or error {_where(direction, 'E', 'e')}"
        self._look_for(InTrouble(), direction, self.table.cursor, failed)

    def _look_for(self, condition: Any, direction: int, start: int, failed: str) -> None:
        if self.table.cursor < 0:
            return
        self._followed = self.table.following
        self.table.pause()
        self._seek, self._seek_failed = Seek(self.rows, condition, start, direction), failed
        self._step()

    def _step(self) -> None:
        """Look a little further."""
        assert self._seek is not None
        found = self._seek()
        if found is None:
            return
        self._seek = None
        if found >= 0:
            self.table.go(found)
        else:
            self.app.notify(escape(self._seek_failed), timeout=3, markup=False)
            if self._followed:
                self.table.action_follow()

    def headers(self) -> list[tuple[str, str]]:
        """The HTTP header fields of the flow under the cursor, as sent."""
        _, extras, _, _ = self._store.take(np.array([self.table.cursor], np.int64))
        return header_fields(extras[0].head) if extras and extras[0] is not None else []


def _where(direction: int, back: str, on: str) -> str:
    """Where nothing was found, and the key that looks the other way."""
    return f"below ({back} looks above)" if direction > 0 else f"above ({on} looks below)"


def counterpart(store: Store, sequence: int, other: Store) -> int:
    """The sequence number in another ring of the same flow, or of the next one in time; -1 where there is none."""
    if store is other:
        return sequence
    records, _, _, _ = store.take(np.array([max(sequence, 0)], np.int64))
    if sequence < 0 or not len(records) or not len(other):
        return -1
    record = records[0]
    times = other.hot("time_ns")
    same = np.flatnonzero(times == record["time_ns"])
    first = other.next - len(times)
    for name in ("source_port", "destination_port", "type", "is_reply", "l7_type", "event_type"):
        column = other.hot(name)[-len(times) :]
        kept = same[column[same] == record[name]]
        same = kept if len(kept) else same
    place = int(same[0]) if len(same) else int(np.searchsorted(times, record["time_ns"]))
    return first + min(place, len(times) - 1)
