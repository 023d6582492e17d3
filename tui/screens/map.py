"""Map: who talks to whom, by namespace, workload and peer, with verdicts; text, so that it survives any terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import groupby
from typing import Any

from rich.style import Style

from tui import aggregate
from tui.aggregate import Edge, Shown
from tui.look import Look
from tui.matches import Rows
from tui.screens.summed import SummedPane
from tui.widgets.outline import Item, Outline


class MapPane(SummedPane):
    """The edges, as a tree."""

    def __init__(self, rows: Callable[[], Rows], look: Look) -> None:
        super().__init__(rows, look, id="map")
        self._tests: dict[Any, str] = {}

    def add(self, shown: Shown) -> Any:
        """The edges."""
        return aggregate.edges(shown)

    def show(self, sums: Any) -> None:
        """Namespaces, in them workloads, in them whom they ask."""
        found, about = sums
        self.title(
            f"who asks whom: {self.over(about.flows, about.seconds, about.left_out)}"
            + (f"; {about.more:,} more edges are not shown" if about.more else "")
        )
        items: list[Item] = []
        self._tests = {}
        for namespace, within in groupby(found, key=lambda edge: edge.client_namespace):
            of_namespace = list(within)
            self._branch(items, (namespace,), 0, namespace, of_namespace, of_namespace[0].namespace_test)
            for client, own in groupby(of_namespace, key=lambda edge: edge.client):
                of_client = list(own)
                name = client.removeprefix(f"{namespace}/")
                if client != namespace:
                    self._branch(items, (namespace, client), 1, name, of_client, of_client[0].client_test)
                for edge in of_client:
                    key = (namespace, client, edge.server, edge.port)
                    self._tests[key] = edge.test
                    port = f":{edge.port}" if edge.port else ""
                    pieces = [("-> ", Style(bold=True)), (f"{edge.server}{port}  ", Style.null())]
                    pieces += [(f"{edge.protocol}  ", self.look.faint), *self._verdicts(edge.verdicts)]
                    items.append(Item(key, 1 + (client != namespace), pieces))
        self.outline.show(items, empty="no flows to add up")

    def _branch(self, items: list[Item], key: Any, depth: int, name: str, of: list[Edge], test: str) -> None:
        verdicts: Counter[str] = Counter()
        for edge in of:
            verdicts.update(edge.verdicts)
        self._tests[key] = test
        items.append(Item(key, depth, [(f"{name}  ", Style(bold=True)), *self._verdicts(verdicts)]))

    def _verdicts(self, verdicts: dict[str, int]) -> list[tuple[str, Style]]:
        """Each verdict's sign, word and count, the bad ones first."""
        order = sorted(verdicts.items(), key=lambda item: (item[0] == "FORWARDED", -item[1]))
        return [
            (f"{self.look.signs.get(name, '?')} {name.lower()} {count:,}  ", self.look.verdicts.get(name, Style.null()))
            for name, count in order
        ]

    def on_outline_chosen(self, event: Outline.Chosen) -> None:
        """Show the flows of the edge, workload or namespace."""
        event.stop()
        test = self._tests.get(event.outline.cursor, "")
        if test:
            self.post_message(self.Drill(test))
