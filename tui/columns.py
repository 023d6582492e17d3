"""The columns of the flow table: which there are, how wide each is at a terminal's width, and how a text is fitted.

Knows no flows and no textual.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size

ELLIPSIS: Final = "…"


class Column(NamedTuple):
    """A column of the table: its cell's field in Row, width in cells (0: shares what is left), and from which
    terminal width on it is shown."""

    field: str
    title: str
    width: int
    share: int
    from_width: int


COLUMNS: Final = (
    Column("time", "TIME", 12, 0, 0),
    Column("node", "NODE", 14, 0, 160),
    Column("source", "SOURCE", 16, 3, 0),
    Column("arrow", "", 2, 0, 0),
    Column("destination", "DESTINATION", 16, 3, 0),
    Column("type", "TYPE", 17, 0, 140),
    Column("verdict", "VERDICT", 11, 0, 0),
    Column("latency", "LATENCY", 8, 0, 100),
    Column("summary", "SUMMARY", 12, 6, 0),
)
"""In the order shown; narrow terminals leave some out, the rest share the room."""


def layout(width: int) -> list[tuple[Column, int]]:
    """The columns that a terminal of `width` cells shows, each with its width; one cell lies between two columns."""
    shown = [column for column in COLUMNS if width >= column.from_width]
    room = max(0, width - sum(column.width for column in shown) - (len(shown) - 1))
    shares = sum(column.share for column in shown)
    widths = []
    for column in shown:
        extra = room * column.share // shares
        widths.append((column, column.width + extra))
    left = room - sum(given - column.width for column, given in widths)
    return [(column, given + (left if column.field == "summary" else 0)) for column, given in widths]


def fit(text: str, width: int, *, middle: bool = False) -> str:
    """Cut or pad `text` to exactly `width` cells; `middle` keeps both ends, as a pod's name and port want it."""
    if len(text) > 4 * width:  # a URL of the network's may be very long, and every repaint comes here
        text = text[: 2 * width] + text[-2 * width :]
    if cell_len(text) <= width or width < 2:
        return set_cell_size(text, width)
    if not middle or width < 6:
        return set_cell_size(text, width - 1) + ELLIPSIS
    tail = (width - 1) // 2
    end = ""
    for char in reversed(text):
        if cell_len(char + end) > tail:
            break
        end = char + end
    return set_cell_size(text, width - 1 - cell_len(end)) + ELLIPSIS + end
