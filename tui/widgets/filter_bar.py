"""The line of the filter: what it is and how much it lets pass; or, while it is typed, a prompt with completion.

What is asked for (a filter, a pod, a text to search) is a `Question`: it completes, checks and counts. The bar knows no
language and no flows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, NamedTuple

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from observer.printer import escape
from tui.columns import fit, wrapped
from tui.keys import bindings
from tui.look import Look

COMPLETIONS: Final = 6
"""How many are shown at a time."""
LEAST_FILTER: Final = 16
"""Cells that the closed line keeps for the filter itself."""
SETTLE_S: Final = 0.08
"""How long nothing is typed before matches are counted."""


class Completion(NamedTuple):
    """What the text would be, what stands in the list, and what is said beside it."""

    text: str
    cursor: int
    shown: str
    note: str = ""


class Check(NamedTuple):
    """What is to be said about a text while it is typed: a mistake and where, or what it would let pass."""

    note: str = ""
    error: str = ""
    position: int = 0
    final: bool = True
    """Call again: it is still being counted."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the bar asks for."""

    kind: str
    label: str
    value: str = ""
    placeholder: str = ""
    select: bool = False
    """Typing replaces the value."""
    complete: Callable[[str, int], Sequence[Completion]] = lambda text, cursor: ()
    check: Callable[[str], Check] = lambda text: Check()
    history: Sequence[str] = field(default=())
    """Oldest first."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the closed bar tells."""

    text: str = ""
    off: bool = False
    count: str = ""
    where: str = ""  # pushed to server, local
    hint: str = ""
    screens: tuple[tuple[str, bool], ...] = ()
    """The screens there are, each with its key; whether it is the one shown."""


