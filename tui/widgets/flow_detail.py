"""The detail pane: every field of one flow worth reading, the verdict and its rule first."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static


class FlowDetail(VerticalScroll, can_focus=True):
    """Name and value lines; scrolls when the pane is too small."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        # Held, not looked up, as in the app: the cursor may still move while the screen is taken down.
        self._text = Static(id="detail-text")

    def compose(self) -> ComposeResult:
        """One text inside."""
        yield self._text

    def show(self, lines: list[tuple[str, str]]) -> None:
        """Show these lines, or that the flow is gone."""
        text = Text()
        for name, value in lines:
            text.append(f"{name:<12} ", "dim" if name.startswith(" ") else "bold")
            text.append(f"{value}\n")
        if not lines:
            text.append("This flow has left the ring.", "dim")
        self._text.update(text)
        self.scroll_home(animate=False)
