"""The line on top: which source, live or not, how fast, how much is held, what was lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.text import Text
from textual.widget import Widget

from observer.printer import escape
from tui.columns import fit
from tui.look import Look

LEAST_SOURCE: Final = 8
"""Cells that the name of a source keeps at least: the rest of the line is told first."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the line tells."""

    source: str = ""
    state: str = "CONNECTING"
    detail: str = ""  # why it failed, or since when data is frozen
    rate: float = 0.0  # flows a second
    rates: Sequence[float] = ()  # empty: nothing comes any more
    held: int = 0
    capacity: int = 0
    span: str = ""  # from the oldest to the newest flow held
    new: int = 0  # since paused
    lost: int = 0
    skipped: int = 0  # left out here: a sample is shown


class StatusLine(Widget):
    """One line of text, redrawn only when it says something else."""

    def __init__(self, look: Look, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.look = look
        self.reading = Reading()

    def tell(self, reading: Reading) -> None:
        """Show `reading`."""
        if reading != self.reading:
            self.reading = reading
            self.refresh()

    def render(self) -> Text:
        """The line itself: the state before all else, the rest as far as there is room."""
        now, look = self.reading, self.look
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append("flowscope ", "bold")
        calm = {"LIVE": look.good, "FILE": look.good, "FAILED": look.bad}
        state = Text.assemble((f"{now.state}", calm.get(now.state, look.odd)))
        if now.new:
            state.append(f" +{now.new:,} new (G = live)", look.odd)
        if now.detail:
            text.append_text(state)
            text.append(f"  {look.signs['ERROR']} {escape(now.detail)}", look.bad)  # may be a server's own words
            return text
        if now.rates:
            state.append(f"  {now.rate:,.0f} fl/s")
        lost = Text(f"  lost {now.lost:,}", look.bad if now.lost else look.faint)
        if now.skipped:
            lost.append(f"  left out {now.skipped:,}: a sample is shown", look.bad)
        source = escape(now.source)
        room = max(LEAST_SOURCE, self.size.width - text.cell_len - state.cell_len - lost.cell_len - 2)
        text.append(fit(source, min(room, cell_len(source)), middle=True, ellipsis=look.ellipsis) + "  ")
        text.append_text(state)
        ring = f"  ring {100 * now.held // max(now.capacity, 1)}%" + (f" ({now.span})" if now.span else "")
        room = self.size.width - cell_len(text.plain) - lost.cell_len
        if now.rates and room > len(now.rates) + 2 + len(ring):
            text.append(f"  {look.sparkline(now.rates)}", look.faint)
            room -= len(now.rates) + 2
        text.append_text(lost)
        held = f"  {now.held:,} held"
        if room > len(ring) + len(held):
            text.append(held + ring)
        elif room > len(held):
            text.append(held)
        return text