class FilterBar(Vertical):
    """One line when closed; a prompt with a line of feedback and a list of completions when open."""

    class Answered(Message):
        """Enter: the question and its answer."""

        def __init__(self, kind: str, text: str) -> None:
            super().__init__()
            self.kind = kind
            self.text = text

    class Left(Message):
        """Escape: nothing was answered."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("filter")]

    def __init__(self, look: Look, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.look = look
        self.question: Question | None = None
        self.shown = Shown()
        self._idle = _Line(id="filter-closed")
        self._input = Input(id="filter-input", select_on_focus=False, compact=True)
        self._feedback = _Line(id="filter-feedback")
        self._list = _Line(id="filter-list")
        self._completions: Sequence[Completion] = ()
        self._place = -1
        self._history_place = 0
        self._draft = ""
        self._edits = 0

    def compose(self) -> ComposeResult:
        """The closed line, and what opens below it."""
        yield self._idle
        yield self._input
        yield self._feedback
        yield self._list

    def on_mount(self) -> None:
        """Start closed."""
        self._show(open=False)

    # -- closed -------------------------------------------------------------------------------------------------

    def tell(self, shown: Shown) -> None:
        """Show this in the closed line."""
        if shown != self.shown:
            self.shown = shown
            self._idle.text = self._closed_text()
            self._idle.refresh()

    def _closed_text(self) -> Text:
        now, look = self.shown, self.look
        width = self.size.width
        notes = "".join(f"  {part}" for part in (now.count, now.where, now.hint) if part)
        shown = escape(f"({now.text}) off" if now.off else now.text) if now.text else "no filter"
        # What is known of the flows shown matters more than the end of a long filter.
        room = max(LEAST_FILTER, width - cell_len(notes) - len("/ "))
        text = Text("/ ", look.faint if not now.text else "", no_wrap=True, overflow="ellipsis")
        shown = fit(shown, min(room, cell_len(shown)), ellipsis=look.ellipsis)
        text.append(shown, look.faint if now.off or not now.text else "bold")
        text.append(notes, look.faint)
        room = width - text.cell_len - sum(len(screen) + 2 for screen, _ in now.screens)
        if room >= 0:
            text.append(" " * room)
            for screen, here in now.screens:
                text.append("  ")
                text.append(screen, "bold underline" if here else look.faint)
        return text

    def on_resize(self) -> None:
        """The screens stand at the right."""
        self._idle.text = self._closed_text()
        self._idle.refresh()

    # -- open ---------------------------------------------------------------------------------------------------

    def ask(self, question: Question) -> None:
        """Open the prompt."""
        self.question = question
        self._history_place = len(question.history)
        self._draft = question.value
        self._input.placeholder = question.placeholder
        self._input.value = question.value
        self._input.cursor_position = len(question.value)
        self._show(open=True)
        self._input.focus()
        if question.select:
            self._input.select_all()
        self._changed()

    def close(self) -> None:
        """Close the prompt."""
        self.question = None
        self._show(open=False)

    @property
    def text(self) -> str:
        """What is typed."""
        return self._input.value

    @property
    def feedback(self) -> str:
        """What is said about it."""
        return self._feedback.text.plain

    @property
    def completions(self) -> Sequence[Completion]:
        """What could stand here."""
        return self._completions

    def _show(self, *, open: bool) -> None:
        self._idle.display = not open
        self._input.display = open
        self._feedback.display = open
        self._list.display = False
        self._idle.text = self._closed_text()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Complete and check what was typed."""
        event.stop()
        self._changed()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """See action_submit."""
        event.stop()
        self.action_submit()

    def _changed(self) -> None:
        if self.question is None:
            return
        self._edits += 1
        self._place = -1
        self._completions = self.question.complete(self._input.value, self._input.cursor_position)
        self._draw_completions()
        edits = self._edits
        self.set_timer(SETTLE_S, lambda: self._check(edits))

    def _check(self, edits: int) -> None:
        """Say what is wrong or what would pass, unless more was typed; again until the count is final."""
        if self.question is None or edits != self._edits:
            return
        check = self.question.check(self._input.value)
        text = Text(no_wrap=True, overflow="ellipsis")
        if check.error:
            text.append(self._pointed(check.position, escape(check.error)), self.look.bad)
        else:
            text.append(check.note or self.question.label, self.look.faint)
        self._feedback.text = text
        self._feedback.styles.height = 1 + text.plain.count("\n")
        self._feedback.refresh()
        if not check.final:
            self.set_timer(SETTLE_S, lambda: self._check(edits))

    def _pointed(self, position: int, error: str) -> str:
        """A caret below the character that is meant, the error beside it; where that has no room, below."""
        before = cell_len(self._input.value[:position]) - int(self._input.scroll_offset.x)
        width, size = self.size.width, cell_len(error)
        place = min(max(before, 0), width - 1)
        if place + 2 + size <= width:
            return f"{' ' * place}^ {error}"
        if size + 1 <= place:
            return f"{error:>{place - 1}} ^"
        return "\n".join([" " * place + "^", *wrapped(error, width)])

    def _draw_completions(self) -> None:
        shown = list(self._completions)
        start = max(0, min(self._place - COMPLETIONS // 2, len(shown) - COMPLETIONS))
        lines = []
        width = max((len(one.shown) for one in shown), default=0) + 2
        for place, one in enumerate(shown[start : start + COMPLETIONS], start):
            style = "reverse" if place == self._place else ""
            size = min(width, 48)
            line = Text(f" {fit(escape(one.shown), size)}", style)
            line.append(fit(escape(one.note), max(0, self.size.width - size - 1)), style or self.look.faint)
            lines.append(line)
        self._list.text = Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
        self._list.styles.height = max(1, len(lines))
        self._list.display = bool(lines)
        self._list.refresh()

    # -- keys ---------------------------------------------------------------------------------------------------

    def action_complete(self) -> None:
        """Put the completion that is chosen, or the first, into the text."""
        if self._completions:
            one = self._completions[max(self._place, 0)]
            self._input.value = one.text
            self._input.cursor_position = one.cursor

    def action_older(self) -> None:
        """The completion above, or the filter before."""
        if self._place >= 0:
            self._place -= 1
            self._draw_completions()
        else:
            self._from_history(-1)

    def action_newer(self) -> None:
        """The filter after, or the completion below."""
        assert self.question is not None
        if self._history_place < len(self.question.history):
            self._from_history(1)
        elif self._completions:
            self._place = min(self._place + 1, len(self._completions) - 1)
            self._draw_completions()

    def _from_history(self, step: int) -> None:
        assert self.question is not None
        history = self.question.history
        if self._history_place == len(history):
            self._draft = self._input.value
        place = self._history_place + step
        if 0 <= place <= len(history):
            self._history_place = place
            self._input.value = history[place] if place < len(history) else self._draft
            self._input.cursor_position = len(self._input.value)

    def action_submit(self) -> None:
        """Answer: with the completion where one was chosen, else with the text."""
        if self.question is None:
            return
        if self._place >= 0:
            self.action_complete()
            return
        self.post_message(self.Answered(self.question.kind, self._input.value.strip()))

    def action_leave(self) -> None:
        """Close without an answer."""
        self.post_message(self.Left())


class _Line(Widget):
    """A widget that shows a text."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.text = Text()

    def render(self) -> Text:
        """The text."""
        return self.text
