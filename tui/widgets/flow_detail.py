"""The detail pane: every field of one flow worth reading, the verdict and its rule first."""

from __future__ import annotations

from rich.text import Text
from textual.containers import VerticalScroll
from textual.widgets import Static


class FlowDetail(VerticalScroll, can_focus=True):
    """Name and value lines; scrolls when the pane is too small."""

    def compose(self):  # type: ignore[no-untyped-def]
        """One text inside."""
        yield Static(id="detail-text")

    def show(self, lines: list[tuple[str, str]]) -> None:
        """Show these lines, or that the flow is gone."""
        text = Text()
        for name, value in lines:
            text.append(f"{name:<12} ", "dim" if name.startswith(" ") else "bold")
            text.append(f"{value}\n")
        if not lines:
            text.append("This flow has left the ring.", "dim")
        self.query_one("#detail-text", Static).update(text)
        self.scroll_home(animate=False)
