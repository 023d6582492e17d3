"""Label selectors: Kubernetes' grammar over Cilium's labels."""

import pytest

from observer.errors import FilterError
from observer.filters.labels import Label, parse_label, parse_selector

CART = ("k8s:app=cart", "k8s:io.kubernetes.pod.namespace=shop", "k8s:tier=3", "container:zone=a")


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        ("", (), True),
        ("app", CART, True),
        ("app", ("app",), True),
        ("app", (), False),
        ("app=cart", CART, True),
        ("app==cart", CART, True),
        ("app = cart", CART, True),
        ("app=car", CART, False),
        ("k8s:app=cart", CART, True),
        ("k8s.app=cart", CART, True),
        ("any:app=cart", CART, True),
        ("container:app=cart", CART, False),
        ("zone=a", CART, True),
        ("k8s:zone=a", CART, False),
        ("io.kubernetes.pod.namespace=shop", CART, True),
        ("k8s:io.kubernetes.pod.namespace=shop", CART, True),
        ("app!=cart", CART, False),
        ("app!=cart", (), True),  # also without the key
        ("!app", CART, False),
        ("!other", CART, True),
        ("! other", CART, True),
        ("app in (a, cart)", CART, True),
        ("app in (a)", CART, False),
        ("app in (a)", (), False),
        ("app notin (a)", (), True),
        ("app notin (a, cart)", CART, False),
        ("in in (in)", ("in=in",), True),
        ("x in ()", ("x",), True),  # the empty value
        ("x in (,a)", ("x",), True),
        ("x in (a,)", ("x=",), True),
        ("x in (a,,b)", ("x",), True),
        ("x in (a,b)", ("x",), False),
        ("x=", ("x",), True),
        ("x=,y", ("x", "y"), True),
        ("tier>2", CART, True),
        ("tier>3", CART, False),
        ("tier<4", CART, True),
        ("app>2", CART, False),  # no number
        ("other<4", CART, False),
        ("tier>1", ("tier=9223372036854775808",), False),  # over 64 bits
        ("app=cart,tier=3", CART, True),
        ("app=cart,tier=4", CART, False),
        ("app,tier notin (4), !x", CART, True),
        ("reserved:world", ("reserved:world",), True),
        ("label1=val1", ("label1=val1=toomuch",), False),
        ("app.kubernetes.io/name=cart", ("k8s:app.kubernetes.io/name=cart",), True),
        ("k8s:app.kubernetes.io/name=cart", ("k8s:app.kubernetes.io/name=cart",), True),
        ("app=a", ("container:app=b", "k8s:app=a"), False),  # any source: the first in order of keys
    ],
)
def test_selectors(selector, labels, matches):
    assert parse_selector(selector)(labels) is matches


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("=", "found '=', expected: !, identifier, or 'end of string'"),
        ("()", "found '(', expected: !, identifier, or 'end of string'"),
        ("app,", "found '', expected: identifier after ','"),
        ("app,,x", "found ',', expected: identifier after ','"),
        ("app tier", "unable to parse requirement: found 'tier', expected: in, notin, =, ==, !=, gt, lt"),
        ("app=a b", "found 'b', expected: ',' or 'end of string'"),
        ("app in a", "unable to parse requirement: found 'a' expected: '('"),
        ("app in (a", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("app in (a b)", "unable to parse requirement: found 'b', expected: ',' or ')'"),
        ("app in (a,(", "unable to parse requirement: found '(', expected: ',', or identifier"),
        ("app==(", "unable to parse requirement: found '(', expected: identifier"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("!=a", "found '!=', expected: !, identifier, or 'end of string'"),
        ("app>x", "unable to parse requirement: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an"),
        ("any:k8s:app", 'unable to parse requirement: Invalid value: "any.k8s:app"'),
        ("app=a:b", 'unable to parse requirement: Invalid value: "a:b"'),
        ("app=-a", 'unable to parse requirement: Invalid value: "-a"'),
        ("app=" + "a" * 64, "unable to parse requirement: Invalid value"),
        ("Up_per/name", "unable to parse requirement: Invalid value"),
        ("  ", "unable to parse requirement: found '', expected: identifier"),
    ],
)
def test_selectors_that_are_refused(selector, message):
    with pytest.raises(FilterError) as refused:
        parse_selector(selector)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("k8s:app=cart", Label("k8s", "app", "cart")),
        ("app=cart", Label("", "app", "cart")),
        ("app", Label("", "app", "")),
        ("reserved:host", Label("reserved", "host", "")),
        ("k8s:a=b=c", Label("k8s", "a", "b=c")),
        ("$host", Label("reserved", "host", "")),
        ("", Label("", "", "")),
    ],
)
def test_labels_in_parts(text, label):
    assert parse_label(text) == label
