"""The column chooser: which columns the flows have, and in which order."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from textual.binding import BindingType

from tui.columns import BY_FIELD, COLUMNS, NEVER
from tui.keys import bindings
from tui.look import Look
from tui.screens.window import ListWindow
from tui.widgets.outline import Item, Outline


class ColumnChooser(ListWindow[list[str]]):
    """Answers with the columns chosen, in order; an empty list means: as the width allows."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("columns")]

    def __init__(self, chosen: list[str], look: Look) -> None:
        super().__init__(
            "Columns", "space shows or hides, J and K move, d as the width allows, enter keeps, esc leaves", look
        )
        default = [column.field for column in COLUMNS if column.from_width < NEVER]
        self._shown = set(chosen or default)
        first = chosen or default
        self._order = [*first, *[column.field for column in COLUMNS if column.field not in first]]
        self.list.styles.height = len(COLUMNS)

    def fill(self) -> None:
        """Show what there is to choose from."""
        self.list.show(
            [
                Item(
                    field,
                    0,
                    [
                        (
                            f"[{'x' if field in self._shown else ' '}] {BY_FIELD[field].title or 'ARROW':<12} ",
                            Style.null(),
                        ),
                        (BY_FIELD[field].help, Style(dim=True)),
                    ],
                )
                for field in self._order
            ]
        )

    def action_take(self) -> None:
        """Show or hide the column under the cursor; one is always shown."""
        self._shown ^= {str(self.list.cursor)}
        self._shown = self._shown or {str(self.list.cursor)}
        self.fill()

    def action_shift(self, places: int) -> None:
        """Move the column under the cursor."""
        here = self._order.index(str(self.list.cursor))
        there = min(max(here + places, 0), len(self._order) - 1)
        self._order.insert(there, self._order.pop(here))
        self.fill()

    def action_default(self) -> None:
        """Forget the choice."""
        self.dismiss([])

    def on_outline_chosen(self, event: Outline.Chosen) -> None:
        """Keep the choice."""
        event.stop()
        self.dismiss([field for field in self._order if field in self._shown])
