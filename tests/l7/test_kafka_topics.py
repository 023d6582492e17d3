from observer.l7 import kafka_topics
from observer.l7.kafka_topics import ENDS_LIMIT, IDS_IN_ALL, IDS_LIMIT, TopicIds


def test_the_last_name_told_holds():
    ids = TopicIds()
    ids.learn((b"a", b"b"), [(1, b"x"), (2, b"y")])
    ids.learn((b"b", b"c"), [(1, b"z")])
    assert [ids.name((end,), 1) for end in (b"a", b"b", b"c", b"d")] == [b"x", b"z", b"z", None]
    assert [ids.name((b"d", b"a"), number) for number in (1, 2, 3)] == [b"x", b"y", None]
    assert len(ids) == 5


def test_one_address_at_both_ends():
    ids = TopicIds()
    ids.learn((b"a", b"a"), [(1, b"x")])
    assert len(ids) == 1


def test_ids_of_an_address_are_bounded():
    ids = TopicIds()
    ids.learn((b"a",), ((number, b"x") for number in range(IDS_LIMIT + 3)))
    assert len(ids) == IDS_LIMIT
    assert ids.name((b"a",), 2) is None
    assert ids.name((b"a",), 3) == b"x"


def test_addresses_are_bounded():
    ids = TopicIds()
    for number in range(ENDS_LIMIT + 3):
        ids.learn((b"%d" % number,), [(1, b"x")])
    assert len(ids) == ENDS_LIMIT
    assert [ids.name((b"%d" % number,), 1) for number in (2, 3)] == [None, b"x"]


def test_all_ids_are_bounded(monkeypatch):
    monkeypatch.setattr(kafka_topics, "IDS_IN_ALL", 10)
    ids = TopicIds()
    for end in (b"a", b"b", b"c"):
        ids.learn((end,), [(number, end) for number in range(4)])
    assert len(ids) == 8
    assert [ids.name((end,), 0) for end in (b"a", b"b", b"c")] == [None, b"b", b"c"]
    assert IDS_IN_ALL > 10
