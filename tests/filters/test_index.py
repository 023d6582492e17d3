"""Mask and exact predicate held together on random records, through the encoder that makes the flows."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer.api import flow_pb2
from observer.filters import index
from observer.filters.flowfilter import FilterTree, compile_filters
from observer.filters.index import Judged, one_of
from observer.record import L7Kind, empty, pack_text
from observer.store import Store
from observer.wire import FlowEncoder
from tests.filters.flows import ENDPOINTS, FIELDS, add_field, flow_filter, store_of


def flows_of(store: Store) -> list[flow_pb2.Flow]:
    records, extras, nodes, sequences = store.take(np.arange(store.first, store.next))
    return [
        flow_pb2.Flow.FromString(flow) for flow in FlowEncoder(store).encode_many(records, extras, sequences, nodes)
    ]


def check(tree: Judged, store: Store, flows: list[flow_pb2.Flow]) -> tuple[int, int]:
    """Compare both forms on every row; return how many rows matched and how many were left to the exact form."""
    matches = np.array([tree.exact(flow) for flow in flows])
    windows = store.columns(store.first, store.next)
    bounds = [tree.bounds(columns) for columns in windows]
    maybe, sure = (np.concatenate([each[side] for each in bounds]) for side in (0, 1))
    too_little = np.flatnonzero(matches & ~maybe)
    too_sure = np.flatnonzero(sure & ~matches)
    assert len(too_little) == 0, flows[too_little[0]]
    assert len(too_sure) == 0, flows[too_sure[0]]
    for columns in windows:
        if not isinstance(tree, FilterTree):
            continue
        mask, exact = tree.mask(columns)
        rows = slice(columns.start - store.first, columns.start - store.first + columns.length)
        assert exact == (maybe[rows] == sure[rows]).all()
        assert (mask == maybe[rows]).all()
    return int(matches.sum()), int((maybe & ~sure).sum())


STORE = store_of(Random(1), 1500, 1024)
FLOWS = flows_of(STORE)
IMPORTED = int((STORE.hot("flags") & 4 != 0).sum())
NEEDS_FLOW = {"http_status_code"}  # codes of four digits


@pytest.mark.parametrize("field", FIELDS)
def test_both_forms_of_each_field_agree(field):
    random = Random(field)
    matched = 0
    for _ in range(12):
        wanted = flow_pb2.FlowFilter()
        add_field(random, wanted, field)
        for tree in (compile_filters([wanted]), compile_filters([], [wanted])):
            matches, unsure = check(tree, STORE, FLOWS)
            assert field in NEEDS_FLOW or unsure <= IMPORTED
            matched += matches
    assert 0 < matched < 24 * len(FLOWS)


def test_a_uuid_finds_its_row():
    wanted = flow_pb2.FlowFilter(uuid=[STORE.uuid(STORE.next - 1), STORE.uuid(STORE.first), STORE.uuid(0), "x"])
    matches, _ = check(compile_filters([wanted]), STORE, FLOWS)
    native = [flow.uuid for flow in (FLOWS[0], FLOWS[-1]) if flow.uuid != "elsewhere"]
    assert matches == len(native) > 0


@settings(max_examples=60, deadline=None)
@given(
    random=st.randoms(use_true_random=False),
    count=st.integers(1, 12),
    capacity=st.integers(1, 16),
    lists=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_lists_of_filters_agree_on_a_ring_that_wraps(random, count, capacity, lists):
    store = store_of(random, count, capacity)
    whitelist, blacklist = ([flow_filter(random) for _ in range(number)] for number in lists)
    check(compile_filters(whitelist, blacklist), store, flows_of(store))


def test_lists_of_filters_agree_on_many_rows():
    random = Random(2)
    for _ in range(150):
        whitelist, blacklist = ([flow_filter(random) for _ in range(random.randint(0, 2))] for _ in range(2))
        check(compile_filters(whitelist, blacklist), STORE, FLOWS)


def test_texts_that_join_to_the_same_bytes_are_judged_apart():
    store = Store(4)
    records = empty(4)
    records["l7_kind"] = L7Kind.HTTP
    for row, texts in enumerate([(b"/a", b"b.org"), (b"/ab", b".org"), (b"/a", b"b.org"), (b"/ab.org",)]):
        records["text_length"][row], text, _ = pack_text(texts)
        records["text"][row, : len(text)] = list(text)
    store.append(records)
    (columns,) = store.columns(0, 4)
    maybe, sure = compile_filters([flow_pb2.FlowFilter(http_path=["^/a$"])]).bounds(columns)
    assert maybe.tolist() == sure.tolist() == [True, False, True, False]


def test_a_judge_that_forgets_says_the_same(monkeypatch):
    monkeypatch.setattr(index, "TEXTS_KEPT", 3)
    for wanted in ({"http_path": ["cart"]}, {"http_url": ["shop"]}, {"dns_query": ["svc"]}, {"http_method": ["purge"]}):
        matches, unsure = check(compile_filters([flow_pb2.FlowFilter(**wanted)]), STORE, FLOWS)
        assert matches > 0
        assert unsure <= IMPORTED


def test_an_endpoint_that_comes_later_is_asked_too():
    store = Store(8)
    tree = compile_filters([flow_pb2.FlowFilter(source_pod=["shop/"])])
    records = np.array(STORE.take(np.array([STORE.first]))[0])
    records["flags"] = 0
    for number, endpoint in enumerate(ENDPOINTS, 1):
        assert store.endpoints.intern(endpoint) == number
        records["source_endpoint"] = number
        store.append(records)
        (columns,) = store.columns(0, store.next)
        maybe, sure = tree.bounds(columns)
        expected = [each.namespace == "shop" for each in ENDPOINTS[:number]]
        assert maybe.tolist() == sure.tolist() == expected


@pytest.mark.parametrize("values", [[], [3], [1, 2, 3, 300, -1], list(range(0, 200, 7)), [70_000]])
@pytest.mark.parametrize("kind", ["u1", "u2", "u4"])
def test_one_of_takes_few_values_many_and_those_that_do_not_fit(values, kind):
    column = np.arange(250).astype(kind)
    assert one_of(column, values).tolist() == [int(value) in values for value in column]
