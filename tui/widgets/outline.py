"""A list of lines with a cursor, branches that open and close, and a header: Top, Map, Nodes, details, conversations.

Items enter as often as they change; the cursor and what is closed go by the items' keys, so both stay where they were.
Drawn over the Line API: only what is seen costs anything.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.columns import fit
from tui.keys import bindings
from tui.look import Look


class Item(NamedTuple):
    """One line: what it is (`key`), how deep it stands, and its text in pieces, each with its style."""

    key: Hashable
    depth: int
    pieces: Sequence[tuple[str, Style]]


class Outline(ScrollView, can_focus=True):
    """Items, one line each, under a header line if there is one."""

    class Moved(Message):
        """The cursor stands on another item."""

        def __init__(self, outline: Outline) -> None:
            super().__init__()
            self.outline = outline

        @property
        def control(self) -> Outline:
            """Whose it is."""
            return self.outline

    class Chosen(Moved):
        """Enter, or a click on the line under the cursor."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"outline--header", "outline--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("list")]

    def __init__(self, look: Look, *, header: str = "", closed: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.header = header
        self.cursor: Hashable = None
        """The key of the item under the cursor."""
        self.look = look
        self._starts_closed = closed
        self._toggled: set[Hashable] = set()
        self._items: Sequence[Item] = ()
        self._shown: list[int] = []
        self._branches: set[Hashable] = set()
        self._empty = ""

    # -- what is shown ------------------------------------------------------------------------------------------

    def show(self, items: Sequence[Item], *, empty: str = "", home: bool = False) -> None:
        """Show these items, or why there are none; `home` puts the cursor on the first."""
        self._items = items
        self._empty = empty
        self._branches = {item.key for item, after in pairwise(items) if after.depth > item.depth}
        if home:
            self.cursor = items[0].key if items else None
            self.scroll_home(animate=False)
        self._arrange()

    @property
    def items(self) -> list[Item]:
        """The items that are not within a closed branch, in order."""
        return [self._items[place] for place in self._shown]

    def is_open(self, key: Hashable) -> bool:
        """Whether a branch shows what is in it."""
        return (key in self._toggled) == self._starts_closed

    def _arrange(self) -> None:
        shown, hidden_below = [], None
        for place, item in enumerate(self._items):
            if hidden_below is not None and item.depth > hidden_below:
                continue
            hidden_below = item.depth if item.key in self._branches and not self.is_open(item.key) else None
            shown.append(place)
        self._shown = shown
        if shown and self._row() is None:
            self.cursor = self._items[shown[0]].key
        self.virtual_size = Size(self.scrollable_content_region.width, len(shown) + bool(self.header))
        self.refresh()

    def _row(self) -> int | None:
        for row, place in enumerate(self._shown):
            if self._items[place].key == self.cursor:
                return row
        return None

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        width = self.scrollable_content_region.width
        base = self.rich_style
        if self.header and y == 0:
            style = self.get_component_rich_style("outline--header")
            return Strip([Segment(fit(self.header, width, ellipsis=self.look.ellipsis), style)], width)
        row = self.scroll_offset.y + y - bool(self.header)
        if row >= len(self._shown):
            if y == 1 and not self._shown:
                return Strip([Segment(fit(f"  {self._empty}", width), base + self.look.faint)], width)
            return Strip.blank(width, base)
        item = self._items[self._shown[row]]
        chosen = item.key == self.cursor and self.has_focus
        if chosen:
            base += self.get_component_rich_style("outline--cursor")
        sign = " "
        if item.key in self._branches:
            sign = self.look.opened if self.is_open(item.key) else self.look.closed
        segments = [Segment("  " * item.depth + (f"{sign} " if self._branches else ""), base)]
        for text, style in item.pieces:
            # Reversed colours of their own would be coloured blocks in the cursor's line.
            segments.append(Segment(text, base + (Style(bold=style.bold) if chosen else style)))
        strip = Strip(segments)
        if strip.cell_length > width:
            strip = Strip([*strip.crop(0, width - 1), Segment(self.look.ellipsis, base)])
        return strip.adjust_cell_length(width, base)

    # -- moving -------------------------------------------------------------------------------------------------

    def action_move(self, rows: int) -> None:
        """Move the cursor."""
        if not self._shown:
            return
        row = min(max((self._row() or 0) + rows, 0), len(self._shown) - 1)
        self._set_cursor(row)

    def action_move_page(self, pages: int) -> None:
        """Move by what fits on the screen."""
        self.action_move(pages * max(1, self.size.height - 2))

    def action_first(self) -> None:
        """Go to the first line."""
        self.action_move(-len(self._shown))

    def action_last(self) -> None:
        """Go to the last line."""
        self.action_move(len(self._shown))

    def action_branch(self, open: bool) -> None:
        """Open or close the branch under the cursor; closing what is none goes to the branch that holds it."""
        row = self._row()
        if row is None:
            return
        item = self._items[self._shown[row]]
        if item.key in self._branches and self.is_open(item.key) != open:
            self._toggled ^= {item.key}
            self._arrange()
        elif not open:
            while row and self._items[self._shown[row]].depth >= item.depth:
                row -= 1
            if self._items[self._shown[row]].depth < item.depth:
                self._set_cursor(row)

    def toggle(self) -> None:
        """Open or close the branch under the cursor."""
        if self.cursor in self._branches:
            self.action_branch(not self.is_open(self.cursor))

    def action_choose(self) -> None:
        """Tell that the item under the cursor was chosen."""
        if self._shown:
            self.post_message(self.Chosen(self))

    def on_click(self, event: Click) -> None:
        """Move the cursor to the line; choose it where the cursor was there."""
        row = self.scroll_offset.y + event.y - bool(self.header)
        if not 0 <= row < len(self._shown) or (self.header and event.y == 0):
            return
        if self._items[self._shown[row]].key == self.cursor:
            self.action_choose()
        else:
            self._set_cursor(row)

    def on_mount(self) -> None:
        """The scroll bar's signs are the look's."""
        self.vertical_scrollbar.renderer = self.look.scroll_bar  # type: ignore[misc]

    def on_resize(self) -> None:
        """Keep the cursor on the screen."""
        self._arrange()
        self._show(self._row() or 0)

    def on_focus(self) -> None:
        """The cursor shows only where keys go."""
        self.refresh()

    def on_blur(self) -> None:
        """See on_focus."""
        self.refresh()

    def _set_cursor(self, row: int) -> None:
        self.cursor = self._items[self._shown[row]].key
        self._show(row)
        self.refresh()
        self.post_message(self.Moved(self))

    def _show(self, row: int) -> None:
        region = Region(0, row, 1, 1 + bool(self.header))
        self.scroll_to_region(region, animate=False, force=True, x_axis=False)
