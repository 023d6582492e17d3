"""Losses: counted once, by stage and reason."""

from observer.losses import Losses


def test_counts_by_stage_and_reason_most_numerous_first():
    losses = Losses()
    losses.count("decode", "truncated IPv4 header")
    losses.count("store", "reader overtaken", 7)
    losses.count("decode", "truncated IPv4 header")
    assert list(losses) == [("store", "reader overtaken", 7), ("decode", "truncated IPv4 header", 2)]
    assert losses.get("decode", "truncated IPv4 header") == 2
    assert losses.get("decode", "never seen") == 0
    assert losses.total() == 9


def test_a_snapshot_is_a_copy_without_zeros():
    losses = Losses()
    losses.count("pcap", "cut in mid-packet", 0)
    losses.count("dns", "malformed")
    before = losses.snapshot()
    losses.count("dns", "malformed")
    assert before == {("dns", "malformed"): 1}


def test_merge_adds():
    ours, theirs = Losses(), Losses()
    ours.count("dns", "malformed", 1)
    theirs.count("dns", "malformed", 2)
    theirs.count("stream", "gap", 3)
    ours.merge(theirs)
    assert ours.snapshot() == {("dns", "malformed"): 3, ("stream", "gap"): 3}
