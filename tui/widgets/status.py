"""The line on top: which source, live or not, how fast, what is filtered, what was lost."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text
from textual.widget import Widget

from observer.printer import escape
from tui.view import SIGNS

STATE_STYLES = {"LIVE": "green", "FILE": "green", "PAUSED": "yellow", "LOADING": "yellow", "FAILED": "bold red"}


@dataclass(frozen=True, slots=True)
class Reading:
    """What the line tells."""

    source: str = ""
    state: str = "CONNECTING"
    detail: str = ""  # why it failed or since when data is frozen; replaces the filter
    rate: float = 0.0  # flows a second
    held: int = 0
    new: int = 0  # since paused
    lost: int = 0
    filter: str = ""


class StatusLine(Widget):
    """One line of text, redrawn only when it says something else."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.reading = Reading()

    def tell(self, reading: Reading) -> None:
        """Show `reading`."""
        if reading != self.reading:
            self.reading = reading
            self.refresh()

    def render(self) -> Text:
        """The line itself."""
        now = self.reading
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append("flowscope ", "bold")
        text.append(f"{now.source}  ")
        text.append(now.state, STATE_STYLES.get(now.state, "bold yellow"))
        if now.new:
            text.append(f" +{now.new:,} new (G = live)", "yellow")
        text.append(f"  {now.rate:,.0f} fl/s  {now.held:,} held  lost {now.lost:,}")
        if now.detail:
            text.append(f"  {SIGNS['ERROR']} {escape(now.detail)}", "red")  # may be a server's own words
        else:
            text.append(f"  / {now.filter}" if now.filter else "  / no filter", "bold" if now.filter else "dim")
        return text
