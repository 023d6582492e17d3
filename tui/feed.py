"""The flows of a source as the screen wants them: a ring of everything, and one of what a pushed filter selects.

A source enters; stores, states and rates leave. One stream runs at a time: while a filter is pushed to the server, the
ring of everything rests, and what it missed is asked for when it is wanted again. Knows no screen.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from observer.api import flow_pb2, observer_pb2
from observer.client import Source, State, Subscription
from observer.store import Store
from tui.view import clock

RATE_S: Final = 2.0
"""The time over which a rate is taken."""
BARS: Final = 8
"""Seconds that the sparkline of the status line shows."""


class Told(NamedTuple):
    """The state of the feed in words: LIVE, LOADING, RECONNECTING ..., and what is to be said about it."""

    word: str
    detail: str = ""


class Feed:
    """One source, one or two rings."""

    def __init__(self, source: Source, *, capacity: int, finite: bool = False) -> None:
        self.source = source
        self.finite = finite
        """The source ends by itself (a capture): its end is no failure."""
        self.capacity = capacity
        self.base = Store(capacity)
        """The ring of everything."""
        self.store = self.base
        """The ring that is shown."""
        self._newest_ns = 0
        self._lost_before = self._skipped_before = 0
        self._frozen = ""
        self._rates = Rates()
        self._arriving = True
        """What the source held is still arriving, or was so at the last tick."""
        self._subscription = self._subscribe(observer_pb2.GetFlowsRequest(number=capacity, follow=True))

    def push(self, whitelist: Iterable[flow_pb2.FlowFilter], blacklist: Iterable[flow_pb2.FlowFilter]) -> None:
        """Have the server select: from now on `store` is a ring of what it sends; the ring of everything rests."""
        self._rest()
        self.store = Store(self.capacity)
        self._arriving = True
        self._subscription = self._subscribe(
            observer_pb2.GetFlowsRequest(
                number=self.capacity, follow=True, whitelist=list(whitelist), blacklist=list(blacklist)
            )
        )

    def pull(self) -> None:
        """Go on with the ring of everything; what it missed comes first."""
        if self.store is self.base:
            return
        self._rest()
        self.store = self.base
        self._arriving = True
        request = observer_pb2.GetFlowsRequest(follow=True)
        if self._newest_ns:
            request.since.seconds, request.since.nanos = divmod(self._newest_ns + 1, 1_000_000_000)
        else:
            request.number = self.capacity
        self._subscription = self._subscribe(request)

    @property
    def pushed(self) -> bool:
        """Whether the server selects."""
        return self.store is not self.base

    @property
    def lost(self) -> int:
        """Flows that the source says did not come."""
        return self._lost_before + self._subscription.lost

    @property
    def skipped(self) -> int:
        """Flows left out here because they came faster than they could be taken."""
        return self._skipped_before + self._subscription.skipped

    @property
    def subscription(self) -> Subscription:
        """What fills the ring that is shown."""
        return self._subscription

    def tick(self, now: float) -> None:
        """Take note of the time: for rates, and since when nothing can come."""
        state = self._subscription.state
        arriving = state in (State.CONNECTING, State.LOADING)
        if arriving or self._arriving:
            self._rates = Rates()  # what was held before is not what comes now, the last of it included
        self._arriving = arriving
        self._rates.add(now, self.store.next)
        reconnecting = state is State.RECONNECTING
        if reconnecting and not self._frozen:
            self._frozen = clock(time.time_ns(), local=True)[:8]
        elif not reconnecting:
            self._frozen = ""

    @property
    def rate(self) -> float:
        """Flows a second, now."""
        return self._rates.now

    @property
    def rates(self) -> list[float]:
        """Flows in each of the last seconds, oldest first."""
        return self._rates.seconds

    def told(self) -> Told:
        """The state, and what is to be said about it."""
        state, error = self._subscription.state, self._subscription.error
        if state is State.RECONNECTING:
            why = error.partition(";")[0]  # what to do about it is no news to who was connected
            return Told(state.name, f"data frozen since {self._frozen}: {why}" if self._frozen else why)
        if state is State.ENDED:
            return Told("FILE") if self.finite else Told("ENDED", "the server has ended the stream")
        return Told(state.name, error)

    def close(self) -> None:
        """Leave nothing running."""
        self._subscription.cancel()

    def _subscribe(self, request: observer_pb2.GetFlowsRequest) -> Subscription:
        return self.source.subscribe(self.store, request)

    def _rest(self) -> None:
        self._subscription.cancel()
        self._lost_before += self._subscription.lost
        self._skipped_before += self._subscription.skipped
        if not self.pushed and len(self.base):
            self._newest_ns = int(self.base.hot("time_ns").max())


class Rates:
    """How fast a counter rises, over RATE_S and second by second."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._bars: deque[float] = deque([0.0] * BARS, maxlen=BARS)
        self._second = 0.0
        self._at_second = 0

    def add(self, now: float, count: int) -> None:
        """Note the counter."""
        if not self._seen:
            self._second, self._at_second = now, count
        self._seen.append((now, count))
        while self._seen[0][0] < now - RATE_S:
            self._seen.popleft()
        if now - self._second >= 1:
            self._bars.append((count - self._at_second) / (now - self._second))
            self._second, self._at_second = now, count

    @property
    def now(self) -> float:
        """A second's worth."""
        if len(self._seen) < 2:
            return 0.0
        (start, before), (end, after) = self._seen[0], self._seen[-1]
        return (after - before) / (end - start) if end > start else 0.0

    @property
    def seconds(self) -> list[float]:
        """The last BARS seconds, oldest first."""
        return list(self._bars)
