"""The TUI: one screen with the status line, the flow table, the detail pane and the quick filters.

A subscription fills the store in the background; ten times a second the screen takes note of what came. Filters go to
the server: a new filter is a new subscription into a new store.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import ClassVar, Final

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input

from observer.client import Source, State, Subscription
from observer.errors import FlowscopeError
from observer.filters.quick import QuickFilter
from observer.store import DEFAULT_CAPACITY, Store
from tui.view import FlowView
from tui.widgets.flow_detail import FlowDetail
from tui.widgets.flow_table import FlowTable
from tui.widgets.status import Reading, StatusLine

TICK_SECONDS: Final = 0.1
RATE_SECONDS: Final = 2.0
VERDICTS: Final = ("", "DROPPED", "FORWARDED", "AUDIT", "ERROR")
"""What the verdict key steps through; empty is any."""

PROMPTS: Final = {
    "pod": "pod: namespace/prefix, or a prefix in any namespace; empty for any",
    "port": "port on either side; empty for any",
}


class FlowscopeApp(App[None]):
    """flowscope's terminal UI over one source."""

    CSS_PATH = "app.tcss"
    TITLE = "flowscope"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "prompt('pod')", "Pod", id="filter.pod"),
        Binding("v", "next_verdict", "Verdict", id="filter.verdict"),
        Binding("P", "prompt('port')", "Port", key_display="P", id="filter.port"),
        Binding("F", "toggle_filter", "Filter off/on", key_display="F", id="filter.toggle"),
        Binding("escape", "leave", "Back", show=False, id="leave"),
        Binding("q", "quit", "Quit", id="quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
    ]

    def __init__(self, source: Source, *, capacity: int = DEFAULT_CAPACITY, finite: bool = False) -> None:
        super().__init__()
        self.theme = "ansi-dark"
        self._source = source
        self._capacity = capacity
        self._finite = finite
        """The source ends by itself (a capture): its end is no failure."""
        self._quick = QuickFilter()
        self._filter_on = True
        self._prompting = ""
        self._store = Store(capacity)
        self._subscription: Subscription | None = None
        # Held, not looked up: a tick may still come while the screen is being taken down.
        self._status = StatusLine(id="status")
        self._table = FlowTable(FlowView(self._store), id="flows")
        self._detail = FlowDetail(id="detail")
        self._prompt = Input(id="prompt")
        self._seen: list[tuple[float, int]] = []

    def compose(self) -> ComposeResult:
        """Status line, table, detail, prompt, key hints."""
        yield self._status
        yield self._table
        yield self._detail
        yield self._prompt
        yield Footer()

    def on_mount(self) -> None:
        """Subscribe, and look ten times a second for what came."""
        self._detail.display = False
        self._prompt.display = False
        self._table.focus()
        self._subscribe()
        self.set_interval(TICK_SECONDS, self._tick)

    def on_unmount(self) -> None:
        """Leave nothing running."""
        if self._subscription is not None:
            self._subscription.cancel()

    # -- the source ---------------------------------------------------------------------------------------------

    def _subscribe(self) -> None:
        """Ask the source for what the filter lets through, from now on into a new store."""
        request = (self._quick if self._filter_on else QuickFilter()).request(self._capacity)
        if self._subscription is not None:
            self._subscription.cancel()
        self._store = Store(self._capacity)
        self._subscription = self._source.subscribe(self._store, request)
        self._seen = []
        self._table.show(FlowView(self._store))
        self._close_detail()

    def _tick(self) -> None:
        table = self._table
        table.advance()
        now = time.monotonic()
        self._seen.append((now, self._store.next))
        while self._seen[0][0] < now - RATE_SECONDS:
            self._seen.pop(0)
        span = now - self._seen[0][0]
        rate = (self._store.next - self._seen[0][1]) / span if span > 0 else 0.0
        state, detail = self._state(table)
        self._status.tell(
            Reading(
                source=self._source.name,
                state=state,
                detail=detail,
                rate=rate,
                held=len(self._store),
                new=table.new,
                lost=self._subscription.lost if self._subscription is not None else 0,
                filter=self._filter_text(),
            )
        )

    def _state(self, table: FlowTable) -> tuple[str, str]:
        """The word for the state, and what is to be said about it."""
        subscription = self._subscription
        if subscription is None:
            return "CONNECTING", ""
        state = subscription.state
        if state in (State.FAILED, State.RECONNECTING, State.CONNECTING):
            return state.name, subscription.error
        if not table.following:
            return "PAUSED", ""
        if state is State.ENDED:
            return ("FILE", "") if self._finite else ("ENDED", "the server has ended the stream")
        return state.name, ""

    def _filter_text(self) -> str:
        text = str(self._quick)
        return f"({text}) off" if text and not self._filter_on else text

    # -- filters ------------------------------------------------------------------------------------------------

    def _filter(self, quick: QuickFilter) -> None:
        """Try a new filter; one that is refused leaves everything as it was and says why."""
        try:
            quick.request(self._capacity)
        except FlowscopeError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        self._quick = quick
        self._filter_on = True
        self._subscribe()

    def action_next_verdict(self) -> None:
        """Step to the next verdict."""
        place = VERDICTS.index(self._quick.verdict)
        self._filter(replace(self._quick, verdict=VERDICTS[(place + 1) % len(VERDICTS)]))

    def action_toggle_filter(self) -> None:
        """Set the whole filter aside, or put it back."""
        self._filter_on = not self._filter_on
        self._subscribe()

    def action_prompt(self, field: str) -> None:
        """Ask for a pod or a port."""
        self._prompting = field
        self._prompt.placeholder = PROMPTS[field]
        self._prompt.value = str(getattr(self._quick, field))
        self._prompt.display = True
        self._prompt.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take what was typed as the filter asked for."""
        quick = replace(self._quick, **{self._prompting: event.value.strip()})
        self._close_prompt()
        self._filter(quick)

    def _close_prompt(self) -> None:
        self._prompting = ""
        self._prompt.display = False
        self._table.focus()

    # -- the detail ---------------------------------------------------------------------------------------------

    def on_flow_table_chosen(self) -> None:
        """Show the detail of the flow under the cursor."""
        self._detail.display = True
        self._show_detail()

    def on_flow_table_moved(self) -> None:
        """Let an open detail follow the cursor."""
        if self._detail.display:
            self._show_detail()

    def _show_detail(self) -> None:
        table = self._table
        self._detail.show(table.view.detail(table.cursor))

    def _close_detail(self) -> None:
        self._detail.display = False
        self._table.focus()

    def action_leave(self) -> None:
        """Close what is open: the prompt, then the detail."""
        if self._prompting:
            self._close_prompt()
        elif self._detail.display:
            self._close_detail()


def run(source: Source, *, capacity: int = DEFAULT_CAPACITY, finite: bool = False) -> None:
    """Run the TUI over `source` until the user quits; the caller closes the source."""
    FlowscopeApp(source, capacity=capacity, finite=finite).run()
