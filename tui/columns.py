"""The columns of the flow table: which there are, how wide each is at a terminal's width, and how a text is fitted.

Knows no flows and no textual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size

ELLIPSIS: Final = "…"


class Column(NamedTuple):
    """A column of the table: its cell's field in Row, width in cells (0: shares what is left), and from which
    terminal width on it is shown unless it was chosen; `help` is what the chooser says."""

    field: str
    title: str
    width: int
    share: int
    from_width: int
    help: str


NEVER: Final = 1 << 16
"""A width that no terminal has: only shown where chosen."""
GUTTER: Final = 1
"""Cells before the first column: for the marks."""
LEAST: Final = 20
"""Cells that the columns chosen may be squeezed into before the last of them are left out."""

COLUMNS: Final = (
    Column("time", "TIME", 12, 0, 0, "when it was seen; t changes how it is written"),
    Column("node", "NODE", 14, 0, 158, "the node that saw it"),
    Column("source", "SOURCE", 16, 3, 0, "who began: pod, service, name or address, with port"),
    Column("arrow", "", 2, 0, 0, "-> request, <- reply, <> not known"),
    Column("destination", "DESTINATION", 16, 3, 0, "whom they spoke to"),
    Column("protocol", "PROTO", 8, 0, 110, "HTTP/1.1, gRPC, DNS ..., else TCP, UDP, ICMP"),
    Column("type", "TYPE", 17, 0, 148, "the event: http-request, to-endpoint, Policy denied ..."),
    Column("verdict", "VERDICT", 11, 0, 0, "what became of it"),
    Column("latency", "LATENCY", 7, 0, 100, "of a response: since its request"),
    Column("policy", "POLICY", 24, 1, NEVER, "the policy that decided"),
    Column("direction", "DIRECTION", 9, 0, NEVER, "ingress or egress, as policy sees it"),
    Column("identity", "IDENTITIES", 22, 0, NEVER, "security identities of both ends"),
    Column("summary", "SUMMARY", 12, 6, 0, "what was said: method and path, query, topic, TCP flags"),
)
"""In the order shown; narrow terminals leave some out, the rest share the room."""

BY_FIELD: Final = {column.field: column for column in COLUMNS}


def layout(width: int, chosen: Sequence[str] = ()) -> list[tuple[Column, int]]:
    """The columns that a terminal of `width` cells shows, each with its width; one cell lies between two columns.

    Chosen columns are shown in their order, as many as fit; without a choice the width decides which there are.
    """
    width -= GUTTER
    if chosen:
        shown = [BY_FIELD[name] for name in chosen]
        while len(shown) > 1 and sum(column.width for column in shown) + len(shown) - 1 > max(width, LEAST):
            shown.pop()
    else:
        shown = [column for column in COLUMNS if width + GUTTER >= column.from_width]
    room = max(0, width - sum(column.width for column in shown) - (len(shown) - 1))
    shares = sum(column.share for column in shown)
    if not shares:
        return [(column, column.width) for column in shown]
    widths = [(column, column.width + room * column.share // shares) for column in shown]
    left = room - sum(given - column.width for column, given in widths)
    last = max(place for place, column in enumerate(shown) if column.share)
    return [(column, given + (left if place == last else 0)) for place, (column, given) in enumerate(widths)]


def fit(text: str, width: int, *, middle: bool = False, ellipsis: str = ELLIPSIS) -> str:
    """Cut or pad `text` to exactly `width` cells; `middle` keeps both ends, as a pod's name and port want it."""
    text = cut(text, 4 * width)
    if cell_len(text) <= width or width < 2:
        return set_cell_size(text, width)
    if not middle or width < 6:
        return set_cell_size(text, width - 1) + ellipsis
    tail = (width - 1) // 2
    end = ""
    for char in reversed(text):
        if cell_len(char + end) > tail:
            break
        end = char + end
    return set_cell_size(text, width - 1 - cell_len(end)) + ellipsis + end


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a text in `width` cells, broken at blanks where there are any: none of it is lost."""
    lines = []
    start, width = 0, max(width, 1)
    while len(text) - start > width or cell_len(text[start:]) > width:
        part = text[start : start + width + 1]
        head = part[:width]
        while (over := cell_len(head) - width) > 0 and len(head) > 1:  # one letter at least; of two cells at most
            head = head[: max(1, len(head) - (over + 1) // 2)]
        blank = head.rfind(" ") if part[len(head) : len(head) + 1] != " " else len(head)
        end = blank if blank > 0 else len(head)
        lines.append(head[:end].rstrip(" "))
        start += end
        while text[start : start + 1] == " ":
            start += 1
    return [*lines, text[start:]]


def cut(text: str, length: int) -> str:
    """At most `length` characters, from both ends: a URL of the network's may be very long."""
    return text if len(text) <= length else text[: length // 2] + text[-(length // 2) :]
