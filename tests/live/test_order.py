"""Batches of several producers leave in one order of time, with their extras, whatever order they came in."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from observer.extra import Extra
from observer.live.order import Order
from observer.record import empty


class Taker:
    """What was passed on: (time, packets, whether an extra is there) row by row."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int | None]] = []

    def __call__(self, records, extras) -> None:
        marks = {row: int(extra.trace_id) for row, extra in extras}
        assert list(marks) == sorted(marks)
        for row, (time_ns, number) in enumerate(
            zip(records["time_ns"].tolist(), records["packets"].tolist(), strict=True)
        ):
            self.rows.append((time_ns, number, marks.get(row)))


def put(order: Order, times, first: int, marked=()) -> None:
    records = empty(len(times))
    records["time_ns"] = times
    records["packets"] = np.arange(first, first + len(times))
    extras = []
    for row in marked:
        extra = Extra()
        extra.trace_id = str(first + row)
        extras.append((row, extra))
    order.put(records, extras)


def test_what_is_younger_waits_for_what_is_older():
    taken = Taker()
    order = Order(taken)
    put(order, [10, 20, 30], 0, marked=[1])
    order.give(15)
    assert taken.rows == [(10, 0, None)]
    put(order, [12, 20, 25], 3, marked=[2])
    order.give(20)
    assert taken.rows[1:] == [(12, 3, None), (20, 1, 1), (20, 4, None)]
    assert order
    order.give()
    assert taken.rows[4:] == [(25, 5, 5), (30, 2, None)]
    assert not order


def test_nothing_is_passed_on_where_nothing_is_old_enough():
    taken = Taker()
    order = Order(taken)
    put(order, [], 0)
    assert not order
    put(order, [5], 0)
    order.give(4)
    assert taken.rows == []


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 50), max_size=8), st.integers(0, 50)), max_size=8),
    st.integers(0, 3),
)
def test_no_row_is_lost_or_told_twice_and_extras_stay_with_their_rows(batches, every):
    taken = Taker()
    order = Order(taken)
    number, expected = 0, []
    for times, until_ns in batches:
        marked = [row for row in range(len(times)) if every and row % every == 0]
        put(order, times, number, marked)
        expected += [
            (time_ns, number + row, number + row if row in marked else None) for row, time_ns in enumerate(times)
        ]
        number += len(times)
        before = len(taken.rows)
        order.give(until_ns)
        given_now = taken.rows[before:]
        assert given_now == sorted(given_now, key=lambda row: row[0])
        assert all(time_ns <= until_ns for time_ns, _, _ in given_now)
    order.give()
    assert sorted(taken.rows, key=lambda row: row[1]) == expected
