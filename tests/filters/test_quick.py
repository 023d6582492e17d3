"""The quick filters as requests: pod and port on either side, refused values in one line."""

import pytest

from observer.api import flow_pb2
from observer.errors import FilterError
from observer.filters.quick import QuickFilter


def test_no_filter_asks_for_everything_and_follows():
    request = QuickFilter().request(100)
    assert (request.number, request.follow, list(request.whitelist)) == (100, True, [])


@pytest.mark.parametrize(
    ("quick", "filters"),
    [
        (QuickFilter(verdict="DROPPED"), [{"verdict": ["DROPPED"]}]),
        (QuickFilter(pod="shop/cart"), [{"source_pod": ["shop/cart"]}, {"destination_pod": ["shop/cart"]}]),
        (QuickFilter(pod="cart"), [{"source_pod": ["/cart"]}, {"destination_pod": ["/cart"]}]),
        (QuickFilter(port="8080"), [{"source_port": ["8080"]}, {"destination_port": ["8080"]}]),
        (
            QuickFilter(pod="a/b", verdict="AUDIT", port="53"),
            [
                {"source_pod": ["a/b"], "source_port": ["53"], "verdict": ["AUDIT"]},
                {"source_pod": ["a/b"], "destination_port": ["53"], "verdict": ["AUDIT"]},
                {"destination_pod": ["a/b"], "source_port": ["53"], "verdict": ["AUDIT"]},
                {"destination_pod": ["a/b"], "destination_port": ["53"], "verdict": ["AUDIT"]},
            ],
        ),
    ],
)
def test_a_quick_filter_as_a_whitelist(quick, filters):
    assert list(quick.request(1).whitelist) == [flow_pb2.FlowFilter(**one) for one in filters]


@pytest.mark.parametrize("quick", [QuickFilter(port="http"), QuickFilter(port="70000"), QuickFilter(verdict="MAYBE")])
def test_a_refused_value_is_one_line(quick):
    with pytest.raises(FilterError) as caught:
        quick.request(1)
    assert "\n" not in str(caught.value)


def test_it_says_what_it_filters():
    assert str(QuickFilter(pod="shop/cart", port="8080")) == "pod shop/cart, port 8080"
    assert str(QuickFilter()) == ""
