"""The filters with a name: those that ship and those that were saved with S; use one, or forget one of one's own."""

from __future__ import annotations

from typing import ClassVar, Final

from rich.style import Style
from textual.binding import BindingType

from observer.errors import FlowscopeError
from observer.filters.named import NamedFilters
from observer.printer import escape
from tui.columns import fit
from tui.keys import bindings
from tui.look import Look
from tui.screens.window import ListWindow
from tui.widgets.outline import Item, Outline

MOST: Final = 14
"""Lines that the list has at most; the rest is scrolled."""
NAME: Final = 16
"""Cells of a name at least."""


class SavedFilters(ListWindow[str]):
    """Answers with the text of a filter; the cursor starts on the one that is used now."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("saved")]

    def __init__(self, named: NamedFilters, used: str, look: Look) -> None:
        super().__init__("Saved filters", "enter uses it, d forgets one of yours, esc closes; S saves the filter", look)
        self._named = named
        self.list.cursor = named.name_of(used) or None
        self._sure = ""
        """The name that is forgotten by the next d."""

    def fill(self) -> None:
        """Show what there is to choose from."""
        filters = self._named.filters
        width = max([NAME, *map(len, filters)])
        self.list.styles.height = min(len(filters), MOST)
        self.list.show(
            [
                Item(
                    name,
                    0,
                    [
                        (f"{fit(escape(name), width, ellipsis=self.look.ellipsis)} ", Style(bold=True)),
                        (f"{'yours' if name in self._named.own else 'ships'}  ", self.look.faint),
                        (escape(text), Style.null()),
                    ],
                )
                for name, text in filters.items()
            ]
        )

    def action_forget(self) -> None:
        """Forget the filter under the cursor, if it is asked for twice."""
        name = str(self.list.cursor)
        try:
            if name in self._named.own and name != self._sure:
                self._sure = name
                self.complain(f"d again forgets `{escape(name)}`")
                return
            self._named.forget(name)
        except FlowscopeError as error:
            self.complain(escape(str(error)))
        else:
            self.complain("")
            self.fill()
        self._sure = ""

    def on_outline_moved(self, event: Outline.Moved) -> None:
        """Another one: it is not the one that was meant."""
        event.stop()
        self._sure = ""
        self.complain("")

    def on_outline_chosen(self, event: Outline.Chosen) -> None:
        """Use it."""
        event.stop()
        self.dismiss(self._named.filters[str(event.outline.cursor)])
