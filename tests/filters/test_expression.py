"""Compiled expressions: mask and predicate held together, and both halves of a split held to the whole."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer.filters.expression import Expression
from observer.filters.fields import FIELDS, values_of
from observer.filters.flowfilter import compile_filters
from observer.filters.language import Condition, Pattern, Value, Word, parse, term, text_of
from tests.filters.flows import store_of
from tests.filters.test_index import check, flows_of
from tests.filters.trees import PATTERNS, WORDS, pool, some_test, some_tree

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
