"""Compiled expressions: mask and predicate held together, and both halves of a split held to the whole."""

from concurrent.futures import ThreadPoolExecutor
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer.filters import readings, summary_reading
from observer.filters.expression import Expression
from observer.filters.fields import FIELDS, values_of
from observer.filters.flowfilter import compile_filters
from observer.filters.language import parse
from observer.filters.pushdown import MAX_PUSHED
from observer.filters.tree import EVERYTHING, Condition, Pattern, Value, Word, term, text_of
from observer.record import L7Kind, empty
from observer.store import Store
from tests.filters.flows import store_of
from tests.filters.test_index import check, flows_of
from tests.filters.trees import PATTERNS, WORDS, pool, some_test, some_tree
from tests.tui.flows import filled

STORE = store_of(Random(3), 420, 400)
FLOWS = flows_of(STORE)


def agree(tree):
    """Both forms, both halves, and the tree that its text reads as."""
    expression = Expression(tree)
    matches = [expression.exact(flow) for flow in FLOWS]
    halves = expression.split
    server = compile_filters(halves.whitelist, halves.blacklist)
    local, pushed = Expression(halves.local), Expression(halves.pushed)
    assert [server.exact(flow) for flow in FLOWS] == [pushed.exact(flow) for flow in FLOWS]
    assert [server.exact(flow) and local.exact(flow) for flow in FLOWS] == matches
    assert parse(text_of(tree)) == tree
    found, _ = check(expression, STORE, FLOWS)
    assert found == sum(matches)
    return found


@pytest.mark.parametrize("name", FIELDS)
def test_every_operator_of_each_field_agrees(name):
    random = Random(name)
    known, _ = FIELDS[name]
    for operator in known.operators:
        tests = [Condition(name, operator, (Value(text),)) for text in pool(name, operator)]
        found = [agree(tree) for tree in [*tests, some_test(random, name, operator)]]
        assert 0 < sum(found) < len(found) * len(FLOWS), operator


@pytest.mark.parametrize("tree", [*map(Word, WORDS), *map(Pattern, PATTERNS)], ids=str)
def test_words_and_patterns_agree(tree):
    agree(tree)


def test_random_trees_agree_on_many_rows():
    random = Random(5)
    found = [agree(some_tree(random)) for _ in range(120)]
    assert sum(0 < count < len(FLOWS) for count in found) > 60


@settings(max_examples=80, deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_random_trees_agree(random):
    agree(some_tree(random, depth=4))


@pytest.mark.parametrize("name", FIELDS)
def test_a_flow_matches_the_term_of_what_it_has(name):
    known, _ = FIELDS[name]
    compiled = {}
    for flow in FLOWS:
        for value in values_of(flow, name)[:3]:
            text = term(name, value)
            if text not in compiled:
                compiled[text] = Expression.parse(text)
            assert compiled[text].exact(flow), (value, text)
    has_none = known.name in ("node-label", "ip-version", "snat-ip", "interface", "encrypted", "ip-trace-id")
    assert bool(compiled) != has_none


@pytest.mark.parametrize("text", ["cart", "10.0", "/ms|SYN/", "ip~^10|:1$", "fqdn~o", "echo or 53"])
def test_what_is_remembered_is_bounded_and_makes_no_difference(monkeypatch, text):
    expected = agree(parse(text))
    monkeypatch.setattr(readings, "ADDRESSES_KEPT", 2)
    for name in ("COMBINATIONS_KEPT", "TEXTS_KEPT"):
        monkeypatch.setattr(summary_reading, name, 2)
    assert agree(parse(text)) == expected


@pytest.mark.parametrize("text", ["cart", "/[0-9]ms/", "Kafka or 404"])
def test_rows_whose_sums_are_alike_are_told_apart(monkeypatch, text):
    expected = agree(parse(text))
    monkeypatch.setattr(summary_reading, "_FACTORS", np.zeros_like(summary_reading._FACTORS))
    assert agree(parse(text)) == expected


def test_a_line_is_asked_about_once_however_many_blocks_have_it():
    store = filled(4_000, gap_ns=1)
    lines = []
    term = summary_reading.SUMMARY.term("", lambda line: lines.append(line) or "503" in line)
    found = sum(
        int(term.bounds(columns)[1].sum()) for at in range(0, 4_000, 500) for columns in store.columns(at, at + 500)
    )
    assert found == 500
    assert 2 < len(lines) <= 2 * len(set(lines))  # flows of another verdict are not known to be alike


def test_what_is_pushed_is_bounded():
    for count, pushed in ((MAX_PUSHED // 2, True), (MAX_PUSHED // 2 + 1, False)):
        halves = Expression.parse(" or ".join(f"port={number}" for number in range(count))).split
        assert len(halves.whitelist) == (2 * count if pushed else 0)
        assert (halves.local == EVERYTHING) == pushed
        halves = Expression.parse(" ".join(f"not port={number}" for number in range(count))).split
        assert len(halves.blacklist) == MAX_PUSHED
        assert (halves.local == EVERYTHING) == pushed
    # 2 to the 6th, and to the 7th
    words = ("ip=::1", "port=1", "pod=a", "fqdn=a", "label=a", "workload=a", "cluster=a")
    assert len(Expression.parse(" ".join(words[:6])).split.whitelist) == MAX_PUSHED
    seven = Expression.parse(" ".join(words)).split
    assert (len(seven.whitelist), text_of(seven.local)) == (MAX_PUSHED, "cluster=a")


def test_words_are_judged_only_of_rows_that_are_open(monkeypatch):
    judged = []
    take = Store.take

    def counted(self, sequences):
        judged.append(len(sequences))
        return take(self, sequences)

    store = Store(1_000)
    records = empty(900)
    records["l7_kind"] = L7Kind.DNS
    records["verdict"] = np.arange(900) % 3
    store.append(records)
    (columns,) = store.columns(0, 900)
    monkeypatch.setattr(Store, "take", counted)
    for text, asked in (
        ("cart", 900),
        ("verdict=DROPPED cart", 300),
        ("cart and not (verdict=DROPPED or verdict=FORWARDED)", 300),
        ("verdict=DROPPED or cart", 600),
        ("verdict=AUDIT cart", 0),
    ):
        judged.clear()
        Expression.parse(text).bounds(columns)
        assert sum(judged) == asked, text


def test_threads_may_share_an_expression():
    expression = Expression.parse("cart or 10.0 or fqdn~o and not bytes>1k")
    expected = [expression.bounds(columns)[0].tolist() for columns in STORE.columns(STORE.first, STORE.next)]
    fresh = Expression(expression.tree)
    with ThreadPoolExecutor(4) as pool_of_threads:
        tasks = [
            pool_of_threads.submit(
                lambda: [fresh.bounds(columns)[0].tolist() for columns in STORE.columns(STORE.first, STORE.next)]
            )
            for _ in range(8)
        ]
        assert all(task.result() == expected for task in tasks)
