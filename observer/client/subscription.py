"""A subscription: one background thread that carries what a source gives into a store of the caller's.

What differs between sources (where blocks come from, whether it is worth trying again) is a `feed`: a function that
appends through the subscription until there is no more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from observer.batch import Batch
from observer.client.source import State
from observer.errors import FlowscopeError
from observer.extra import Extra
from observer.identity.endpoints import EndpointTable
from observer.policy.model import PolicyTable
from observer.record import Records

JOIN_S: Final = 1.0

Feed: TypeAlias = "Callable[[BackgroundSubscription], None]"


def running(subscriptions: list[BackgroundSubscription]) -> list[BackgroundSubscription]:
    """Those that have not ended; the others would keep their stores."""
    return [subscription for subscription in subscriptions if not subscription.wait(0)]


class Sink(Protocol):
    """Where a subscription puts flows: a store, or what merges several into one."""

    endpoints: EndpointTable
    policies: PolicyTable
    nodes: list[str]

    def append(
        self,
        records: Records,
        extras: Sequence[tuple[int, Extra]] = (),
        node: int | npt.NDArray[np.integer[Any]] = 0,
    ) -> None:
        """Take a batch, as Store.append does."""
        ...


class BackgroundSubscription:
    """Runs a feed in a thread; see source.Subscription for what a caller may ask."""

    def __init__(self, store: Sink, feed: Feed, *, name: str) -> None:
        self.store = store
        self.state = State.CONNECTING
        self.error = ""
        self.lost = 0
        self.skipped = 0
        """Flows left out here, unread: they came faster than they could be taken."""
        self.newest_ns = 0
        """Time of the newest flow appended: where to go on after a reconnect."""
        self._feed = feed
        self._cancelled = threading.Event()
        self._on_cancel: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"subscription {name}", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Stop; nothing is appended once this returns."""
        with self._lock:  # an append under way is let finish, none begins afterwards
            self._cancelled.set()
            on_cancel = self._on_cancel
        on_cancel()
        self._thread.join(JOIN_S)  # an attempt to connect may last longer; it cannot append any more
        if self._thread.is_alive():
            self.state = State.ENDED

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it ended, failed or was cancelled; False on timeout."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # -- for feeds ------------------------------------------------------------------------------------------------

    @property
    def cancelled(self) -> bool:
        """Whether to stop."""
        return self._cancelled.is_set()

    def on_cancel(self, stop: Callable[[], None]) -> None:
        """Have `stop` called by `cancel`, or at once if that was already."""
        with self._lock:
            self._on_cancel = stop
            late = self._cancelled.is_set()
        if late:
            stop()

    def pause(self, seconds: float) -> bool:
        """Wait; True if cancelled meanwhile."""
        return self._cancelled.wait(seconds)

    def append(
        self,
        records: Records,
        extras: list[tuple[int, Extra]],
        nodes: int | npt.NDArray[np.unsignedinteger],
    ) -> None:
        """Append to the caller's store, unless cancelled."""
        if len(records):
            with self._lock:
                if not self._cancelled.is_set():
                    self.store.append(records, extras, nodes)
            # Not the last: records of several nodes are not quite in order.
            self.newest_ns = max(self.newest_ns, int(records["time_ns"].max()))

    def take(self, batch: Batch, node_names: list[str]) -> None:
        """Append a batch that a BatchReader over this store's tables has read, losses and state included."""
        self.lost += sum(event.num_events_lost for event in batch.lost_events)
        if len(batch.records):
            numbers = np.array([self.node(name) for name in node_names] or [0], np.uint16)
            self.append(batch.records, batch.extras, numbers[batch.nodes])
        if batch.caught_up:
            self.state = State.LIVE

    def node(self, name: str) -> int:
        """The number of a node in the caller's store."""
        nodes = self.store.nodes
        if name not in nodes:
            nodes.append(name)
        return nodes.index(name)

    def _run(self) -> None:
        try:
            self._feed(self)
        except FlowscopeError as error:
            self.error = str(error)
            self.state = State.ENDED if self.cancelled else State.FAILED
        else:
            self.error = ""
            self.state = State.ENDED
