"""Sums over flows, against sums by hand."""

from collections import Counter

import pytest

from observer.filters.expression import Expression
from tests.tui.flows import filled
from tui import aggregate
from tui.aggregate import FIELDS, SORTS, Shown, by_node, edges, top
from tui.matches import Matches, held
from tui.screens.top import shares, size_text

COUNT = 400


def shown(count=COUNT, text="", limit=1 << 20):
    store = filled(count)
    rows = held(store)
    if text:
        rows = Matches(store, Expression.parse(text))
        while not rows.complete:
            rows.advance()
    return Shown.by(rows, limit)


def test_clients_and_servers_are_those_of_the_conversation():
    found = top(shown(), ["client", "server"])
    # Even flows are web to db, odd ones web to the world; answers count with them.
    assert {group.names: group.flows for group in found.groups} == {
        ("shop/web", "data/db"): COUNT // 2,
        ("shop/web", "world"): COUNT // 2,
    }
    assert found.flows == COUNT
    assert found.seconds == 1.0


def test_errors_bytes_and_latencies():
    found = {group.names[0]: group for group in top(shown(), ["client-pod"]).groups}
    one = found["shop/web-1"]
    even = range(0, COUNT, 2)
    wrong = [n for n in even if n % 10 == 0 or n % 8 == 2]
    assert one.errors == pytest.approx(len(wrong) / len(even))
    # The counters of a connection's direction are told by its last flow.
    last = {(n // 4, n % 4 >= 2): n for n in even}
    assert one.bytes == sum(last.values())
    latencies = sorted(n * 1000 for n in even if n % 4 >= 2)
    place = [int((len(latencies) - 1) * quantile + 0.5) for quantile in (0.5, 0.95, 0.99)]
    assert [one.p50, one.p95, one.p99] == [latencies[index] for index in place]
    assert sum(one.bars) == one.flows == COUNT // 2
    assert (found["shop/web-2"].p50 > 0, one.rate) == (True, COUNT // 2)


@pytest.mark.parametrize("field", list(FIELDS))
def test_every_field_groups_and_its_tests_select_the_group(field):
    store = filled(80)
    rows = held(store)
    found = top(Shown.by(rows), [field])
    assert sum(group.flows for group in found.groups) == 80
    for group in found.groups:
        if group.test:
            matches = Matches(store, Expression.parse(group.test))
            assert len(matches) >= group.flows


@pytest.mark.parametrize("sort", list(SORTS))
def test_sorts(sort):
    groups = top(shown(), ["client-pod", "server", "status"], sort).groups
    assert groups == sorted(groups, key=SORTS[sort])


def test_what_is_left_out_is_said():
    part = shown(limit=100)
    assert (part.left_out, top(part, ["client"]).flows) == (300, 100)
    assert top(part, ["client"]).left_out == 300


def test_only_what_is_shown_is_added_up():
    assert top(shown(text="verdict=DROPPED"), ["verdict"]).groups[0].flows == COUNT // 10


def test_edges():
    found, about = edges(shown())
    assert [(one.client_namespace, one.client, one.server, one.port) for one in found] == [
        ("shop", "shop/web", "data/db", 8080),
        ("shop", "shop/web", "world", 8080),
    ]
    by_hand = Counter("DROPPED" if n % 10 == 0 else "FORWARDED" for n in range(0, COUNT, 2))
    assert found[0].verdicts == by_hand
    assert found[0].protocol == "HTTP"
    assert about.flows == COUNT
    assert Expression.parse(found[0].test)


def test_nodes():
    assert list(by_node(shown())) == ["node-1"]
    assert by_node(shown())["node-1"][0] == COUNT


def test_of_nothing_nothing():
    nothing = shown(0)
    assert top(nothing, ["client"]).groups == []
    assert edges(nothing)[0] == []
    assert by_node(nothing) == {}


def test_a_ring_that_turned_while_it_was_copied_is_told_by_what_is_left():
    store = filled(4096)
    taken = Shown.by(held(store))
    from tests.tui.flows import add

    add(store, 1000)
    assert top(taken, ["client"]).flows == 3096


@pytest.mark.parametrize(("size", "text"), [(12, "12B"), (1_200, "1.2kB"), (3_400_000, "3.4MB"), (5e13, "50.0TB")])
def test_sizes(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("wanted", "room", "given"),
    [([5, 5], 20, [5, 5]), ([50, 4, 50], 40, [17, 4, 17]), ([9], 3, [3]), ([4, 4], 1, [1, 1])],
)
def test_columns_share_the_room(wanted, room, given):
    assert shares(wanted, room) == given


def test_groups_and_edges_have_a_bound_and_the_rest_is_counted(monkeypatch):
    monkeypatch.setattr(aggregate, "GROUPS", 1)
    found = top(shown(), ["client-pod"])
    assert (len(found.groups), found.more) == (1, 1)
    some, about = edges(shown())
    assert (len(some), about.more) == (1, 1)


def test_where_texts_are_read_fewer_flows_are(monkeypatch):
    monkeypatch.setattr(aggregate, "TEXT_ROWS", 100)
    found = top(shown(), ["path"])
    assert (found.flows, found.left_out) == (100, COUNT - 100)
