"""The windows that open over the screen, and what is done with their answers.

Each method opens one; the app knows none of them by name. Captures that were opened here are closed with the app.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from observer.client import Source
from observer.errors import FlowscopeError
from observer.printer import escape
from tui.export import curl_of, json_of, picture_of
from tui.filtering import flow_test
from tui.keys import with_keymap
from tui.screens.choice import Choice, Option
from tui.screens.columns import ColumnChooser
from tui.screens.export import Export
from tui.screens.fields import FieldChooser
from tui.screens.help import Help
from tui.screens.open import Open
from tui.screens.saved import SavedFilters
from tui.screens.stream import StreamWindow
from tui.stream import Stream

if TYPE_CHECKING:
    from tui.app import FlowscopeApp


class Offer(Protocol):
    """What can be done when no server answers."""

    text: str
    """Why, and what a local observer would get here."""
    possible: bool
    """Whether one can be started."""

    def start(self) -> Source:
        """Start it; FlowscopeError where that failed."""
        ...


class Windows:
    """The windows of one app."""

    def __init__(self, app: FlowscopeApp, offer: Offer | None) -> None:
        self._app = app
        self._offer = offer
        self._opened: list[Source] = []

    def close(self) -> None:
        """Close what was opened here."""
        for source in self._opened:
            source.close()

    def help(self) -> None:
        """The tour and every key."""
        self._app.push_screen(Help(with_keymap(self._app.config.keys), ascii=self._app.config.ascii))

    def export(self) -> None:
        """The name of a file for what is shown."""
        picture = picture_of(self._app.export_screenshot(title="flowscope"))  # before the window covers it
        self._app.push_screen(Export(self._app.flows.rows, self._app.feed.source, lambda: picture), self._told)

    def _told(self, text: str | None) -> None:
        if text:
            self._app.notify(escape(text), markup=False)

    def open(self) -> None:
        """A capture."""
        self._app.push_screen(Open(), self._open)

    def _open(self, source: Source | None) -> None:
        if source is not None:
            self._opened.append(source)
            self._app.attach(source, finite=True)

    def saved(self) -> None:
        """The filters with a name."""
        self._app.push_screen(SavedFilters(self._app.named, self._app.filter.text, self._app.look), self._saved)

    def _saved(self, text: str | None) -> None:
        if text is not None:
            self._app.use_filter(text)

    def columns(self) -> None:
        """The columns of the flows."""
        self._app.push_screen(ColumnChooser(self._app.flows.columns, self._app.look), self._columns)

    def _columns(self, columns: list[str] | None) -> None:
        if columns is not None:
            self._app.session.columns = self._app.flows.columns = columns
            self._app.flows.table.appear(columns=columns)

    def fields(self) -> None:
        """The fields of Top."""
        self._app.push_screen(FieldChooser(self._app.top.fields, self._app.look), self._fields)

    def _fields(self, fields: list[str] | None) -> None:
        if fields is not None:
            self._app.session.group = fields
            self._app.top.use_fields(fields)

    def stream(self) -> None:
        """The conversation of the flow under the cursor."""
        flows = self._app.flows
        packets = getattr(self._app.feed.source, "packets", None)  # only a capture has them
        stream = Stream(flows.view, flows.table.cursor, packets=packets, local=flows.time == "local")
        self._app.push_screen(StreamWindow(stream, self._app.look))

    def copy_as(self) -> None:
        """As what to copy the flow under the cursor."""
        options = [
            Option("f", "filter", "for flows like this one"),
            Option("j", "json", "as observe -o json prints it"),
            Option("c", "curl", "the request, if it is HTTP"),
        ]
        self._app.push_screen(Choice("Copy as", options, self._app.look), self._copy)

    def _copy(self, what: str | None) -> None:
        flow = self._app.flows.view.flow(self._app.flows.table.cursor)
        if what is None or flow is None:
            return
        text = {"filter": flow_test, "json": json_of, "curl": curl_of}[what](flow)
        if text:
            self._app.copy_to_clipboard(text)
            self._app.notify(f"copied as {what}", timeout=2)
        else:
            self._app.notify("no HTTP request: a curl command cannot be made of it", severity="warning")

    # -- no server ----------------------------------------------------------------------------------------------

    def offer(self) -> None:
        """What can be done where no server answers, if that is so."""
        if self._offer is not None:
            self._make_offer(self._offer.text)

    def _make_offer(self, text: str) -> None:
        assert self._offer is not None
        options = [Option("o", "open", "a capture"), Option("r", "retry", "ask the server again"), Option("q", "quit")]
        if self._offer.possible:
            options.insert(0, Option("s", "start", "a local observer, until flowscope is quit"))
        harmless = "\n".join(map(escape, text.splitlines()))
        self._app.push_screen(Choice("No server answers", options, self._app.look, text=harmless), self._offered)

    def _offered(self, chosen: str | None) -> None:
        if chosen == "open":
            self.open()
        elif chosen == "quit":
            self._app.exit()
        elif chosen == "retry":
            self._app.attach(self._app.feed.source, finite=False)
        elif chosen == "start":
            self._app.notify("starting a local observer ...")
            threading.Thread(target=self._start, name="start", daemon=True).start()

    def _start(self) -> None:
        assert self._offer is not None
        try:
            source = self._offer.start()
        except FlowscopeError as error:
            self._app.call_from_thread(self._make_offer, str(error))
        else:
            self._app.call_from_thread(self._app.attach, source, finite=False)
