import pytest

from observer.l7.message import Message, Side
from observer.record import HttpMethod, L7Kind, L7Type, ObservationPoint
from observer.tag import method_of, path_of, point

PATHS = [
    (b"/a?b", b"/a?b"),
    (b"*", b"*"),
    (b"/http://x/y", b"/http://x/y"),
    (b"http://shop", b"/"),
    (b"http://shop/", b"/"),
    (b"http://shop:80/a?b=http://c/d", b"/a?b=http://c/d"),
    (b"http://shop?b/c", b"/?b/c"),
    (b"a+b.c-1://shop/a", b"/a"),
    (b"shop:443", b"shop:443"),
    (b"", b""),
]


@pytest.mark.parametrize(("target", "path"), PATHS)
def test_the_path_that_rules_are_about(target, path):
    assert path_of(target) == path


METHODS = [
    (HttpMethod.GET, (b"/", b"h"), b"GET"),
    (HttpMethod.DELETE, (b"/", b"h"), b"DELETE"),
    (HttpMethod.OTHER, (b"/", b"h", b"PURGE"), b"PURGE"),
    (HttpMethod.OTHER, (), b""),
    (None, (b"/",), b""),
    (77, (b"/",), b""),
]


@pytest.mark.parametrize(("method", "texts", "spelled"), METHODS)
def test_the_method_as_it_was_sent(method, texts, spelled):
    message = Message(L7Kind.HTTP, L7Type.REQUEST, Side.CLIENT, 0, texts, method)
    assert method_of(message) == spelled


POINTS = [
    (False, False, ObservationPoint.FROM_NETWORK),
    (True, False, ObservationPoint.TO_STACK),
    (False, True, ObservationPoint.TO_ENDPOINT),
    (True, True, ObservationPoint.TO_ENDPOINT),
]


@pytest.mark.parametrize(("source", "destination", "expected"), POINTS)
def test_where_a_packet_is_observed(source, destination, expected):
    assert point(source, destination) == expected
