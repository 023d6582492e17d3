"""Help: the tour in ten lines, and every key from the table that makes them work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

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


class Help(Window[None]):
    """The tour and the keys."""

    def __init__(self, keys: Iterable[Key]) -> None:
        super().__init__("flowscope in ten lines", "up and down scroll; esc closes")
        self._keys = tuple(keys)

    def content(self) -> list[Widget]:
        """One text that scrolls."""
        return [VerticalScroll(Static(self._text(), markup=False), can_focus=True)]

    def _text(self) -> Text:
        text = Text()
        for number, line in enumerate(TOUR, 1):
            text.append(f"{number:>2}  ", "bold")
            text.append(f"{line}\n")
        for place, title in PLACES.items():
            keys = [key for key in self._keys if key.where == place]
            text.append(f"\n{title}\n", "bold underline")
            for key in keys:
                text.append(f"  {key.shown:<16} ", "bold")
                text.append(f"{key.help}  ")
                text.append(f"{key.id}\n", "dim")
        text.append("\nconfig.toml gives a key another place: ", "dim")
        text.append('[keys] "flows.pause" = "s"\n', "dim")
        return text
