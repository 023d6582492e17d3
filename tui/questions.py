"""What the bar can ask: a filter, a pod, a port, a text to search, a name; how each is completed, checked and counted.

Knows the language and the flows held; the bar and the screen know neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.errors import ConfigError, FilterError
from observer.filters.complete import complete
from observer.filters.language import IncompleteError
from observer.filters.named import NamedFilters, check_name
from observer.filters.saved import History
from tui.filtering import QUICK, quick, read, with_quick
from tui.matches import Matches
from tui.widgets.filter_bar import Check, Completion, Question

if TYPE_CHECKING:
    from tui.app import FlowscopeApp


class Questions:
    """The questions over one app's flows."""

    def __init__(self, app: FlowscopeApp, *, history: History | None, named: NamedFilters) -> None:
        self._app = app
        self._history = history
        """On disk; None: kept only as long as this runs."""
        self._named = named
        self._used = list(history.entries) if history is not None else []
        """The filters used, oldest first."""
        self._place = len(self._used)
        self._counted: tuple[str, Matches | None] = ("", None)

    # -- history ------------------------------------------------------------------------------------------------

    def remember(self, text: str) -> None:
        """Note a filter that was used."""
        if text and (not self._used or text not in (self._used[-1], *self._used[self._place : self._place + 1])):
            self._used.append(text)
            if self._history is not None:
                self._history.add(text)
        self._place = len(self._used) - 1 - self._used[::-1].index(text) if text else len(self._used)

    def step(self, step: int) -> str | None:
        """The filter used before, or after; none after the last; None at the ends."""
        place = self._place + step
        if not 0 <= place <= len(self._used):
            return None
        self._place = place
        return "" if place == len(self._used) else self._used[place]

    # -- questions ----------------------------------------------------------------------------------------------

    def filter(self, text: str) -> Question:
        """The filter."""
        return Question(
            "filter",
            "a field and a value, a protocol, or a text; tab completes, esc leaves",
            value=text,
            placeholder="namespace=shop and not dns",
            complete=self._complete,
            check=self.check,
            history=tuple(self._used),
        )

    def quick(self, field: str, value: str) -> Question:
        """One of the quick filters."""
        hint = {"pod": "namespace/prefix, or a prefix in any namespace", "port": "a port on either side"}[field]
        return Question(
            field,
            f"{field}: {hint}; empty for any",
            value=value,
            placeholder=f"{field}: {hint}",
            complete=lambda text, cursor: self._complete_value(field, text, cursor),
            check=lambda text: self._check_quick(field, text),
            select=True,
        )

    def search(self, text: str) -> Question:
        """A text to search for."""
        return Question("search", "a text in names, addresses or summary; n and N go on", value=text, select=True)

    def name(self, text: str) -> Question:
        """A name for a filter."""
        return Question(
            "name",
            "a name for this filter; empty leaves it without",
            value=self._named.name_of(text),
            placeholder="a name for this filter: checkout-errors",
            check=lambda name: self._check_name(name.strip(), text),
            select=True,
        )

    # -- completion ---------------------------------------------------------------------------------------------

    def _complete(self, text: str, cursor: int) -> list[Completion]:
        """Named filters where one may stand, then what the language knows, values with how many flows have them."""
        found = []
        word = text.strip()
        for name, named in self._named.filters.items():
            if cursor == len(text) and name.startswith(word.lower()) and word.lower() != named:
                found.append(Completion(named, len(named), name, f"saved: {named}"))
        candidates = complete(text, cursor, self._app.flows.store)
        for one in candidates.items:
            whole = text[: candidates.start] + one.text + text[candidates.stop :]
            note = one.help if one.count is None else f"{one.count:,} flows  {one.help}".rstrip()
            found.append(Completion(whole, candidates.start + len(one.text), one.text, note))
        return [one for one in found if one.text != text] if word else found

    def _complete_value(self, field: str, text: str, cursor: int) -> list[Completion]:
        """The values that flows have."""
        before = f"{field}="
        found = []
        for one in complete(before + text, len(before) + cursor, self._app.flows.store).items:
            value = quick(before + one.text, field)
            note = one.help if one.count is None else f"{one.count:,} flows"
            if value != text:
                found.append(Completion(value, len(value), value, note))
        return found

    # -- checks -------------------------------------------------------------------------------------------------

    def check(self, text: str) -> Check:
        """What is wrong with a filter, or how many of the flows held it would let pass."""
        try:
            filter = read(text)
        except IncompleteError as error:
            return Check(note=str(error))
        except FilterError as error:
            return Check(error=str(error), position=error.position or 0)
        store = self._app.flows.store
        if filter.condition is None:
            return Check(note=f"no filter: all {len(store):,} flows")
        counted, matches = self._counted
        if counted != text or matches is None or matches.store is not store:
            matches = Matches(store, filter.condition, page=1)
            self._counted = (text, matches)
        matches.advance()
        more = "" if matches.complete else "+"
        # Counted as the answer will be: a pushed filter asks the server, which may hold more.
        where = filter.where(not self._app.feed.finite)
        return Check(note=f"{len(matches):,}{more} of {len(store):,} flows held; {where}", final=matches.complete)

    def _check_quick(self, field: str, text: str) -> Check:
        assert field in QUICK
        try:
            whole = with_quick(self._app.filter.text, field, text.strip())
        except FilterError as error:
            return Check(error=str(error))
        check = self.check(whole)
        return check._replace(position=0) if check.error else check

    def _check_name(self, name: str, text: str) -> Check:
        if not name:
            return Check()
        try:
            check_name(name)
        except ConfigError as error:
            return Check(error=str(error))
        before = self._named.filters.get(name, text)
        return Check(note=f"replaces `{name}`: {before}" if before != text else f"`{name}`: {text}")
