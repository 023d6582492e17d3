"""What every window over the screen has: a frame, a title, a line of hints, and keys that close it."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

from tui.keys import bindings
from tui.look import Look
from tui.widgets.outline import Outline

T = TypeVar("T")


class Window(ModalScreen[T], Generic[T]):
    """A window; what it is closed with is its answer, None if there is none."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("modal")]

    def __init__(self, title: str, hint: str = "esc closes", *, small: bool = False) -> None:
        super().__init__()
        self._title = Static(title, classes="title", markup=False)
        self._hint = Static(hint, classes="hint", markup=False)
        self._wrong = Static("", classes="wrong", markup=False)
        self._small = small

    def compose(self) -> ComposeResult:
        """Title, content, what is wrong, hints."""
        with Vertical(classes="window small" if self._small else "window"):
            yield self._title
            yield from self.content()
            yield self._wrong
            yield self._hint

    def content(self) -> list[Widget]:
        """What stands in it."""
        raise NotImplementedError

    def on_mount(self) -> None:
        """Nothing is wrong yet."""
        self.complain("")

    def complain(self, text: str) -> None:
        """Say what is wrong."""
        self._wrong.update(text)
        self._wrong.display = bool(text)

    def action_close(self) -> None:
        """Close without an answer."""
        self.dismiss(None)


class ListWindow(Window[T], Generic[T]):
    """A window with a list, which has the keys."""

    def __init__(self, title: str, hint: str, look: Look, *, small: bool = True, closed: bool = False) -> None:
        super().__init__(title, hint, small=small)
        self.look = look
        self.list = Outline(look, closed=closed)

    def content(self) -> list[Widget]:
        """The list."""
        return [self.list]

    def on_mount(self) -> None:
        """Fill it; what every window does here comes after this, by Textual itself."""
        self.fill()
        self.list.focus()

    def fill(self) -> None:
        """Show what there is to choose from."""
        raise NotImplementedError
