"""How a flow is drawn in one line of the table: its cells fitted to the columns, styled, what is searched for marked.

Rows of text and columns enter, strips of exactly the width leave. Knows no store, no scrolling and no cursor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tui.columns import GUTTER, Column, fit
from tui.look import Look
from tui.view import Row, clock, delta

NARROW: Final = 100
"""Below this width the ports of clients, which say little, give their room to the names."""
MIDDLE: Final = ("source", "destination", "node", "policy")
"""Cells that are cut in the middle: both ends of a pod's name tell something."""

_HERE: Final = Style(underline=True, bold=True)
_PLAIN: Final = Style.null()


class FlowLines:
    """What lines look like, now."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.time = "utc"
        self.needle = ""
        """What is searched for, in small letters."""
        self.sideways = 0
        """Cells that are scrolled out at the left."""
        self.narrow = False

    def cell(self, row: Row, field: str, before: Row | None = None) -> str:
        """What stands in one cell."""
        if field == "time":
            if self.time == "delta":
                return delta(row.time_ns - before.time_ns) if before is not None else delta(0)
            return clock(row.time_ns, local=self.time == "local")
        if field == "verdict":
            return f"{self.look.signs.get(row.verdict, '?')} {row.verdict}"
        if field == "source" and self.narrow:
            return without_port(row.source)
        return str(getattr(row, field))

    def header(self, columns: Sequence[tuple[Column, int]], width: int, style: Style, chosen: str) -> Strip:
        """The titles of the columns; that of the one `chosen` reversed."""
        pieces = [(" " * GUTTER, style)]
        for column, size in columns:
            here = style + Style(reverse=True) if column.field == chosen else style
            pieces += [(fit(column.title, size, ellipsis=""), here), (" ", style)]
        return self._strip(pieces, columns, width, style)

    def line(
        self,
        row: Row,
        before: Row | None,
        columns: Sequence[tuple[Column, int]],
        width: int,
        base: Style,
        *,
        chosen: str,
        marked: bool,
    ) -> Strip:
        """A flow; `chosen` is the column of the cursor where the cursor is in this line, `before` the flow above."""
        look = self.look
        pieces = [(look.mark, base + look.odd)] if marked else [(" " * GUTTER, base)]
        for column, size in columns:
            field = column.field
            style = base
            if chosen:
                if field == chosen:
                    style = base + _HERE
            elif field == "verdict":
                style = base + look.verdicts.get(row.verdict, _PLAIN)
            text = fit(self.cell(row, field, before), size, middle=field in MIDDLE, ellipsis=look.ellipsis)
            if self.needle and self.needle in text.lower():
                pieces += self._highlighted(text, style)
            else:
                pieces.append((text, style))
            pieces.append((" ", base))
        return self._strip(pieces, columns, width, base)

    def _highlighted(self, text: str, style: Style) -> list[tuple[str, Style]]:
        """The text, with what is searched for standing out."""
        out, start, lower, size = [], 0, text.lower(), len(self.needle)
        while len(lower) == len(text) and (found := lower.find(self.needle, start)) >= 0:
            out += [(text[start:found], style), (text[found : found + size], style + self.look.found)]
            start = found + size
        return [*out, (text[start:], style)]

    def _strip(
        self, pieces: Sequence[tuple[str, Style]], columns: Sequence[tuple[Column, int]], width: int, base: Style
    ) -> Strip:
        """Pieces as a strip of exactly `width` cells; neighbours of one style become one: fewer bytes to a terminal."""
        segments: list[Segment] = []
        texts: list[str] = []
        last = pieces[0][1]
        for text, style in pieces:
            if style is not last:
                segments.append(Segment("".join(texts), last))
                texts, last = [], style
            texts.append(text)
        segments.append(Segment("".join(texts), last))
        # Every cell was fitted, so the length is known: to measure it took a quarter of a paint.
        strip = Strip(segments, GUTTER + sum(size + 1 for _, size in columns))
        if self.sideways:
            strip = strip.crop(self.sideways, self.sideways + width)
        return strip.adjust_cell_length(width, base)


def without_port(host: str) -> str:
    """A host without the port behind it; an IPv6 address has colons of its own, and brackets if a port follows."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and (":" not in name or name.endswith("]")) else host
