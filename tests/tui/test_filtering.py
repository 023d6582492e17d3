"""The filter's text: quick filters and cells change it, cells' tests match the flows they were taken from."""

import pytest

from observer.errors import FilterError
from observer.filters.expression import Expression
from tests.tui.driving import shop
from tests.tui.test_view import refused
from tui.columns import COLUMNS
from tui.filtering import NONE, cell_test, flow_test, quick, read, with_cell, with_quick


@pytest.mark.parametrize(
    ("text", "field", "value", "changed"),
    [
        ("", "pod", "cart", "pod=/cart"),
        ("", "pod", "shop/cart", "pod=shop/cart"),
        ("pod=shop/a and dns", "pod", "shop/b", "pod=shop/b and dns"),
        ("dns and pod=shop/a", "pod", "", "dns"),
        ("pod=shop/a", "pod", "", ""),
        ("dns or http", "verdict", "DROPPED", "(dns or http) and verdict=DROPPED"),
        ("verdict=DROPPED", "port", "80", "verdict=DROPPED and port=80"),
        ("not verdict=DROPPED", "verdict", "AUDIT", "not verdict=DROPPED and verdict=AUDIT"),
    ],
)
def test_quick_filters_change_their_part_of_the_text(text, field, value, changed):
    got = with_quick(text, field, value)
    assert got == changed
    assert quick(got, field) == ("/" + value if field == "pod" and value and "/" not in value else value)


@pytest.mark.parametrize(("field", "value"), [("port", "http"), ("port", "80 or dns or x=1"), ("verdict", "MAYBE")])
def test_a_quick_value_that_is_none_is_refused(field, value):
    with pytest.raises(FilterError):
        read(with_quick("", field, value))


def test_what_a_server_can_do_is_told_apart():
    assert read("") is NONE
    assert read("verdict=DROPPED").where(pushed=True) == "pushed to server"
    assert read("verdict=DROPPED and latency>1ms").where(pushed=True) == "pushed to server in part, rest local"
    assert read("latency>1ms").where(pushed=True) == "local"
    assert read("verdict=DROPPED").where(pushed=False) == "local"


@pytest.mark.parametrize("exclude", [False, True])
def test_cells_are_added_to_any_text(exclude):
    assert with_cell("dns or http", "port=53", exclude=exclude) == f"(dns or http) and {'not ' * exclude}port=53"


@pytest.mark.parametrize("field", [*[column.field for column in COLUMNS], "port"])
def test_a_cells_test_selects_the_flow_it_is_from(field):
    source = shop()
    try:
        from observer.api import observer_pb2

        flows = [response.flow for response in source.get_flows(observer_pb2.GetFlowsRequest(number=1000))]
    finally:
        source.close()
    tested = 0
    for flow in flows:
        test = cell_test(flow, field)
        if test:
            assert Expression.parse(test).exact(flow), test
            tested += 1
    assert bool(tested) == (field != "time")


def test_a_filter_for_flows_like_this_one():
    text = flow_test(refused())
    assert text == "pod=shop/stranger and pod=shop/payment and port=8080 and http and verdict=DROPPED"
    assert Expression.parse(text).exact(refused())
