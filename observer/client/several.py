"""Several servers as one source: their flows merged in order of time, their states told together.

Each server's subscription fills an inlet of its own, with its own tables; one thread takes what came, puts it in order
and appends it to the caller's store. A server that is not there does not keep the others from being seen.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from observer.api import observer_pb2
from observer.client.source import Node, Source, State, Status, Subscription
from observer.errors import FlowscopeError
from observer.extra import Extra
from observer.identity.endpoints import EndpointTable
from observer.policy.model import PolicyTable
from observer.record import Records
from observer.store import Store

GATHER_S: Final = 0.1
"""How long flows are gathered before they are put in order: those of servers that lag no further come in order."""
HISTORY_S: Final = 3.0
"""How long the servers may take to send what they held, so that it is put in order as a whole."""
AGAIN_S: Final = 3.0
"""Before a server that was not there is asked again."""
INLET: Final = 1 << 17
"""Flows that wait in an inlet; then its server waits."""


class SeveralSources:
    """Some servers."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.name = ", ".join(source.name for source in sources)
        self.warnings: Sequence[str] = ()
        self._sources = sources
        self._merges: list[Merge] = []

    def get_flows(self, request: observer_pb2.GetFlowsRequest) -> Iterator[observer_pb2.GetFlowsResponse]:
        """The flows of all, in order of time; FlowscopeError where one cannot be reached, or if it shall follow."""
        if request.follow:
            raise FlowscopeError("several servers cannot be followed flow by flow; use `flowscope tui`, or a relay")
        each = [source.get_flows(request) for source in self._sources]
        return heapq.merge(*each, key=lambda response: response.time.ToNanoseconds())

    def subscribe(self, store: Store, request: observer_pb2.GetFlowsRequest) -> Subscription:
        """Append what `request` selects on any of them to `store`."""
        merge = Merge(store, self._sources, request)
        self._merges = [*(one for one in self._merges if not one.wait(0)), merge]
        return merge

    def status(self) -> Status:
        """The status of the first that can be reached."""
        failure: FlowscopeError | None = None
        for source in self._sources:
            try:
                return source.status()
            except FlowscopeError as error:
                failure = failure or error
        assert failure is not None
        raise failure

    def nodes(self) -> Sequence[Node]:
        """The nodes of all; a server that cannot be reached is one that says why."""
        nodes: list[Node] = []
        for source in self._sources:
            try:
                nodes += source.nodes()
            except FlowscopeError as error:
                nodes.append(Node(name=source.name, state="UNREACHABLE", tier_reason=str(error)))
        return nodes

    def close(self) -> None:
        """End every call and subscription."""
        for merge in self._merges:
            merge.cancel()
        for source in self._sources:
            source.close()


class _Inlet:
    """What one server sent and nobody has taken; a Sink with tables of its own."""

    def __init__(self) -> None:
        self.endpoints = EndpointTable()
        self.policies = PolicyTable()
        self.nodes: list[str] = [""]
        self._parts: list[tuple[Records, Sequence[tuple[int, Extra]], int | npt.NDArray[Any]]] = []
        self._waiting = 0
        self._room = threading.Condition()
        self._closed = False
        self._maps: dict[str, npt.NDArray[np.uint32]] = {}

    def append(
        self, records: Records, extras: Sequence[tuple[int, Extra]] = (), node: int | npt.NDArray[Any] = 0
    ) -> None:
        """Keep a batch until it is taken; waits while too much is kept."""
        with self._room:
            self._room.wait_for(lambda: self._waiting < INLET or self._closed)
            self._parts.append((records, extras, node))
            self._waiting += len(records)

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._room:
            self._closed = True
            self._room.notify_all()

    def take(self, store: Store) -> tuple[Records, list[tuple[int, Extra]], npt.NDArray[np.uint16]] | None:
        """What is kept, in the numbers of the store's tables; None if there is nothing."""
        with self._room:
            parts, self._parts, self._waiting = self._parts, [], 0
            self._room.notify_all()
        if not parts:
            return None
        records = np.concatenate([part for part, _, _ in parts])
        extras, nodes, start = [], [], 0
        for part, own, node in parts:
            extras += [(start + row, extra) for row, extra in own]
            nodes.append(np.full(len(part), node, np.uint16) if isinstance(node, int) else node)
            start += len(part)
        for names, theirs, ours in (
            (("source_endpoint", "destination_endpoint"), self.endpoints, store.endpoints),
            (("egress_rule", "ingress_rule"), self.policies, store.policies),
        ):
            mapped = self._mapped(names[0], theirs, ours)
            for name in names:
                records[name] = mapped[records[name]]
        for name in self.nodes:
            if name not in store.nodes:
                store.nodes.append(name)
        numbers = np.array([store.nodes.index(name) for name in self.nodes], np.uint16)
        return records, extras, numbers[np.concatenate(nodes)]

    def _mapped(self, key: str, theirs: Any, ours: Any) -> npt.NDArray[np.uint32]:
        """The store's number for each of the inlet's."""
        known = self._maps.get(key, np.zeros(0, np.uint32))
        if len(known) < len(theirs):
            new = [ours.intern(item) for item in theirs.from_number(len(known))]
            known = self._maps[key] = np.concatenate([known, np.array(new, np.uint32)])
        return known


