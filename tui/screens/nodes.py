"""Nodes: where the flows come from: state, capture tier and why no better one, flows a second, what was lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from rich.style import Style

from observer.client import Node, Source
from observer.errors import FlowscopeError
from observer.filters.tree import term
from observer.printer import escape
from tui import aggregate
from tui.aggregate import Shown
from tui.columns import fit
from tui.look import Look
from tui.matches import Rows
from tui.screens.summed import SummedPane
from tui.view import span
from tui.widgets.outline import Item, Outline

ASK_S: Final = 5.0
"""Between two questions to the servers."""

NO_FLOW: Final = "not IP"
"""How reasons begin that are no loss: there was nothing to make a flow of."""


class NodesPane(SummedPane):
    """One branch a node, its losses and reasons in it."""

    def __init__(self, rows: Callable[[], Rows], source: Callable[[], Source], look: Look) -> None:
        super().__init__(rows, look, id="nodes")
        self._source = source
        self._known: Sequence[Node] = ()
        self._error = ""
        self._asked = 0.0

    def reset(self) -> None:
        """The filter, or the source, has changed."""
        super().reset()
        self._asked = 0.0

    def add(self, shown: Shown) -> Any:
        """Flows by node; and what the servers say, asked less often."""
        if time.monotonic() - self._asked > ASK_S:
            try:
                self._known, self._error = self._source().nodes(), ""
            except FlowscopeError as error:
                self._error = str(error)
            self._asked = time.monotonic()
        return aggregate.by_node(shown)

    def show(self, sums: Any) -> None:
        """One branch a node."""
        wide = max(16, min(40, self.size.width - 62))
        self.outline.header = f"  {'NODE':<{wide}}{'STATE':<14}{'TIER':<9}{'FLOWS/S':>9}{'RING':>7}{'LOST':>10}"
        self.title(escape(self._error) if self._error else "the nodes that flows come from")
        known = {node.name: node for node in self._known}
        items: list[Item] = []
        for name in [*known, *[name for name in sums if name not in known and name.rpartition("/")[2] not in known]]:
            node = known.get(name) or Node(name=name, state="SEEN")
            held, rate, span_ns = sums.get(name) or sums.get(_without_cluster(sums, name), (0, 0.0, 0))
            lost = sum(number for _, reason, number in node.losses if not reason.startswith(NO_FLOW))
            state = "UNREACHABLE" if self._error and node.state != "SEEN" else node.state
            good = state in ("SERVING", "CONNECTED", "SEEN")
            ring = f"{100 * node.num_flows // node.max_flows}%" if node.max_flows else "-"
            pieces = [
                (fit(escape(name) or "-", wide - 1, middle=True, ellipsis=self.look.ellipsis) + " ", Style(bold=True)),
                (f"{escape(state):<14}", self.look.good if good else self.look.bad),
                (f"{escape(node.tier) or '-':<9}", Style.null()),
                (f"{rate:>9,.1f}{ring:>7}", Style.null()),
                (f"{lost:>10,}", self.look.bad if lost else self.look.faint),
            ]
            items.append(Item((name,), 0, pieces))
            items += self._facts(name, node, held, span_ns)
        self.outline.show(items, empty="no flows yet, and no server that says what it is")

    def _facts(self, name: str, node: Node, held: int, span_ns: int) -> list[Item]:
        """What there is to say about one node."""
        facts: list[tuple[str, str]] = []
        if held:
            facts.append(("flows here", f"{held:,} in the ring of this screen, over {span(span_ns)}"))
        if node.max_flows:
            facts.append(("flows there", f"{node.num_flows:,} of {node.max_flows:,} held, {node.seen_flows:,} seen"))
        if node.tier_reason:
            facts.append(("tier", f"{node.tier}: {node.tier_reason}"))
        if node.attached:
            facts.append(("attached", ", ".join(node.attached)))
        for table, entries, most in node.pressures:
            facts.append(("table", f"{table}: {entries:,} of {most:,} ({entries / max(most, 1):.0%})"))
        if node.policy_mode:
            facts.append(("policy", node.policy_mode))
        if node.version:
            facts.append(("version", node.version))
        if node.uptime_ns and node.tier != "pcap":
            facts.append(("up", span(node.uptime_ns)))
        if node.address:
            facts.append(("address", node.address))
        items = [
            Item(
                (name, word, value.partition(":")[0] * (word == "table")),
                1,
                [(f"{word:<12} ", Style(bold=True)), (escape(value), Style.null())],
            )
            for word, value in facts
        ]
        for stage, reason, number in node.losses:
            word, style = ("no flow", Style(bold=True)) if reason.startswith(NO_FLOW) else ("lost", self.look.bad)
            loss = [(f"{word:<12} ", style), (f"{number:,}  {escape(stage)}: {escape(reason)}", Style.null())]
            items.append(Item((name, stage, reason), 1, loss))
        return items

    def on_outline_chosen(self, event: Outline.Chosen) -> None:
        """Show the flows of the node."""
        event.stop()
        cursor = event.outline.cursor
        if isinstance(cursor, tuple) and cursor and cursor[0]:
            self.post_message(self.Drill(term("node", str(cursor[0]))))


def _without_cluster(sums: dict[str, Any], name: str) -> str:
    """A server may tell its node without the cluster that stands before it in flows."""
    return next((one for one in sums if one.rpartition("/")[2] == name), "")
