"""The column chooser: which columns the flows have, and in which order."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from textual.binding import BindingType
from textual.widget import Widget

from tui.columns import BY_FIELD, COLUMNS, NEVER
from tui.keys import bindings
from tui.look import Look
from tui.screens.window import Window
from tui.widgets.outline import Item, Outline


class ColumnChooser(Window[list[str]]):
    """Answers with the columns chosen, in order; an empty list means: as the width allows."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("columns")]

    def __init__(self, chosen: list[str], look: Look) -> None:
        super().__init__(
            "Columns", "space shows or hides, J and K move, d as the width allows, enter keeps, esc leaves", small=True
        )
        default = [column.field for column in COLUMNS if column.from_width < NEVER]
        self._shown = set(chosen or default)
        first = chosen or default
        self._order = [*first, *[column.field for column in COLUMNS if column.field not in first]]
        self._list = Outline(look)

    def content(self) -> list[Widget]:
        """A list."""
        self._list.styles.height = len(COLUMNS)
        return [self._list]

    def on_mount(self) -> None:
        """Show all columns, those that are shown with a cross."""
        super().on_mount()
        self._fill()
        self._list.focus()

    def _fill(self) -> None:
        self._list.show(
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
        self._shown ^= {str(self._list.cursor)}
        self._shown = self._shown or {str(self._list.cursor)}
        self._fill()

    def action_shift(self, places: int) -> None:
        """Move the column under the cursor."""
        here = self._order.index(str(self._list.cursor))
        there = min(max(here + places, 0), len(self._order) - 1)
        self._order.insert(there, self._order.pop(here))
        self._fill()

    def action_default(self) -> None:
        """Forget the choice."""
        self.dismiss([])

    def on_outline_chosen(self, event: Outline.Chosen) -> None:
        """Keep the choice."""
        event.stop()
        self.dismiss([field for field in self._order if field in self._shown])
