"""Top: what there is most of, by any fields; flows a second, bytes, errors, latency, and how it went over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from rich.cells import cell_len
from rich.style import Style
from textual.binding import BindingType
from textual.message import Message

from tui import aggregate
from tui.aggregate import DEFAULT_FIELDS, FIELDS, SORTS, Group, Shown, Top
from tui.columns import fit
from tui.look import Look
from tui.matches import Rows
from tui.screens.summed import SummedPane, keys_of
from tui.view import duration
from tui.widgets.outline import Item, Outline

FIGURES: Final = (("flows/s", 9), ("bytes", 9), ("errors", 9), ("p50", 8), ("p95", 8), ("p99", 8))
"""What stands beside the names, and in how many cells."""
NARROW: Final = ("p50", "p99")
"""Figures that narrow screens leave out."""
WIDE: Final = 100
"""Cells from which on there is room for all, and for sparklines."""


class TopPane(SummedPane):
    """The groups."""

    class GroupBy(Message):
        """Ask for the fields."""

    BINDINGS: ClassVar[list[BindingType]] = keys_of("top")

    def __init__(self, rows: Callable[[], Rows], look: Look, *, fields: list[str], sort: str) -> None:
        super().__init__(rows, look, id="top")
        self.fields = [field for field in fields if field in FIELDS] or list(DEFAULT_FIELDS)
        self.sort = sort if sort in SORTS else next(iter(SORTS))
        self.groups: list[Group] = []
        self._sizes: list[int] = []

    def add(self, shown: Shown) -> Top:
        """Group."""
        return aggregate.top(shown, tuple(self.fields), self.sort)

    def show(self, sums: Any) -> None:
        """One line a group."""
        self.groups = sums.groups
        figures = self._figures()
        width = max(
            20, self.size.width - sum(size for _, size in figures) - (aggregate.BUCKETS + 3 if self._wide else 2)
        )
        titles = [name.upper() for name in self.fields]
        texts = zip(titles, *(group.names for group in self.groups), strict=True)
        self._sizes = shares([max(map(cell_len, column)) for column in texts], width)
        names = [fit(name, size, ellipsis=self.look.ellipsis) for name, size in zip(titles, self._sizes, strict=True)]
        heads = [f"{self._marked(name):>{size}}" for name, size in figures]
        self.outline.header = f"{' '.join(names)} {''.join(heads)}"
        self.title(
            f"by {', '.join(self.fields)}, sorted by {self.sort}: {self.over(sums.flows, sums.seconds, sums.left_out)}"
            + (f"; {sums.more:,} smaller groups are not shown" if sums.more else "")
        )
        self.outline.show(
            [Item(group.test or group.names, 0, self._pieces(group)) for group in sums.groups],
            empty="no flows to add up",
        )

    @property
    def _wide(self) -> bool:
        return self.size.width >= WIDE

    def _figures(self) -> list[tuple[str, int]]:
        return [figure for figure in FIGURES if self._wide or figure[0] not in NARROW]

    def _marked(self, name: str) -> str:
        return f"{name.upper()}*" if name == self.sort else name.upper()

    def _pieces(self, group: Group) -> list[tuple[str, Style]]:
        names = " ".join(
            fit(name, size, middle=True, ellipsis=self.look.ellipsis)
            for name, size in zip(group.names, self._sizes, strict=True)
        )
        shown = (group.p50, group.p95, group.p99) if self._wide else (group.p95,)
        latency = "".join(f"{duration(value) if value else '-':>8}" for value in shown)
        pieces = [
            (f"{names} ", Style.null()),
            (f"{group.rate:>9,.1f}{size_text(group.bytes) if group.bytes else '-':>9}", Style.null()),
            (f"{100 * group.errors:>8.1f}%", self.look.bad if group.errors else self.look.faint),
            (latency, Style.null()),
        ]
        if self._wide:
            pieces.append((f"  {self.look.sparkline(group.bars)}", self.look.faint))
        return pieces

    def action_sort(self) -> None:
        """Sort by the next column."""
        names = list(SORTS)
        self.sort = names[(names.index(self.sort) + 1) % len(names)]
        self.reset()
        self.tick()

    def action_group(self) -> None:
        """Ask for the fields."""
        self.post_message(self.GroupBy())

    def use_fields(self, fields: list[str]) -> None:
        """Group by other fields."""
        self.fields = fields
        self.outline.cursor = None
        self.reset()
        self.tick()

    def on_outline_chosen(self, event: Outline.Chosen) -> None:
        """Show the flows of the group."""
        event.stop()
        if isinstance(event.outline.cursor, str):
            self.post_message(self.Drill(event.outline.cursor))


def shares(wanted: Sequence[int], room: int) -> list[int]:
    """Widths for columns: as wanted where that fits; else the widest give up as much as they must."""
    room -= len(wanted) - 1
    widths = [0] * len(wanted)
    left = len(wanted)
    for place in sorted(range(len(wanted)), key=wanted.__getitem__):
        widths[place] = max(1, min(wanted[place], room // left))
        room -= widths[place]
        left -= 1
    return widths


def size_text(size: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f}{unit}" if unit == "B" else f"{size:.1f}{unit}"
        size /= 1000
    return f"{size:.1f}TB"
