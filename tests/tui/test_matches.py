"""Rows over a store: what a condition lets pass, kept up to date while the ring turns; against a plain loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer.filters.expression import Expression
from tests.tui.flows import add, filled
from tui.matches import (
    AllRows,
    InTrouble,
    Judge,
    Matches,
    PickedRows,
    SameConnection,
    Seek,
    held,
)
from tui.view import FlowView

TEXTS = [
    "verdict=DROPPED",
    "not verdict=DROPPED",
    "http.status=5xx",
    "latency>1ms and pod=shop/web-1",
    "web-2",
    "nothing-has-this",
]


def by_hand(store, text):
    """The sequence numbers that pass, one flow after the other."""
    expression, view = Expression.parse(text), FlowView(store)
    return [one for one in range(store.first, store.next) if expression.exact(view.flow(one))]


def sequences(rows):
    return [rows.at(row) for row in range(len(rows))]


def finish(rows):
    rows.advance()
    while not rows.complete:
        rows.advance()


@pytest.mark.parametrize("text", TEXTS)
def test_matches_are_what_a_loop_finds(text):
    store = filled(1000, capacity=512)
    rows = Matches(store, Expression.parse(text))
    finish(rows)
    assert sequences(rows) == by_hand(store, text)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 700), max_size=6), st.sampled_from(TEXTS))
def test_matches_stay_right_while_the_ring_turns(steps, text):
    store = filled(300, capacity=512)
    rows = Matches(store, Expression.parse(text), page=10)
    for step in steps:
        add(store, step)
        before = len(rows)
        change = rows.advance()
        assert len(rows) == before - change.gone + change.before + change.after
    finish(rows)
    assert sequences(rows) == by_hand(store, text)


def test_the_first_page_is_the_newest_and_there_at_once():
    store = filled(60_000, capacity=65_536)
    rows = Matches(store, Expression.parse("verdict=DROPPED"), page=50)
    assert sequences(rows)[-50:] == list(range(59_500, 60_000, 10))
    assert not rows.complete
    finish(rows)
    assert sequences(rows) == list(range(0, 60_000, 10))


def test_what_leaves_before_it_is_judged_is_counted():
    store = filled(10, capacity=64)
    rows = Matches(store, Expression.parse("verdict=DROPPED"))
    add(store, 640)
    rows.advance()
    assert rows.skipped == 640 - 64
    assert sequences(rows) == by_hand(store, "verdict=DROPPED")


def test_all_rows_follow_the_ring():
    store = filled(100, capacity=64)
    rows = held(store)
    assert sequences(rows) == list(range(36, 100))
    add(store, 10)
    assert rows.advance() == (10, 0, 10)
    add(store, 200)
    change = rows.advance()
    assert (change.gone, change.after, len(rows)) == (64, 64, 64)
    assert (rows.row(0), rows.row(260), rows.row(9999)) == (0, 14, 64)


def test_picked_rows_leave_with_the_ring():
    store = filled(64, capacity=64)
    marks = {3, 50}
    rows = PickedRows(store, lambda: marks)
    rows.advance()
    assert sequences(rows) == [3, 50]
    add(store, 10)
    rows.advance()
    assert sequences(rows) == [50]


@pytest.mark.parametrize("rows_of", [held, lambda store: Matches(store, Expression.parse("verdict=DROPPED"))])
def test_rows_and_sequences_are_two_ways_of_one_thing(rows_of):
    store = filled(200)
    rows = rows_of(store)
    finish(rows)
    for place in (0, 7, len(rows) - 1):
        assert rows.row(rows.at(place)) == place
    assert rows.between(rows.at(3), rows.at(6)).tolist() == [rows.at(3), rows.at(4), rows.at(5)]


@pytest.mark.parametrize(
    ("start", "direction", "found"), [(5, 1, 10), (10, 1, 20), (10, -1, 0), (0, -1, -1), (95, 1, -1)]
)
def test_seek_finds_the_next_either_way(start, direction, found):
    store = filled(96)
    seek = Seek(held(store), Expression.parse("verdict=DROPPED"), start, direction)
    while (got := seek()) is None:
        pass
    assert got == found


def test_seek_looks_only_at_what_is_shown():
    store = filled(96)
    rows = Matches(store, Expression.parse("http.status=503"))
    finish(rows)
    seek = Seek(rows, Expression.parse("verdict=DROPPED"), 0, 1)
    assert seek() == 10


def test_trouble_is_a_drop_or_an_error():
    store = filled(40)
    found = Judge(store, InTrouble())(0, 40).tolist()
    assert found == sorted({*range(0, 40, 10), *range(2, 40, 8)})


def test_the_same_connection_by_number_and_by_addresses():
    store = filled(40)
    records, _, _, _ = store.take(np.array([5]))
    assert Judge(store, SameConnection(records[0], 1))(0, 40).tolist() == [5, 7]
    assert Judge(store, SameConnection(records[0], 2))(0, 40).tolist() == []
    records["connection"] = 0
    assert Judge(store, SameConnection(records[0], 1))(0, 40).tolist() == list(range(1, 40, 2))


def test_steps_get_shorter_where_flows_must_be_built_and_longer_where_not():
    judge = Judge(filled(10), InTrouble())
    for _ in range(20):
        judge._adapt(judge.step, 1.0)
    assert judge.step == 128
    for _ in range(20):
        judge._adapt(judge.step, 0.0)
    assert judge.step == 16_384


def test_rows_of_an_empty_store():
    store = filled(0)
    for rows in (AllRows(store), Matches(store, InTrouble()), PickedRows(store, set)):
        assert rows.advance() == (0, 0, 0)
        assert len(rows) == 0
        assert rows.complete
