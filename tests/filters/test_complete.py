"""Completion and validation: what is offered at a cursor, what it replaces, and the counts of live values."""

from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.filters import complete as module
from observer.filters import live
from observer.filters.complete import State, check, complete
from observer.filters.fields import FIELDS, TABLE, values_of
from observer.filters.language import MAX_LENGTH, parse
from observer.record import L7Kind, empty, pack_text
from observer.store import Store
from tests.filters.flows import store_of
from tests.filters.test_index import flows_of

STORE = store_of(Random(7), 900, 700)


def shop_of(counts: dict[str, int]) -> Store:
    """A store of DNS queries, so many of each name."""
    store = Store(max(1, sum(counts.values())))
    for name, count in counts.items():
        records = empty(count)
        records["l7_kind"] = L7Kind.DNS
        records["text_length"], text, _ = pack_text((name.encode(),))
        records["text"][:, : len(text)] = list(text)
        store.append(records)
    return store


@pytest.mark.parametrize(
    ("text", "start", "stop", "offered"),
    [
        ("|", 0, 0, ["pod", "namespace", "ip"]),
        ("to-po|", 0, 5, ["to-pod", "to-port"]),
        ("TO-POD|", 6, 6, ["=", "!=", "~", "!~", "in ("]),
        ("to-pod |", 7, 7, ["=", "!=", "~", "!~", "in ("]),
        ("latency|", 7, 7, ["=", "!=", "<", "<=", ">", ">=", "in ("]),
        ("to-pod !|", 7, 8, ["!=", "!~"]),
        ("to-pod i|", 7, 8, ["in ("]),
        ("kaf|", 0, 3, ["kafka.topic", "kafka.api", "kafka"]),
        ("http|", 0, 4, ["http.method", "http.path", "http.url", "http.status", "http.header", "http"]),
        ("an|", 0, 2, ["and"]),
        ("dns |", 4, 4, ["pod", "namespace", "ip"]),
        ("dns and |", 8, 8, ["pod", "namespace"]),
        ("(not ver|", 5, 8, ["verdict"]),
        ("(dns |", 5, 5, ["pod"]),
        ("verdict=dro|", 8, 11, ["DROPPED"]),
        ("verdict=dro| and dns", 8, 11, ["DROPPED"]),
        ("verdict=d|ro and dns", 8, 11, ["DROPPED"]),
        ("verdict in (|", 12, 12, ["DROPPED"]),
        ("verdict in (ERROR, fo|", 19, 21, ["FORWARDED"]),
        ("grpc.status=unav|", 12, 16, ["UNAVAILABLE"]),
        ("latency>|", 8, 8, ["1ms", "10ms", "100ms", "1s"]),
        ("pod=cart|", 4, 8, ["shop/cart-0", "default/cart-frontend"]),
        ('pod="cart|', 4, 9, ["shop/cart-0", "default/cart-frontend"]),
        ("pod~cart|", 4, 8, ["^shop/cart-0$", "^default/cart-frontend$"]),
        ("http.path=^/ca|", 10, 14, ["^/cart$"]),
    ],
)
def test_what_is_offered(text, start, stop, offered):
    cursor = text.index("|")
    found = complete(text.replace("|", ""), cursor, STORE)
    assert (found.start, found.stop) == (start, stop)
    told = [item.text for item in found.items]
    if offered[0] == "shop/cart-0" or "^shop/cart-0$" in offered or "DROPPED" in offered:
        assert set(offered) <= set(told)
    else:
        assert told[: len(offered)] == offered


@pytest.mark.parametrize(
    "text",
    ["a) |", "to-pod>|", "nope=|", "verdict in (DROPPED |", "a, |", '"pod|', "/pod|", "x" * (MAX_LENGTH + 1) + "|"],
)
def test_nothing_is_offered(text):
    cursor = text.index("|")
    found = complete(text.replace("|", ""), cursor, STORE)
    assert found.items == ()


def test_values_come_most_frequent_first_and_are_quoted():
    store = shop_of({"b.org.": 2, "a.org.": 5, "c d.": 1, "": 9})
    found = complete("dns and dns.query=", 18, store)
    assert [(item.text, item.count) for item in found.items] == [
        (r"^a\.org\.$", 5),
        (r"^b\.org\.$", 2),
        (r'"^c d\\.$"', 1),
    ]


