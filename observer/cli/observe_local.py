"""What a server's filters cannot say, judged here: answers of a source and an expression in, those that pass out.

A number asked for is a number of flows that pass, so the source is asked for more than that: of the oldest until enough
have passed, of the newest again and again, each time for eight times as many, up to all that it holds.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from observer.api import observer_pb2
from observer.filters.expression import Expression
from observer.service.mask import FieldMask

Request = observer_pb2.GetFlowsRequest
Response = observer_pb2.GetFlowsResponse
Ask = Callable[[Request], Iterator[Response]]

ALL: Final = 2**64 - 1
"""The number of flows that means all of them, as the stock CLI says it."""
FIRST_ASKED: Final = 1_024
"""Flows asked for at first, where the last few that pass are wanted."""
FACTOR: Final = 8
LATEST_NS: Final = 253_402_300_799_999_999_999
"""The end of what a request can say."""
TOLD: Final = 1_000
"""Answers that are no flows and stand among the last few: so many are kept."""


class LocalAnswers:
    """The answers to one request of which a part is judged here."""

    def __init__(self, ask: Ask, request: Request, local: Expression, *, again: bool) -> None:
        """`again` says that the source can be asked more than once: a server can, a capture is read through instead."""
        self._ask = ask
        self._request = Request()
        self._request.CopyFrom(request)
        self._local = local
        self._again = again
        # The fields that are not wanted may be those that decide.
        self._mask = FieldMask(request.field_mask.paths) if request.field_mask.paths else None
        self._request.ClearField("field_mask")

    def __iter__(self) -> Iterator[Response]:
        number = self._request.number
        oldest = self._request.first or self._request.HasField("since")
        if not number or number == ALL or (oldest and self._request.follow):
            yield from self._passing(self._request)
        elif oldest:
            yield from self._first(number)
        elif self._request.follow and self._again:
            yield from self._last_then_new(number)
        else:
            yield from self._last(number)

    def _passes(self, response: Response) -> bool:
        """Whether an answer passes; what is no flow does."""
        return not response.HasField("flow") or self._local.exact(response.flow)

    def _cut(self, response: Response) -> Response:
        """The answer with the fields that were asked for."""
        if self._mask is not None and response.HasField("flow"):
            response.flow.CopyFrom(self._mask.apply(response.flow))
        return response

    def _passing(self, request: Request) -> Iterator[Response]:
        for response in self._ask(request):
            if self._passes(response):
                yield self._cut(response)

    def _first(self, number: int) -> Iterator[Response]:
        """The first so many that pass."""
        request = Request()
        request.CopyFrom(self._request)
        request.number = ALL if request.first else 0
        for response in self._passing(request):
            yield response
            number -= response.HasField("flow")
            if not number:
                return

    def _last(self, number: int) -> Iterator[Response]:
        """The last so many that pass, and of them, as Hubble has it, those before the first later than `until`."""
        flows: deque[Response] = deque(maxlen=number)
        others: deque[Response] = deque(maxlen=TOLD)
        request = Request()
        request.CopyFrom(self._request)
        request.follow = False
        request.ClearField("until")
        until_ns = self._request.until.ToNanoseconds() if self._request.HasField("until") else None
        asked = max(FIRST_ASKED, FACTOR * number) if self._again else ALL
        while True:
            flows.clear()
            others.clear()
            request.number = min(asked, ALL) if self._again else 0
            received = 0
            for response in self._ask(request):
                received += response.HasField("flow")
                if self._passes(response):
                    (flows if response.HasField("flow") else others).append(response)
            if len(flows) == number or received < asked:
                break
            asked *= FACTOR
        yield from others
        for response in flows:
            if until_ns is not None and _time_ns(response) > until_ns:
                return
            yield self._cut(response)

    def _last_then_new(self, number: int) -> Iterator[Response]:
        """The last so many that pass, then what is later than the newest of all."""
        newest_ns = started_ns = time.time_ns()

        def ask(request: Request) -> Iterator[Response]:
            nonlocal newest_ns
            newest_ns = 0  # once more from the beginning
            for response in self._ask(request):
                newest_ns = max(newest_ns, _time_ns(response) if response.HasField("flow") else 0)
                yield response

        yield from map(self._cut, LocalAnswers(ask, self._request, self._local, again=True)._last(number))
        request = Request()
        request.CopyFrom(self._request)
        request.number = 0
        since_ns = min((newest_ns or started_ns) + 1, LATEST_NS)
        request.since.seconds, request.since.nanos = divmod(since_ns, 1_000_000_000)
        yield from self._passing(request)


def _time_ns(response: Response) -> int:
    """The time of a flow, whatever a stranger says it is."""
    return int(response.flow.time.seconds) * 1_000_000_000 + int(response.flow.time.nanos)
