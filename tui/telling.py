"""What the two lines on top say, and the table where it is empty: the state of the source, of the filter, and why.

The app's parts are read, words leave; nothing is changed and nothing drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.printer import escape
from tui.keys import with_keymap
from tui.matches import AllRows
from tui.view import span
from tui.widgets.filter_bar import Shown
from tui.widgets.status import Reading

if TYPE_CHECKING:
    from tui.app import FlowscopeApp


class Telling:
    """The words over one app."""

    def __init__(self, app: FlowscopeApp) -> None:
        self._app = app
        keys = {key.id: key for key in with_keymap(app.config.keys)}
        self._screen_keys = [f"{keys[f'app.{name}'].shown} {keys[f'app.{name}'].title}" for name in app.panes]
        self._first_keys = ", ".join(
            f"{keys[id].shown} {keys[id].title.lower()}" for id in ("app.verdict", "app.pod", "app.port")
        )
        """What the filter's line says as long as there is none."""

    def status(self) -> Reading:
        """The first line."""
        feed, store, table = self._app.feed, self._app.flows.store, self._app.flows.table
        word, detail = feed.told()
        ended = word == "FILE"
        if not table.following and word in ("LIVE", "FILE", "LOADING"):
            word, detail = "PAUSED", ""
        return Reading(
            source=feed.source.name,
            state=word,
            detail=detail,
            rate=feed.rate,
            rates=() if ended else tuple(feed.rates),
            held=len(store),
            capacity=store.capacity,
            span=self._span(),
            new=table.new,
            lost=feed.lost,
            skipped=feed.skipped + getattr(self._app.flows.rows, "skipped", 0),
        )

    def filter(self) -> Shown:
        """The filter's line."""
        app, flows = self._app, self._app.flows
        here = app.pane
        return Shown(
            app.filter.text,
            off=not app.filter_on or bool(flows.only),  # a connection, or the marks, are shown whole
            count=self._count(),
            where=app.filter.where(app.feed.pushed) if app.filter_on and not flows.only else "",
            hint=self._hint(),
            screens=tuple(
                (words, pane is here) for words, pane in zip(self._screen_keys, app.panes.values(), strict=True)
            ),
        )

    def why_empty(self) -> str:
        """Why no flow is shown, in words."""
        app = self._app
        word, detail = app.feed.told()
        if word in ("CONNECTING", "FAILED", "RECONNECTING"):
            return f"not connected: {escape(detail) or 'connecting ...'}"
        if not app.flows.rows.complete:
            return "looking ..."
        held = len(app.flows.store)
        if app.filter.text and app.filter_on:
            if held and app.flows.store is app.feed.base:
                return f"the filter hides all {held:,} flows held; F sets it aside"
            return "the server has no flow that passes the filter; F sets it aside"
        return "no flows yet" if word != "FILE" else "the capture makes no flows"

    def _hint(self) -> str:
        """What else is to be known about the rows shown."""
        flows, filter = self._app.flows, self._app.filter
        if flows.only:
            return {"related": "only this connection (esc: all)", "marked": "only marked (M: all)"}[flows.only]
        if flows.needle:
            return f"search {escape(flows.needle)!r} n/N"
        if not filter.text:
            return self._first_keys
        name = self._app.named.name_of(filter.text)
        return f"saved: {escape(name)}" if name else ""

    def _span(self) -> str:
        """From the oldest to the newest flow held."""
        store = self._app.flows.store
        if len(store) < 2:
            return ""
        oldest, newest = (store.columns(place, place + 1)[0]["time_ns"][0] for place in (store.first, store.next - 1))
        return span(max(0, int(newest) - int(oldest)))

    def _count(self) -> str:
        flows = self._app.flows
        rows, store = flows.rows, flows.store
        if flows.only or (self._app.filter.text and self._app.filter_on):
            more = "" if rows.complete else "+"
            # Of a ring that the server has filled by the filter, nobody here knows of how many.
            return f"{len(rows):,} flows" if isinstance(rows, AllRows) else f"{len(rows):,}{more} of {len(store):,}"
        return ""