def test_only_the_newest_rows_are_read_for_strings(monkeypatch):
    monkeypatch.setattr(live, "NEWEST", 4)
    found = complete("dns.query=", 10, shop_of({"old.": 9, "new.": 4}))
    assert [(item.text, item.count) for item in found.items] == [(r"^new\.$", 4)]


def test_candidates_are_bounded():
    found = complete("dns.query=", 10, shop_of({f"{number}.": 1 for number in range(80)}))
    assert len(found.items) == module.MAX_CANDIDATES


def test_an_empty_store_offers_what_the_table_knows():
    found = complete("verdict=", 8, Store(1))
    assert [item.text for item in found.items] == list(FIELDS["verdict"][0].choices)
    assert complete("pod=", 4, Store(1)).items == ()


def test_every_field_has_values_to_offer_or_none_that_anybody_would_choose_from():
    silent = {"node-label", "http.header", "snat-ip", "interface", "uuid", "trace-id", "ip-trace-id"}
    assert {field.name for field in TABLE if field.name not in live.LIVE and not field.choices} == silent
    assert set(live.LIVE) <= {field.name for field in TABLE}


@pytest.mark.parametrize("name", [name for name in live.LIVE if name not in ("type", "ip", "identity")])
def test_live_values_are_those_of_the_flows(name):
    store = store_of(Random(11), 300, 300)
    store._hot["flags"][:] &= ~np.uint32(4)
    known, _ = FIELDS[name]
    flows = [flow for flow in flows_of(store) if flow.uuid != "elsewhere"]
    for side in ("source", "destination") if known.sided else ("",):
        counted = live.LIVE[name](store, side)
        label = {"source": "from-", "destination": "to-", "": ""}[side] + name
        told: Counter[str] = Counter()
        for flow in flows:
            told.update(set(values_of(flow, label)))
        if name == "pod":
            told = Counter({text: count for text, count in told.items() if not text.endswith("/")})
        assert told.keys() & counted.keys()
        if name != "grpc.method":  # some are told by the extra alone
            missing = {text for text in told if text not in counted}
            assert len(missing) <= len(told) / 2, missing  # strings that were cut, and other servers' flows


@given(st.text(max_size=40) | st.text('a="\\/()!&|~<> ,*', max_size=40), st.integers(0, 40))
def test_any_text_and_cursor_are_taken(text, cursor):
    found = complete(text, min(cursor, len(text)), STORE)
    assert 0 <= found.start <= found.stop <= len(text)
    assert all(item.text.isprintable() for item in found.items)
    told = check(text)
    assert told.message.isprintable()
    assert len(told.message) < 600


@pytest.mark.parametrize("name", [field.name for field in TABLE])
def test_every_value_offered_makes_a_filter(name):
    for sign in FIELDS[name][0].operators:
        before = f"{name} in (" if sign == "in" else f"{name}{sign}"
        for item in complete(before, len(before), STORE).items:
            text = before + item.text + (")" if sign == "in" else "")
            assert check(text).state is State.OK, text
            parse(text)


@pytest.mark.parametrize(
    ("text", "state", "message", "position"),
    [
        ("", State.OK, "", 0),
        ("dns and to-pod=a", State.OK, "", 0),
        ("dns and", State.INCOMPLETE, "expected a test after `and`", 7),
        ("dns and to-pod=", State.INCOMPLETE, "expected a value after `to-pod=`", 15),
        ("dns and nope=a", State.ERROR, "unknown field `nope`; did you mean `node`?", 8),
        ("port in (80, x)", State.ERROR, None, 13),
        ("pod~(", State.ERROR, "error parsing regexp: missing closing ): `(`", 4),
        ("dns /(/", State.ERROR, "error parsing regexp: missing closing ): `(`", 4),
        ("ip=1.2.3", State.ERROR, 'invalid IP address in filter: "1.2.3"', 3),
        ("verdict=x", State.ERROR, None, 8),
        ("latency>20", State.ERROR, "expected a duration such as 20ms or 1.5s, not `20`", 8),
        (r'latency>"\x1b[2J"', State.ERROR, r"expected a duration such as 20ms or 1.5s, not `\x1b[2J`", 8),
        ("x" * 4000 + "=1", State.ERROR, f"unknown field `{'x' * 64}...`; to find a text with `=`, quote it", 0),
        ("bytes>1x", State.ERROR, "expected a size such as 900, 1k or 2.5M, not `1x`", 6),
    ],
)
def test_what_is_said_while_typing(text, state, message, position):
    told = check(text)
    assert (told.state, told.position) == (state, position)
    assert message is None or told.message == message
