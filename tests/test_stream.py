import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer import stream
from observer.losses import Losses
from observer.stream import Assembly, Stream

NOT_CAPTURED = "gap: segment not captured"


def new(sequence: int | None = 0):
    """A stream whose first byte is `sequence`."""
    losses = Losses()
    made = Stream(Assembly(losses))
    if sequence is not None:
        made.start(sequence - 1)
    return made, losses


TRANSCRIPTS = {
    "in order": ([(0, b"ab"), (2, b"cd")], [b"ab", b"cd"]),
    "empty segment": ([(0, b""), (0, b"a")], [b"a"]),
    "retransmission": ([(0, b"ab"), (0, b"ab"), (2, b"c")], [b"ab", b"c"]),
    "retransmission with more": ([(0, b"ab"), (0, b"abcd")], [b"ab", b"cd"]),
    "keep-alive": ([(0, b"ab"), (1, b"b"), (2, b"c")], [b"ab", b"c"]),
    "reordering": ([(2, b"cd"), (0, b"ab")], [b"ab", b"cd"]),
    "three turned round": ([(4, b"ef"), (2, b"cd"), (0, b"ab")], [b"ab", b"cd", b"ef"]),
    "held twice": ([(2, b"cd"), (2, b"cd"), (0, b"ab")], [b"ab", b"cd"]),
    "overlap: what was held first wins": ([(2, b"CD"), (0, b"abcdef")], [b"ab", b"CD", b"ef"]),
    "overlap: what was given wins": ([(0, b"abc"), (1, b"XYZ!")], [b"abc", b"Z!"]),
    "overlap among the held": ([(3, b"DE"), (1, b"bcdefg"), (0, b"a")], [b"a", b"bc", b"DE", b"fg"]),
    "before the start": ([(-2, b"xxab")], [b"ab"]),
    "far before the start": ([(-(1 << 20), b"xx"), (0, b"a")], [b"a"]),
}


@pytest.mark.parametrize("base", [0, 1, 0x7FFFFFFE, 0x80000000, 0xFFFFFFFD, 0xFFFFFFFF])
@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcripts_wherever_the_sequence_numbers_lie(name, base):
    segments, expected = TRANSCRIPTS[name]
    made, losses = new(base)
    given = [piece for at, data in segments for piece in made.segment((base + at) & 0xFFFFFFFF, data)]
    assert given == expected
    assert not made.waits
    assert made._assembly.held == 0
    assert losses.total() == 0


def test_a_stream_without_syn_starts_with_its_first_segment():
    made, _ = new(None)
    assert made.segment(77, b"ab") == (b"ab",)
    assert list(made.segment(70, b"old")) == []
    assert made.segment(79, b"c") == (b"c",)


def test_bytes_cut_by_the_snap_length_are_a_gap():
    made, losses = new()
    assert list(made.segment(0, b"ab", 3)) == [b"ab", 3]
    assert list(made.segment(7, b"h", 2)) == []
    assert list(made.segment(5, b"fg")) == [b"fg", b"h", 2]
    assert losses.snapshot() == {("stream", "gap: cut by the snap length"): 2}


def test_what_is_not_captured_may_still_come_while_it_is_held():
    made, _ = new()
    assert list(made.segment(2, b"c", 2)) == []
    assert list(made.segment(0, b"abXdeXX")) == [b"ab", b"c", 2, b"XX"]  # first wins, also where it was cut


ACKNOWLEDGMENTS = [
    (3, [], True),  # the hole is still open for the receiver
    (4, [2, b"ef"], True),  # the receiver has what is missing here
    (6, [2, b"ef"], True),
    (8, [2, b"ef", 2, b"ij"], False),
    (10, [2, b"ef", 2, b"ij"], False),
    (-5, [], True),
]


@pytest.mark.parametrize("base", [0, 0xFFFFFFFA])
@pytest.mark.parametrize(("ack", "expected", "waits"), ACKNOWLEDGMENTS)
def test_a_hole_that_the_receiver_acknowledged_is_given_up(ack, expected, waits, base):
    made, losses = new(base)
    made.segment(base, b"ab")
    made.segment((base + 4) & 0xFFFFFFFF, b"ef")
    made.segment((base + 8) & 0xFFFFFFFF, b"ij")
    assert list(made.acknowledged((base + ack) & 0xFFFFFFFF)) == expected
    assert made.waits is waits
    assert losses.get("stream", NOT_CAPTURED) == sum(isinstance(piece, int) for piece in expected)


def test_flush_gives_everything_held():
    made, losses = new()
    made.segment(1, b"b")
    made.segment(3, b"d")
    assert list(made.flush()) == [1, b"b", 1, b"d"]
    assert losses.snapshot() == {("stream", NOT_CAPTURED): 2}
    assert list(made.segment(0, b"abcd")) == []  # too late


