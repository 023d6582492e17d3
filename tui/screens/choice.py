"""A window with a few choices, each with a letter of its own: copy as, start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.style import Style
from textual.events import Key
from textual.widget import Widget
from textual.widgets import Static

from tui.look import Look
from tui.screens.window import ListWindow
from tui.widgets.outline import Item, Outline


class Option(NamedTuple):
    """One choice: its letter, its name and what it does."""

    letter: str
    name: str
    help: str = ""


class Choice(ListWindow[str]):
    """Answers with the name of the option."""

    def __init__(self, title: str, options: Sequence[Option], look: Look, *, text: str = "") -> None:
        super().__init__(title, "a letter, or up, down and enter; esc closes", look)
        self._options = options
        self._text = text
        self.list.styles.height = len(options)

    def content(self) -> list[Widget]:
        """What is to be said, and the list."""
        return [*([Static(self._text, markup=False)] if self._text else []), *super().content()]

    def fill(self) -> None:
        """Show the options."""
        self.list.show(
            [
                Item(
                    one.name, 0, [(f" {one.letter}  ", Style(bold=True)), (f"{one.name:<10} {one.help}", Style.null())]
                )
                for one in self._options
            ]
        )

    def on_key(self, event: Key) -> None:
        """A letter chooses."""
        for one in self._options:
            if event.character == one.letter:
                event.stop()
                self.dismiss(one.name)

    def on_outline_chosen(self, event: Outline.Chosen) -> None:
        """Enter chooses."""
        event.stop()
        self.dismiss(str(event.outline.cursor))
