import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer import fragments as module
from observer.fragments import Fragments, Whole
from observer.losses import Losses

A, B, C = b"A" * 16, b"B" * 16, b"CC"
WHOLE = "fragments of no whole datagram"
OVERLAP = "overlapping fragments"


def run(pieces: list[tuple[int, bool, bytes]], key: str = "key") -> tuple[list[Whole], dict[str, int]]:
    losses = Losses()
    table = Fragments(losses)
    found = [table.add(key, 0, offset, more, 17, payload) for offset, more, payload in pieces]
    table.finish()
    assert (table._held, len(table._waiting)) == (0, 0)
    return [whole for whole in found if whole is not None], {reason: number for _, reason, number in losses}


@pytest.mark.parametrize(
    ("pieces", "payloads", "lost"),
    [
        ([(0, True, A), (16, True, B), (32, False, C)], [A + B + C], {}),
        ([(32, False, C), (16, True, B), (0, True, A)], [A + B + C], {}),
        ([(0, False, A)], [A], {}),
        ([(0, True, A), (32, False, C)], [], {WHOLE: 2}),
        ([(0, True, A), (16, True, B)], [], {WHOLE: 2}),
        ([(0, True, A), (0, True, A), (16, False, C)], [A + C], {"duplicate fragment": 1}),
        ([(16, False, C), (16, False, C), (0, True, A)], [A + C], {"duplicate fragment": 1}),
        # overlaps: the same place with other bytes, one byte block over, within, around
        ([(0, True, A), (0, True, B), (16, False, C)], [], {OVERLAP: 3}),
        ([(0, True, A), (8, True, B)], [], {OVERLAP: 2}),
        ([(8, True, A), (0, True, B)], [], {OVERLAP: 2}),
        ([(0, True, A + B), (8, True, A), (32, False, C)], [], {OVERLAP: 3}),
        ([(8, True, A), (0, True, A + B)], [], {OVERLAP: 2}),
        # the end contradicts what is known
        ([(16, False, C), (24, False, C)], [], {OVERLAP: 2}),
        ([(32, True, A), (16, False, C)], [], {OVERLAP: 2}),
        ([(16, False, C), (32, True, A)], [], {OVERLAP: 2}),
        ([(16, False, A), (16, True, A)], [], {OVERLAP: 2}),
        # what can be no fragment
        ([(0, True, b"")], [], {"impossible fragment": 1}),
        ([(0, True, b"seven..")], [], {"impossible fragment": 1}),
        ([(65528, False, b"12345678")], [], {"impossible fragment": 1}),
        ([(65528, False, b"1234567")], [], {WHOLE: 1}),
    ],
)
def test_fragments(pieces: list[tuple[int, bool, bytes]], payloads: list[bytes], lost: dict[str, int]) -> None:
    found, counted = run(pieces)
    assert [whole.payload for whole in found] == payloads
    assert counted == lost


def test_the_protocol_is_that_of_the_first_fragment() -> None:
    table = Fragments(Losses())
    assert table.add("key", 0, 16, False, 44, C) is None
    assert table.add("key", 0, 0, True, 17, A) == Whole(17, A + C)


def test_keys_do_not_mix() -> None:
    table = Fragments(Losses())
    for key in ("a", "b"):
        assert table.add(key, 0, 0, True, 17, A) is None
    for key in ("b", "a"):
        assert table.add(key, 0, 16, False, 17, key.encode()) == Whole(17, A + key.encode())


def test_age() -> None:
    losses = Losses()
    table = Fragments(losses)
    table.add("old", 0, 0, True, 17, A)
    table.add("new", 1, 0, True, 17, A)
    assert table.add("old", module.MAX_AGE_NS, 16, False, 17, C) is not None
    table.add("old", 2, 0, True, 17, A)
    table.add("other", module.MAX_AGE_NS + 2, 0, True, 17, A)
    assert losses.snapshot() == {("decode", WHOLE): 1}, "only the one from before 2 ns is too old"


def test_bound_on_datagrams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DATAGRAMS", 3)
    losses = Losses()
    table = Fragments(losses)
    for key in range(5):
        table.add(key, 0, 0, True, 17, A)
    assert losses.snapshot() == {("decode", "too many datagrams in fragments"): 2}
    assert table.add(4, 0, 16, False, 17, C) == Whole(17, A + C)
    assert table.add(0, 0, 16, False, 17, C) is None


def test_bound_on_bytes() -> None:
    losses = Losses()
    table = Fragments(losses)
    piece = bytes(1 << 15)
    for key in range(400):
        table.add(key, 0, 0, True, 17, piece)
        assert table._held <= module.MAX_BYTES
    held = module.MAX_BYTES // (len(piece) + module.PIECE_OVERHEAD)
    assert losses.snapshot() == {("decode", "too many bytes in fragments"): 400 - held}


def test_bound_on_tiny_pieces() -> None:
    losses = Losses()
    table = Fragments(losses)
    for number in range(80_000):
        key, index = divmod(number, 4000)
        table.add(key, 0, 16 * index, True, 17, b"12345678")
    pieces = sum(len(datagram.starts) for datagram in table._waiting.values())
    assert pieces <= module.MAX_BYTES // module.PIECE_OVERHEAD
    assert losses.get("decode", "too many bytes in fragments") == 80_000 - pieces > 0


@given(st.binary(min_size=1, max_size=600), st.sets(st.integers(1, 74)), st.integers(0, 9))
def test_any_cut_in_any_order(payload: bytes, cuts: set[int], seed: int) -> None:
    edges = [0, *sorted(8 * cut for cut in cuts if 8 * cut < len(payload)), len(payload)]
    pieces = [(start, end != len(payload), payload[start:end]) for start, end in pairwise(edges)]
    random.Random(seed).shuffle(pieces)
    found, lost = run(pieces)
    assert [whole.payload for whole in found] == [payload]
    assert lost == {}


@given(st.lists(st.tuples(st.integers(0, 6).map(lambda n: n * 8), st.booleans(), st.binary(max_size=24))))
def test_every_fragment_is_counted_once_or_part_of_a_datagram(pieces: list[tuple[int, bool, bytes]]) -> None:
    found, lost = run(pieces)
    parts = len(pieces) - sum(lost.values())
    assert len(found) <= parts
    assert (parts == 0) == (not found)