def test_drop_frees_what_is_held():
    made, _ = new()
    made.segment(5, b"x" * 100)
    assert made._assembly.held == 100 + stream.SEGMENT_COST
    made.drop()
    assert made._assembly.held == 0
    assert not made.waits


@pytest.mark.parametrize("base", [0, 0xFFFFFFFE])
def test_a_stream_has_ended_when_all_before_its_fin_was_given(base):
    made, _ = new(base)
    assert not made.ended
    made.finish((base + 4) & 0xFFFFFFFF)
    made.segment((base + 2) & 0xFFFFFFFF, b"cd")
    assert not made.ended
    made.segment(base, b"ab")
    assert made.ended


def test_a_fin_before_bytes_already_given_is_none():
    made, _ = new()
    made.segment(0, b"abcd")
    made.finish(3)
    assert not made.ended
    made.finish(9)  # nor is this one the end, as it turns out
    made.finish(4)
    assert made.ended


def test_bound_of_one_direction(monkeypatch):
    monkeypatch.setattr(stream, "MAX_HELD", 1000)
    made, losses = new()
    given = []
    for at in range(1, 50):
        given += made.segment(at * 1000, b"x" * 200)
        assert made._assembly.held <= 1000 + 200 + stream.SEGMENT_COST
    assert losses.get("stream", "gap: too much waits behind it in one direction") == len(given) // 2 > 0
    assert given[:2] == [1000, b"x" * 200]


def test_bound_holds_against_tiny_segments(monkeypatch):
    monkeypatch.setattr(stream, "MAX_HELD", 1000)
    made, _ = new()
    for at in range(1, 1000):
        made.segment(2 * at, b"x")
        assert len(made._starts) <= 1000 // stream.SEGMENT_COST + 1


def test_bound_of_all_directions(monkeypatch):
    monkeypatch.setattr(stream, "MAX_HELD_IN_ALL", 1000)
    losses = Losses()
    assembly = Assembly(losses)
    streams = [Stream(assembly) for _ in range(20)]
    for each in streams:
        each.start(-1)
        each.segment(10, b"x" * 100)
        assert assembly.held <= 1000
    assert losses.get("stream", "gap: too much waits behind gaps in all") == 20 - 1000 // (100 + stream.SEGMENT_COST)
    for each in streams:
        each.flush()
    assert assembly.held == 0


def test_a_segment_beyond_every_window_is_refused():
    made, losses = new()
    assert list(made.segment(stream.MAX_AHEAD + 1, b"x")) == []
    assert not made.waits
    assert losses.snapshot() == {("stream", "segment beyond every window"): 1}
    assert made.segment(0, b"a") == (b"a",)


@st.composite
def segmentations(draw):
    """A string, its segments with overlaps and duplicates in any order, and where it starts."""
    text = draw(st.binary(min_size=1, max_size=60))
    base = draw(st.one_of(st.integers(0, 0xFFFFFFFF), st.integers(0xFFFFFFC0, 0xFFFFFFFF)))
    cuts = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=12))})
    spans = list(itertools.pairwise(cuts))
    span = st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(sorted).map(tuple)
    spans += draw(st.lists(span, max_size=8))
    return text, base, draw(st.permutations(spans))


@settings(max_examples=300, deadline=None)
@given(segmentations())
def test_any_segmentation_gives_the_string_back(case):
    text, base, spans = case
    made, losses = new(base)
    given = [piece for a, b in spans for piece in made.segment((base + a) & 0xFFFFFFFF, text[a:b])]
    assert b"".join(given) == text
    assert made._assembly.held == 0
    assert losses.total() == 0


@settings(max_examples=300, deadline=None)
@given(segmentations(), st.data())
def test_what_was_lost_is_reported_as_gaps_of_the_right_size(case, data):
    text, base, spans = case
    kept = [span for span in spans if data.draw(st.booleans())]
    made, losses = new(base)
    given = [piece for a, b in kept for piece in made.segment((base + a) & 0xFFFFFFFF, text[a:b])]
    given += made.flush()
    seen = set().union(*(range(a, b) for a, b in kept)) if kept else set()
    at = 0
    for piece in given:
        if isinstance(piece, int):
            assert seen.isdisjoint(range(at, at + piece))
            at += piece
        else:
            assert piece == text[at : at + len(piece)]
            at += len(piece)
    assert at == max(seen, default=-1) + 1
    assert losses.get("stream", NOT_CAPTURED) == sum(isinstance(piece, int) for piece in given)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 0xFFFFFFFF), st.binary(max_size=20), st.integers(0, 3000)), max_size=40))
def test_random_segments_never_raise_and_stay_bounded(segments):
    made, _ = new(None)
    for sequence, data, missing in segments:
        made.segment(sequence, data, missing)
        made.acknowledged(sequence ^ 0xFFFF)
        made.finish(sequence)
        assert made._starts == sorted(made._starts)
        assert made._held == made._assembly.held
    made.flush()
    assert made._assembly.held == 0
