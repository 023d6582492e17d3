"""Pairing by order: who answers what after losses; nothing is guessed."""

import pytest

from observer.l7.message import Message, Side
from observer.l7.pairing import Pairing
from observer.losses import Losses
from observer.record import L7Kind, L7Type


def asked(time_ns):
    return Message(L7Kind.HTTP, L7Type.REQUEST, Side.CLIENT, time_ns)


SERVER_LOST, CLIENT_LOST = "server lost", "client lost"


@pytest.mark.parametrize(
    ("steps", "answered"),
    [
        # asked at n: n; answered at n: -n; what is expected: the time of the request, or None
        ([1, -2, 3, -4], [1, 3]),
        ([1, 2, 3, -4, -5, -6], [1, 2, 3]),
        ([-1], [None]),
        ([5, -4, -6], [None, 5]),  # an answer older than the request answers a lost one
        ([1, SERVER_LOST, -2], [1]),  # one request, one answer: no doubt
        ([1, SERVER_LOST, 3, -4, 5, -6], [3, 5]),  # the first was answered out of sight
        ([1, SERVER_LOST, 3, 5, -6], [5]),
        ([1, 2, -3, -4, 5, 6, SERVER_LOST, -7, 8, -9], [1, 2, None, None]),  # who pipelines may mean any
        ([1, CLIENT_LOST, -2, -3, 4, -5], [1, None, 4]),  # the second request was lost
        ([1, SERVER_LOST, CLIENT_LOST, -2, 3, -4], [None, 3]),  # lost on both sides: who knows
    ],
)
def test_answers(steps, answered):
    pairing = Pairing(Losses())
    found = []
    for step in steps:
        if isinstance(step, str):
            pairing.lost.add(Side.SERVER if step == SERVER_LOST else Side.CLIENT)
        elif step > 0:
            pairing.ask(asked(step))
        else:
            request = pairing.answer(-step)
            found.append(request and request.time_ns)
    assert found == answered


@pytest.mark.parametrize(
    ("steps", "reason", "number"),
    [
        ([1, 2, 3, SERVER_LOST, -4], "request answered out of sight", 2),
        ([1, 2, -3, -4, 5, 6, SERVER_LOST, -7], "pairing given up after lost bytes", 1),
    ],
)
def test_what_is_given_up_is_counted(steps, reason, number):
    losses = Losses()
    pairing = Pairing(losses)
    for step in steps:
        if isinstance(step, str):
            pairing.lost.add(Side.SERVER)
        elif step > 0:
            pairing.ask(asked(step))
        else:
            pairing.answer(-step)
    assert losses.snapshot() == {("http1", reason): number}