class Merge:
    """The subscription to several servers."""

    def __init__(self, store: Store, sources: Sequence[Source], request: observer_pb2.GetFlowsRequest) -> None:
        self._store = store
        self._sources = sources
        self._request = observer_pb2.GetFlowsRequest()
        self._request.CopyFrom(request)
        self._inlets = [_Inlet() for _ in sources]
        self._subscriptions = [self._subscribe(place) for place in range(len(sources))]
        self._again = [0.0] * len(sources)
        self._before = [(0, 0)] * len(sources)
        """Lost and skipped by earlier subscriptions to each."""
        self._cancelled = threading.Event()
        self._merged = False
        self._thread = threading.Thread(target=self._run, name="merge", daemon=True)
        self._thread.start()

    @property
    def state(self) -> State:
        """LIVE if any is; what most of the others are is told by `error`."""
        states = [one.state for one in self._subscriptions]
        if self._cancelled.is_set() or all(state is State.ENDED for state in states):
            return State.ENDED
        for state in (State.LIVE, State.LOADING, State.CONNECTING, State.RECONNECTING):
            if state in states:
                return state if self._merged or state is not State.LIVE else State.LOADING
        return State.RECONNECTING

    @property
    def error(self) -> str:
        """Which servers are not there, and why."""
        away = [one.error for one in self._subscriptions if one.error]
        if not away:
            return ""
        return f"{len(away)} of {len(self._subscriptions)} servers away: {away[0]}"

    @property
    def lost(self) -> int:
        """Flows that any of them says were lost."""
        return sum(one.lost for one in self._subscriptions) + sum(lost for lost, _ in self._before)

    @property
    def skipped(self) -> int:
        """Flows left out here."""
        return sum(one.skipped for one in self._subscriptions) + sum(skipped for _, skipped in self._before)

    def cancel(self) -> None:
        """Stop; nothing is appended once this returns."""
        self._cancelled.set()
        for inlet in self._inlets:
            inlet.close()
        for one in self._subscriptions:
            one.cancel()
        self._thread.join()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until all have ended or it was cancelled; False on timeout."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _subscribe(self, place: int) -> Subscription:
        inlet: Any = self._inlets[place]
        return self._sources[place].subscribe(inlet, self._request)

    def _run(self) -> None:
        begun = time.monotonic()
        while not self._cancelled.wait(GATHER_S):
            if not self._merged:
                arriving = any(one.state in (State.CONNECTING, State.LOADING) for one in self._subscriptions)
                if arriving and time.monotonic() - begun < HISTORY_S:
                    continue
            self._take()
            self._merged = True
            self._retry()
            if all(one.state is State.ENDED for one in self._subscriptions):
                self._take()
                return

    def _take(self) -> None:
        """Append what came, in order of time."""
        taken = [part for inlet in self._inlets if (part := inlet.take(self._store)) is not None]
        if not taken:
            return
        records = np.concatenate([part for part, _, _ in taken])
        nodes = np.concatenate([numbers for _, _, numbers in taken])
        order = np.argsort(records["time_ns"], kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        extras, start = [], 0
        for rows, own, _ in taken:
            extras += [(int(place[start + row]), extra) for row, extra in own]
            start += len(rows)
        extras.sort(key=lambda entry: entry[0])
        if not self._cancelled.is_set():
            self._store.append(records[order], extras, nodes[order])

    def _retry(self) -> None:
        """Ask again those that were not there at first; who was, reconnects by itself."""
        now = time.monotonic()
        for place, one in enumerate(self._subscriptions):
            if one.state is not State.FAILED or not self._request.follow:
                continue
            if not self._again[place]:
                self._again[place] = now + AGAIN_S
            elif now >= self._again[place]:
                self._again[place] = 0.0
                lost, skipped = self._before[place]
                self._before[place] = lost + one.lost, skipped + one.skipped
                self._subscriptions[place] = self._subscribe(place)
