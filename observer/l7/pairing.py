"""Which request a response answers, where only order tells: HTTP/1 (RFC 9112, 9.3.2).

In: requests and the times of responses, and on which sides bytes were lost. Out: the request, or None where it
cannot be known. Order alone would pair wrongly for ever after one lost message; times and what the client is used to
set it right.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from observer.l7.message import Message, Side
from observer.losses import Losses

PENDING_LIMIT: Final = 256
"""Requests of one connection that wait for their responses."""


class Pairing:
    """The requests of one connection that were not answered yet."""

    __slots__ = ("_given_up", "_losses", "_pending", "_pipelines", "_unremembered", "lost")

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._pending: deque[Message] = deque()
        self._unremembered = 0  # requests beyond PENDING_LIMIT or unknown, all after the pending ones
        self._pipelines = False  # the client was seen to send requests ahead of responses
        self._given_up = False
        self.lost: set[Side] = set()
        """Sides on which messages may have gone by unseen since the last certain pair."""

    def ask(self, request: Message | None) -> None:
        """Remember a request; None is one of which nothing is known but its place."""
        if self._given_up:
            return
        if request is None or self._unremembered or len(self._pending) >= PENDING_LIMIT:
            self._unremembered += 1
            self._losses.count("http1", "too many pending requests")
        else:
            self._pending.append(request)

    def answer(self, time_ns: int) -> Message | None:
        """The request that a response of this time answers, if that can be known."""
        pending = self._pending
        if not pending:
            if self._unremembered:
                self._unremembered -= 1
            return None
        if pending[0].time_ns > time_ns:
            return None  # answers a request that was lost, or none (408)
        several = len(pending) > 1 and pending[1].time_ns <= time_ns
        if not self.lost:
            self._pipelines |= several
            return pending.popleft()
        return self._answer_after_loss(time_ns, several)

    def _answer_after_loss(self, time_ns: int, several: bool) -> Message | None:
        if not several and len(self.lost) < 2:
            self.lost.clear()
            return self._pending.popleft()
        if self._pipelines:
            # Nobody can tell any more which of them this answers, nor the next.
            self._losses.count("http1", "pairing given up after lost bytes")
            self._given_up = True
            self._pending.clear()
            self._unremembered = 0
            return None
        # Who does not pipeline has seen the earlier answers: they went by unseen.
        earlier: list[Message] = []
        while self._pending and self._pending[0].time_ns <= time_ns:
            earlier.append(self._pending.popleft())
        # Bytes lost on both sides may hold the request too.
        request = earlier.pop() if len(self.lost) < 2 else None
        self._losses.count("http1", "request answered out of sight", len(earlier))
        self.lost.clear()
        return request
