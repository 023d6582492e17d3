"""What is judged by observe itself: over a real server and a real capture, every number and order of flows."""

import threading
from contextlib import closing
from pathlib import Path

import pytest

from observer.api import flow_pb2, observer_pb2
from observer.cli.observe_local import ALL, FIRST_ASKED, LocalAnswers
from observer.client import open_capture_source, open_server
from observer.errors import FilterError
from observer.filters.expression import Expression
from tests.service.flows import SECOND_NS, START_NS, add_flows, make_store, serving

COUNT = 2_500
PATIENCE_S = 10
SHOP = Path(__file__).parent.parent.parent / "fixtures" / "pcaps" / "shop.pcap"
Request = observer_pb2.GetFlowsRequest


def at(number):
    return dict(zip(("seconds", "nanos"), divmod(START_NS + number * SECOND_NS, SECOND_NS), strict=True))


def numbers(responses):
    return [response.flow.l4.TCP.source_port - 40_000 for response in responses if response.HasField("flow")]


@pytest.fixture(scope="module")
def served():
    with serving(make_store(COUNT, 1 << 13), "127.0.0.1:0") as (_, bound), closing(open_server(bound)) as source:
        yield source


FEW = "from-port<40010 or from-port=42000"  # ten of the oldest, and one


@pytest.mark.parametrize(
    ("asked", "text", "expected"),
    [
        ({}, "from-port>42490", range(2491, 2500)),
        ({"number": ALL}, "from-port>42490", range(2491, 2500)),
        ({"number": 3}, "from-port>42490", [2497, 2498, 2499]),
        ({"number": 3}, "from-port<40010", [7, 8, 9]),  # found only by asking again
        ({"number": 3}, FEW, [8, 9, 2000]),
        ({"number": 30}, FEW, [*range(10), 2000]),
        ({"number": 3}, "from-port=1", []),
        ({"number": 2, "first": True}, "from-port>42490", [2491, 2492]),
        ({"number": 20, "first": True}, FEW, [*range(10), 2000]),
        ({"number": 2, "since": at(9)}, FEW, [9, 2000]),
        ({"since": at(9)}, FEW, [9, 2000]),
        ({"until": at(3)}, FEW, [0, 1, 2, 3]),
        ({"number": 1, "until": at(9)}, FEW, []),  # as Hubble: the last one, if it is not too late
        ({"number": 3, "until": at(9)}, FEW, [8, 9]),
        ({"number": 3, "whitelist": [flow_pb2.FlowFilter(verdict=[2])]}, FEW, [6, 8, 2000]),
    ],
)
def test_the_flows_that_pass_are_counted(served, asked, text, expected):
    request = Request(**asked)
    answers = LocalAnswers(served.get_flows, request, Expression.parse(text), again=True)
    assert numbers(answers) == list(expected)
    assert request == Request(**asked)


@pytest.mark.parametrize("number", [1, FIRST_ASKED // 8 - 1, FIRST_ASKED // 8, FIRST_ASKED // 8 + 1, 1_000, COUNT])
def test_as_many_as_there_are_are_found(served, number):
    expression = Expression.parse("from-port<41000 and not from-port=40500")
    passing = [each for each in range(1_000) if each != 500]
    answers = LocalAnswers(served.get_flows, Request(number=number), expression, again=True)
    assert numbers(answers) == passing[-number:]


def test_no_more_is_asked_for_than_is_needed(served):
    asked = []

    def ask(request):
        asked.append(request.number)
        return served.get_flows(request)

    list(LocalAnswers(ask, Request(number=2), Expression.parse("from-port>42490"), again=True))
    assert asked == [FIRST_ASKED]
    asked.clear()
    list(LocalAnswers(ask, Request(number=2), Expression.parse("from-port<40010"), again=True))
    assert asked == [FIRST_ASKED, 8 * FIRST_ASKED]


def test_a_capture_is_read_once():
    request = Request(number=4, until={"seconds": 1 << 32})
    expression = Expression.parse("/charge/")
    with closing(open_capture_source(SHOP)) as source:
        every = [response for response in source.get_flows(Request()) if expression.exact(response.flow)]
    with closing(open_capture_source(SHOP)) as source:
        last = list(LocalAnswers(source.get_flows, request, expression, again=False))
    assert len(every) > 4
    assert [response.time for response in last] == [response.time for response in every[-4:]]


def test_fields_that_are_not_wanted_may_decide(served):
    request = Request(number=1, first=True)
    request.field_mask.paths.append("verdict")
    (response,) = LocalAnswers(served.get_flows, request, Expression.parse("from-port=40003"), again=True)
    assert response.flow == flow_pb2.Flow(verdict=flow_pb2.FORWARDED)
    request.field_mask.paths.append("nonsense")
    with pytest.raises(FilterError, match="invalid fieldmask"):
        LocalAnswers(served.get_flows, request, Expression.parse("dns"), again=True)


@pytest.mark.parametrize(
    ("asked", "old"),
    [({}, []), ({"number": 2}, [8, 9]), ({"since": at(8)}, [8, 9]), ({"number": 2, "since": at(8)}, [8, 9])],
)
def test_following(asked, old):
    store = make_store(20)
    expression = Expression.parse("from-port<40010 and not verdict=DROPPED or from-port in (40000, 40008)")
    with serving(store, "127.0.0.1:0") as (server, bound), closing(open_server(bound)) as source:
        got = []
        enough = threading.Event()

        def follow():
            for response in LocalAnswers(source.get_flows, Request(follow=True, **asked), expression, again=True):
                got.append(response)
                if len(got) == len(old) + 6:
                    enough.set()
                    return

        follower = threading.Thread(target=follow)
        follower.start()
        for _ in range(1000):
            if server.streams and len(got) >= len(old):
                break
            follower.join(0.01)
        follower.join(0.2)  # between history and what is new
        add_flows(store, 10, START_NS + 100 * SECOND_NS)
        assert enough.wait(PATIENCE_S)
        follower.join(PATIENCE_S)
    assert numbers(got) == [*old, 0, 1, 3, 5, 7, 8]
