"""Rows against the record's own layout: every field that a row sets stands where record.RECORD has it."""

from dataclasses import replace

import pytest

from observer.conntrack import Connection, Half
from observer.extra import DnsAnswer
from observer.l7.message import Message, Side
from observer.policy.engine import Decision
from observer.record import Direction, L7Kind, L7Type, PolicyMatch, Present, pack_text, unpack_text
from observer.rows import ROWS, Rows
from observer.tag import Ends, Judgement, Tag
from observer.tuples import KEY

CLIENT = b"\0" * 10 + b"\xff\xff" + bytes((10, 0, 0, 1))
SERVER = b"\0" * 10 + b"\xff\xff" + bytes((10, 0, 0, 2))
JUDGEMENT = Judgement(1, 4, 133, 2, 71, 72, 3)
TAG = Tag(
    Ends(11, 12, 21, 22, 3),
    Ends(12, 11, 22, 21, 0),
    Decision(True, Direction.UNKNOWN, 0, 0, PolicyMatch.NONE),
    JUDGEMENT,
)
REQUEST = Message(L7Kind.HTTP, L7Type.REQUEST, Side.CLIENT, 5, (b"/a", b"host"), 1, 11, id=7)
SAME = {
    "time_ns": 9, "connection": 77, "source_endpoint": 11, "destination_endpoint": 12, "source_identity": 21,
    "destination_identity": 22, "egress_rule": 71, "ingress_rule": 72, "source_port": 40_000, "destination_port": 80,
    "vlan": 5, "drop_reason_desc": 133, "family": 4, "protocol": 6, "type": 2, "event_type": 129, "sub_type": 0,
    "verdict": 1, "direction": 2, "policy_match": 3, "l7_kind": 1, "cookie": 0, "bytes": 0, "packets": 0, "tunnel": 0,
}  # fmt: skip


def half() -> Half:
    connection = Connection(77, 6)
    one = Half(connection, KEY.pack(CLIENT, SERVER, 40_000, 80, 5, 6, 4, 1), 0)
    connection.client = connection.server = one
    return one


@pytest.mark.parametrize(
    ("message", "fields", "present"),
    [
        (
            REQUEST,
            {"l7_type": 1, "l7_method": 1, "l7_version": 11, "l7_id": 7, "is_reply": 0, "l7_code": 0, "flags": 0},
            Present.IS_REPLY | Present.VLAN | Present.METHOD | Present.L7_ID,
        ),
        (
            Message(
                L7Kind.HTTP,
                L7Type.RESPONSE,
                Side.SERVER,
                9,
                (b"/a", b"host"),
                1,
                10,
                404,
                latency_ns=4,
                incomplete=True,
            ),
            {"l7_type": 2, "l7_code": 404, "l7_version": 10, "latency_ns": 4, "is_reply": 1, "flags": 8, "l7_id": 0},
            Present.IS_REPLY | Present.VLAN | Present.METHOD | Present.CODE | Present.LATENCY,
        ),
    ],
)
def test_message(message: Message, fields: dict[str, int], present: Present) -> None:
    rows = Rows()
    one = half()
    for _ in range(2):  # the second is made of what the first has laid out
        rows.message(one, message, None, TAG, JUDGEMENT, 9)
    records, extras = rows.take()
    assert extras == []
    assert len(rows) == 0
    for record in records:
        assert {name: int(record[name]) for name in SAME | fields} == SAME | fields
        assert record["present"] == present
        assert record["source_ip"].tobytes() == CLIENT
        assert record["destination_ip"].tobytes() == SERVER
        assert unpack_text(record)[:2] == (b"/a", b"host")


def test_another_judgement_makes_other_rows_of_the_same_half() -> None:
    rows = Rows()
    one = half()
    rows.message(one, REQUEST, REQUEST, TAG, JUDGEMENT, 9)
    rows.message(one, REQUEST, REQUEST, TAG, JUDGEMENT._replace(verdict=2, egress_rule=99), 9)
    records, _ = rows.take()
    assert records["verdict"].tolist() == [1, 2]
    assert records["egress_rule"].tolist() == [71, 99]


def test_what_has_no_room_in_a_record_is_an_extra_of_its_row() -> None:
    rows = Rows()
    rows.message(half(), REQUEST, REQUEST, TAG, JUDGEMENT, 9)
    answer = DnsAnswer(("10.0.0.1",), ttl=3)
    rows.message(
        half(), Message(L7Kind.DNS, L7Type.RESPONSE, Side.SERVER, 9, (b"x" * 300,), dns=answer), None, TAG, JUDGEMENT, 9
    )
    records, extras = rows.take()
    assert [(row, extra.dns, extra.texts) for row, extra in extras] == [(1, answer, (b"x" * 300,))]
    assert records["flags"].tolist() == [0, 3]


@pytest.mark.parametrize("texts", [(), (b"",), (b"x" * 255,), (b"a", b"", b"ccc", b"d"), (b"x" * 250, b"y" * 5)])
def test_texts_that_have_room_are_laid_out_as_they_are(texts: tuple[bytes, ...]) -> None:
    rows = Rows()
    message = replace(REQUEST, texts=texts)
    rows.message(half(), message, message, TAG, JUDGEMENT, 9)
    records, extras = rows.take()
    lengths, joined, cut = pack_text(texts)
    assert records["text_length"][0].tolist() == list(lengths)
    assert records["text"][0].tobytes().rstrip(b"\0") == joined
    assert not cut
    assert not extras


def test_more_rows_than_there_was_room_for_at_first() -> None:
    rows = Rows()
    one = half()
    for number in range(ROWS + 1):
        rows.message(one, replace(REQUEST, id=number), REQUEST, TAG, JUDGEMENT, number)
    records, _ = rows.take()
    assert records["l7_id"].tolist() == records["time_ns"].tolist() == list(range(ROWS + 1))
    rows.message(one, REQUEST, REQUEST, TAG, JUDGEMENT, 9)
    assert records["time_ns"].tolist() == list(range(ROWS + 1))  # what was taken stays


def test_rows_are_taken_in_the_order_of_their_places_with_their_extras() -> None:
    rows = Rows()
    one = half()
    for place, number in ((5, 50), (5, 51), (2, 20), (9, 90), (2, 21)):
        rows.place = place
        rows.message(one, replace(REQUEST, id=number, head=b"%d" % number), None, TAG, JUDGEMENT, number)
    records, extras = rows.take()
    assert records["l7_id"].tolist() == [20, 21, 50, 51, 90]
    assert [(row, extra.head) for row, extra in extras] == [(0, b"20"), (1, b"21"), (2, b"50"), (3, b"51"), (4, b"90")]
