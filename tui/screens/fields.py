"""The fields that Top groups by: which, and in which order they were chosen."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from textual.binding import BindingType

from tui.aggregate import DEFAULT_FIELDS, FIELDS
from tui.keys import bindings
from tui.look import Look
from tui.screens.window import ListWindow
from tui.widgets.outline import Item, Outline


class FieldChooser(ListWindow[list[str]]):
    """Answers with the fields, in the order in which they were chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("columns")]

    def __init__(self, chosen: list[str], look: Look) -> None:
        super().__init__("Group by", "space takes or leaves a field, d as at first, enter keeps, esc leaves", look)
        self._chosen = list(chosen)
        self.list.styles.height = len(FIELDS)

    def fill(self) -> None:
        """Show what there is to choose from."""
        places = {field: str(place) for place, field in enumerate(self._chosen, 1)}
        self.list.show(
            [
                Item(field, 0, [(f"[{places.get(field, ' ')}] {field:<18} ", Style.null()), (help, Style(dim=True))])
                for field, (help, _) in FIELDS.items()
            ]
        )

    def action_take(self) -> None:
        """Take or leave the field under the cursor."""
        field = str(self.list.cursor)
        if field in self._chosen:
            self._chosen.remove(field)
        else:
            self._chosen.append(field)
        self.fill()

    def action_shift(self, places: int) -> None:
        """Move the field under the cursor within the order."""
        field = str(self.list.cursor)
        if field in self._chosen:
            here = self._chosen.index(field)
            self._chosen.insert(max(0, here + places), self._chosen.pop(here))
            self.fill()

    def action_default(self) -> None:
        """As at first."""
        self.dismiss(list(DEFAULT_FIELDS))

    def on_outline_chosen(self, event: Outline.Chosen) -> None:
        """Keep the choice; of none, the first ones."""
        event.stop()
        self.dismiss(self._chosen or list(DEFAULT_FIELDS))
