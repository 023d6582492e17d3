"""The flow table: a virtual table over Textual's Line API, so that a page costs the same in a ring of a million.

It shows `Rows` (matches.py), oldest first. The cursor is a sequence number, so it stays on its flow when rows come and
leave. It follows the tail until somebody moves up, and follows again from the last row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.columns import GUTTER, Column, fit, layout
from tui.keys import bindings
from tui.look import Look
from tui.matches import Rows
from tui.view import FlowView
from tui.widgets.flow_lines import NARROW, FlowLines

SIDEWAYS: Final = 120
"""Cells by which the table gets wider once it is scrolled sideways."""
STRIPS_KEPT: Final = 512
"""Drawn lines that are kept: while the tail moves, most lines only change their place."""


class FlowTable(ScrollView, can_focus=True):
    """The flows of one view, one line each, under a header line."""

    class Moved(Message):
        """The cursor stands on another flow, or following began or ended."""

    class Chosen(Message):
        """Enter, or a click on the row under the cursor: show its detail."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"flow-table--header", "flow-table--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [
        binding
        for binding in bindings("flows")
        if binding.action.partition("(")[0]
        in ("move", "move_page", "oldest", "follow", "toggle_follow", "column", "sideways", "choose")
    ]

    def __init__(self, view: FlowView, rows: Rows, look: Look, *, why_empty: Callable[[], str], id: str) -> None:
        super().__init__(id=id)
        self.view = view
        self.rows = rows
        self.following = True
        self.cursor = -1
        """Sequence number of the flow under the cursor; -1 while there is none."""
        self.column = "source"
        """The column under the cursor."""
        self.new = 0
        """Rows that came since it stopped following."""
        self.marks: set[int] = set()
        self.lines = FlowLines(look)
        """How flows are drawn."""
        self._chosen: tuple[str, ...] = ()
        self._why_empty = why_empty
        self._strips: dict[int, Strip] = {}
        self._base = self._under = Style.null()
        self._columns: list[tuple[Column, int]] = []
        self._columns_for: tuple[int, tuple[str, ...]] = (-1, ())

    # -- what is shown ------------------------------------------------------------------------------------------

    def show(self, view: FlowView, rows: Rows, *, at: int | None = None) -> None:
        """Show other rows: from their tail on, or with the cursor on or behind the sequence number `at`."""
        if view is not self.view:
            self.marks = set()
        self.view = view
        self.rows = rows
        self.following = at is None
        self.new = 0
        self.cursor = -1
        rows.advance()
        self._measure()
        if len(rows):
            self._set_cursor(rows.at(len(rows) - 1 if at is None else min(rows.row(at), len(rows) - 1)))
        self.redraw()

    def appear(
        self,
        *,
        look: Look | None = None,
        time: str | None = None,
        columns: Sequence[str] | None = None,
        needle: str | None = None,
    ) -> None:
        """Change how rows look: theme, how times are written, which columns, what is highlighted."""
        lines = self.lines
        lines.look = lines.look if look is None else look
        lines.time = lines.time if time is None else time
        lines.needle = lines.needle if needle is None else needle.lower()
        self._chosen = self._chosen if columns is None else tuple(columns)
        self.redraw()

    def redraw(self) -> None:
        """Draw every line anew."""
        self._strips.clear()
        self.refresh()

    def advance(self) -> bool:
        """Take note of what came and went since the last call; say whether anything did."""
        change = self.rows.advance()
        if not any(change):
            return False
        self._measure()
        if self.following:
            self._set_cursor(self.rows.at(len(self.rows) - 1) if len(self.rows) else -1)
        else:
            self.new += change.after
            # The same flows stay at the same place of the screen.
            moved = change.before - change.gone
            if moved:
                self.scroll_to(y=max(0, self.scroll_offset.y + moved), animate=False, force=True)
            if len(self.rows) and self.rows.at(0) > self.cursor:
                self._set_cursor(self.rows.at(0))
        self.refresh()
        return True

    def shown_columns(self) -> list[tuple[Column, int]]:
        """The columns of this width, each with its width."""
        key = (self.scrollable_content_region.width + (SIDEWAYS if self.lines.sideways else 0), self._chosen)
        if key != self._columns_for:
            self._columns, self._columns_for = layout(*key), key
            self._strips.clear()
        return self._columns

    def on_screen(self) -> list[int]:
        """The sequence numbers on the screen, from top to bottom."""
        first = self.scroll_offset.y
        return [self.rows.at(row) for row in range(first, min(first + self._page(), len(self.rows)))]

    def text(self, sequence: int) -> str:
        """The line of a flow as text."""
        row = self.view.row(sequence)
        if row is None:
            return ""
        return "  ".join(filter(None, (self.lines.cell(row, column.field) for column, _ in self.shown_columns())))

    def render_lines(self, crop: Region) -> list[Strip]:
        """See Widget; the styles are asked for once a paint, not once a line: that took a third of it."""
        self._base = self.rich_style
        self._under = self._base + self.get_component_rich_style("flow-table--cursor")
        self.view.fetch(self.on_screen())
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """One line of the screen: the header, or the flow that the scroll position puts there."""
        width = self.scrollable_content_region.width
        columns = self.shown_columns()
        if y == 0:
            style = self.get_component_rich_style("flow-table--header")
            return self.lines.header(columns, width, style, self.column if self.has_focus else "")
        place = self.scroll_offset.y + y - 1
        if place >= len(self.rows):
            if y == 2 and not len(self.rows):
                why = fit("  " + self._why_empty(), width, ellipsis=self.lines.look.ellipsis)
                return Strip([Segment(why, self._base + self.lines.look.faint)], width)
            return Strip.blank(width, self._base)
        sequence = self.rows.at(place)
        if sequence != self.cursor:
            strip = self._strips.get(sequence)
            if strip is not None:
                return strip
        row = self.view.row(sequence)
        if row is None:
            return Strip.blank(width, self._base)
        delta = self.lines.time == "delta"
        before = self.view.row(self.rows.at(place - 1)) if delta and place else None
        chosen = sequence == self.cursor
        strip = self.lines.line(
            row,
            before,
            columns,
            width,
            self._under if chosen else self._base,
            chosen=self.column if chosen else "",
            marked=sequence in self.marks,
        )
        if not chosen and not delta:
            if len(self._strips) >= STRIPS_KEPT:
                self._strips.clear()
            self._strips[sequence] = strip
        return strip

    # -- moving -------------------------------------------------------------------------------------------------

    def go(self, sequence: int) -> None:
        """Put the cursor on a flow that is shown, and stay there."""
        self.pause()
        self._set_cursor(sequence)

    def pause(self) -> None:
        """Stop following."""
        if self.following:
            self.following = False
            self.new = 0
            self.post_message(self.Moved())

    def action_move(self, rows: int) -> None:
        """Move the cursor; up pauses, reaching the last row follows again."""
        if not len(self.rows):
            return
        here = self.rows.row(self.cursor)
        target = min(max(here + rows, 0), len(self.rows) - 1)
        if rows > 0 and target == len(self.rows) - 1:
            self.action_follow()
            return
        self.go(self.rows.at(target))

    def action_move_page(self, pages: int) -> None:
        """Move by what fits on the screen."""
        self.action_move(pages * max(1, self._page() - 1))

    def action_oldest(self) -> None:
        """Go to the oldest flow that is held."""
        self.action_move(-len(self.rows))

    def action_follow(self) -> None:
        """Go to the newest flow and stay there."""
        self.following = True
        self.new = 0
        if len(self.rows):
            self._set_cursor(self.rows.at(len(self.rows) - 1))
        self.refresh()

    def action_toggle_follow(self) -> None:
        """Hold the screen still, or return to live."""
        if self.following:
            self.pause()
            self.refresh()
        else:
            self.action_follow()

    def action_choose(self) -> None:
        """Ask for the detail of the flow under the cursor."""
        if self.cursor >= 0:
            self.pause()
            self.post_message(self.Chosen())

    def action_column(self, columns: int) -> None:
        """Move the column cursor; the column is brought into sight."""
        shown = self.shown_columns()
        fields = [column.field for column, _ in shown]
        here = fields.index(self.column) if self.column in fields else 0
        here = min(max(here + columns, 0), len(fields) - 1)
        self.column = fields[here]
        if self.lines.sideways:
            start = GUTTER + sum(size + 1 for _, size in shown[:here])
            width = self.scrollable_content_region.width
            self.lines.sideways = min(max(self.lines.sideways, start + shown[here][1] - width), start, SIDEWAYS)
        self.redraw()

    def action_sideways(self, cells: int) -> None:
        """Scroll sideways: the table gets wider, so that more of long cells is seen."""
        self.lines.sideways = min(max(self.lines.sideways + cells, 0), SIDEWAYS)
        self.redraw()

    def on_mount(self) -> None:
        """The scroll bar's signs are the look's."""
        self.vertical_scrollbar.renderer = self.lines.look.scroll_bar  # type: ignore[misc]

    def on_resize(self) -> None:
        """Keep the cursor on the screen when the detail opens or the terminal changes."""
        self._strips.clear()
        self.lines.narrow = self.size.width < NARROW
        self._measure()
        self._show_cursor()

    def on_focus(self) -> None:
        """The column cursor shows only where keys go."""
        self.redraw()

    def on_blur(self) -> None:
        """See on_focus."""
        self.redraw()

    def on_click(self, event: Click) -> None:
        """Move both cursors to the cell; on the cursor's own row, open its detail."""
        x = event.x + self.lines.sideways - GUTTER
        for column, size in self.shown_columns():
            if 0 <= x <= size:
                self.column = column.field
            x -= size + 1
        place = self.scroll_offset.y + event.y - 1
        if event.y == 0 or place >= len(self.rows):
            self.redraw()
            return
        sequence = self.rows.at(place)
        if sequence == self.cursor and not self.following:
            self.action_choose()
            return
        self.go(sequence)

    def on_mouse_scroll_up(self) -> None:
        """Scrolling up pauses, like moving up."""
        self.pause()

    def on_mouse_scroll_down(self) -> None:
        """Scrolling down to the end follows again: the wheel means it, a table made smaller does not."""
        if self.scroll_y + self.app.scroll_sensitivity_y >= self.max_scroll_y:
            self.action_follow()

    def watch_scroll_y(self, old: float, new: float) -> None:
        """The mouse takes the cursor along."""
        super().watch_scroll_y(old, new)
        if self.following or not len(self.rows):
            return
        here, first, page = self.rows.row(self.cursor), int(new), self._page()
        if not first <= here < first + page:
            self.cursor = self.rows.at(min(max(here, first), first + page - 1, len(self.rows) - 1))
            self.post_message(self.Moved())
            self.refresh()

    def _page(self) -> int:
        """How many rows the screen has room for."""
        return max(1, self.size.height - 1)

    def _measure(self) -> None:
        # One more: the header hides the first line of what is scrolled.
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.rows) + 1)

    def _set_cursor(self, sequence: int) -> None:
        if sequence != self.cursor:
            self._strips.pop(self.cursor, None)
            self.cursor = sequence
            self.post_message(self.Moved())
        self._show_cursor()
        self.refresh()

    def _show_cursor(self) -> None:
        if self.cursor >= 0 and len(self.rows):
            # The header hides one line of what the scroll position shows.
            region = Region(0, self.rows.row(self.cursor), 1, 2)
            self.scroll_to_region(region, animate=False, force=True, x_axis=False)
