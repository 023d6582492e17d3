"""The flow table: a virtual table over Textual's Line API, so that a page costs the same in a ring of a million.

Row 0 is the oldest flow that the ring holds; the cursor is a sequence number, so it stays on its flow when rows leave.
It follows the tail until somebody moves up, and follows again from the last row.
"""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.columns import Column, fit, layout
from tui.view import FlowView, Row

VERDICT_STYLES = {
    "FORWARDED": Style(color="green"),
    "REDIRECTED": Style(color="green"),
    "DROPPED": Style(color="red", bold=True),
    "ERROR": Style(color="red", bold=True),
    "AUDIT": Style(color="yellow"),
}
ENDS = ("source", "destination")


class FlowTable(ScrollView, can_focus=True):
    """The flows of one view, one line each, under a header line."""

    class Moved(Message):
        """The cursor stands on another flow, or following began or ended."""

    class Chosen(Message):
        """Enter, or a click on the row under the cursor: show its detail."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"flow-table--header", "flow-table--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "move_page(-1)", "Page up", show=False),
        Binding("pagedown", "move_page(1)", "Page down", show=False),
        Binding("home,g", "oldest", "Oldest", show=False),
        Binding("end,G", "follow", "Live", key_display="G"),
        Binding("space", "toggle_follow", "Pause"),
        Binding("enter", "choose", "Detail"),
    ]

    def __init__(self, view: FlowView, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.view = view
        self.following = True
        self.cursor = -1
        """Sequence number of the flow under the cursor; -1 while there is none."""
        self.paused_next = 0
        self._first = 0
        self._next = 0

    # -- what is shown ------------------------------------------------------------------------------------------

    def show(self, view: FlowView) -> None:
        """Show another view from its tail on (the filter changed)."""
        self.view = view
        self.cursor = -1
        self.following = True
        self._first = self._next = 0
        self.advance()

    def advance(self) -> bool:
        """Take note of what came and went in the ring since the last call; say whether anything did."""
        first, following = self.view.store.first, self.view.store.next
        if (first, following) == (self._first, self._next):
            return False
        gone = first - self._first
        self._first, self._next = first, following
        self.virtual_size = Size(self.scrollable_content_region.width, self._next - self._first + 1)
        if self.following:
            self._set_cursor(self._next - 1)
        else:
            # Rows left at the top: the same flows stay at the same place of the screen.
            self.scroll_to(y=max(0, self.scroll_offset.y - gone), animate=False, force=True)
            if self.cursor < self._first:
                self._set_cursor(self._first)
        self.refresh()
        return True

    @property
    def new(self) -> int:
        """How many flows came since it stopped following."""
        return 0 if self.following else max(0, self._next - self.paused_next)

    def render_line(self, y: int) -> Strip:
        """One line of the screen: the header, or the flow that the scroll position puts there."""
        width = self.scrollable_content_region.width
        columns = layout(width)
        if y == 0:
            titles = " ".join(fit(column.title, size) for column, size in columns)
            return Strip([Segment(titles, self.get_component_rich_style("flow-table--header"))], width)
        sequence = self._first + self.scroll_offset.y + y - 1
        row = self.view.row(sequence) if sequence < self._next else None
        if row is None:
            return Strip.blank(width, self.rich_style)
        base = self.rich_style
        if sequence == self.cursor:
            base += self.get_component_rich_style("flow-table--cursor")
        return Strip(_segments(row, columns, base, plain=sequence == self.cursor), width).adjust_cell_length(
            width, base
        )

    # -- moving -------------------------------------------------------------------------------------------------

    def action_move(self, rows: int) -> None:
        """Move the cursor; up pauses, reaching the last row follows again."""
        if self._next == self._first:
            return
        target = min(max(self.cursor + rows, self._first), self._next - 1)
        if rows > 0 and target == self._next - 1:
            self.action_follow()
            return
        self._pause()
        self._set_cursor(target)

    def action_move_page(self, pages: int) -> None:
        """Move by what fits on the screen."""
        self.action_move(pages * max(1, self.size.height - 2))

    def action_oldest(self) -> None:
        """Go to the oldest flow that the ring holds."""
        self.action_move(self._first - self._next)

    def action_follow(self) -> None:
        """Go to the newest flow and stay there."""
        self.following = True
        self._set_cursor(self._next - 1)
        self.refresh()

    def action_toggle_follow(self) -> None:
        """Hold the screen still, or return to live."""
        if self.following:
            self._pause()
            self.refresh()
            self.post_message(self.Moved())
        else:
            self.action_follow()

    def action_choose(self) -> None:
        """Ask for the detail of the flow under the cursor."""
        if self.cursor >= 0:
            self._pause()
            self.post_message(self.Chosen())

    def on_resize(self) -> None:
        """Keep the cursor on the screen when the detail opens or the terminal changes."""
        self.virtual_size = Size(self.scrollable_content_region.width, self._next - self._first + 1)
        self._show_cursor()

    def on_click(self, event: Click) -> None:
        """Move the cursor to the row; on the cursor's own row, open its detail."""
        if event.y == 0:
            return
        sequence = self._first + self.scroll_offset.y + event.y - 1
        if sequence >= self._next:
            return
        if sequence == self.cursor and not self.following:
            self.action_choose()
            return
        self._pause()
        self._set_cursor(sequence)

    def on_mouse_scroll_up(self) -> None:
        """Scrolling up pauses, like moving up."""
        self._pause()

    def watch_scroll_y(self, old: float, new: float) -> None:
        """Scrolling back to the end by mouse follows again."""
        super().watch_scroll_y(old, new)
        if new > old and not self.following and new >= self.max_scroll_y and self.cursor >= self._next - 1:
            self.action_follow()

    def _pause(self) -> None:
        if self.following:
            self.following = False
            self.paused_next = self._next

    def _set_cursor(self, sequence: int) -> None:
        self.cursor = sequence
        self._show_cursor()
        self.refresh()
        self.post_message(self.Moved())

    def _show_cursor(self) -> None:
        if self.cursor >= 0:
            # The header hides one line of what the scroll position shows.
            region = Region(0, self.cursor - self._first, 1, 2)
            self.scroll_to_region(region, animate=False, force=True, x_axis=False)


def _segments(row: Row, columns: list[tuple[Column, int]], base: Style, *, plain: bool) -> list[Segment]:
    segments = []
    for column, size in columns:
        name = column.field
        style = base
        if name == "verdict" and not plain:
            style = base + VERDICT_STYLES.get(row.verdict_name, Style.null())
        segments.append(Segment(fit(getattr(row, name), size, middle=name in ENDS), style))
        segments.append(Segment(" ", base))
    return segments[:-1]
