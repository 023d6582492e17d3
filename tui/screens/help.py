"""Help: the tour in ten lines, and every key from the table that makes them work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from tui.keys import PLACES, Key
from tui.screens.window import Window

TOUR: Final = (
    "Each line is a flow: something that was seen of a connection, the client on the left.",
    "The list follows what comes. Move up and it holds still; G returns to live.",
    "v steps through the verdicts, p asks for a pod, P for a port: the three that help most.",
    "/ takes any filter: namespace=shop and not dns, http.status=5xx, latency>100ms, /regex/.",
    "h and l choose a cell of the line; + shows only what has its value, - hides that.",
    "F sets the filter aside; [ and ] go through those used before; S saves it, L lists the saved.",
    "enter opens a flow: the policy that decided stands on top. f shows the conversation.",
    "e goes to the next drop or error, m marks a flow, ' finds the mark again, y copies.",
    "2 shows what there is most of, 3 who talks to whom, 4 the nodes and what was lost.",
    "esc and q close what is open; at the end q quits. : finds every command by its name.",
)

KEY_CELLS: Final = 14
"""Cells of a key."""


class Help(Window[None]):
    """The tour and the keys."""

    def __init__(self, keys: Iterable[Key], *, ascii: bool = False) -> None:
        super().__init__("flowscope in ten lines", "up and down scroll; esc closes")
        self._keys = tuple(keys)
        self._ascii = ascii

    def content(self) -> list[Widget]:
        """One text that scrolls."""
        return [VerticalScroll(*map(Static, self.parts()), can_focus=True)]

    def parts(self) -> list[RenderableType]:
        """The tour, then the keys place by place."""
        tour = Table.grid(padding=(0, 1))
        for number, line in enumerate(TOUR, 1):
            tour.add_row(Text(f"{number:>2}", "bold"), Text(line))
        parts: list[RenderableType] = [tour]
        for place, title in PLACES.items():
            table = Table.grid(padding=(0, 1))
            table.add_column(width=KEY_CELLS)
            table.add_column(ratio=1)
            table.add_column(width=max(len(key.id) for key in self._keys))
            for key in self._keys:
                if key.where == place:
                    table.add_row(
                        Text(f"  {key.written(ascii=self._ascii)}", "bold"), Text(key.help), Text(key.id, "dim")
                    )
            parts += [Text(f"\n{title}", "bold underline"), table]
        return [*parts, Text('\nconfig.toml gives a key another place: [keys] "flows.pause" = "s"', "dim")]
