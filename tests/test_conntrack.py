from dataclasses import replace

import pytest

from observer import conntrack
from observer.conntrack import Conntrack, Roles, What
from observer.losses import Losses
from observer.record import TraceReason
from tests.packets import SECOND, START, batch, connection, icmp, ip_packet, other, tcp, udp

A, B, C = "10.0.0.1:40000", "10.0.0.2:80", "10.0.0.3:50000"
NEW, ESTABLISHED, REPLY, RELATED = TraceReason.NEW, TraceReason.ESTABLISHED, TraceReason.REPLY, TraceReason.RELATED


def track(*rows, table=None):
    """What is told, as (row, reason, connection, packets so far, bytes so far); all in one batch."""
    table = Conntrack(Losses()) if table is None else table
    return [
        (row, half.reason, half.connection.number, half.packets, half.bytes)
        for row, half, what in table.track(batch(*rows))
        if what & What.TELL
    ]


def told(*rows, **rest):
    return [(row, reason, number) for row, reason, number, _, _ in track(*rows, **rest)]


TABLES = {
    "a whole connection": (
        connection(A, B, request=b"x" * 10, response=b"y" * 20),
        [(0, NEW, 1), (1, REPLY, 1), (7, ESTABLISHED, 1), (8, REPLY, 1)],
    ),
    "a retransmitted SYN and SYN-ACK tell nothing new": (
        [
            tcp(A, B, "S", sequence=1),
            tcp(A, B, "S", sequence=1, at=1),
            tcp(B, A, "SA", sequence=9, acknowledgment=2, at=2),
            tcp(B, A, "SA", sequence=9, acknowledgment=2, at=3),
        ],
        [(0, NEW, 1), (2, REPLY, 1)],
    ),
    "refused by the other side": (
        [tcp(A, B, "S", sequence=1), tcp(B, A, "RA", acknowledgment=2, at=0.1)],
        [(0, NEW, 1), (1, REPLY, 1)],
    ),
    "FIN and RST are told once each": (
        [*connection(A, B), tcp(A, B, "R", at=1), tcp(A, B, "R", at=1), tcp(A, B, "FA", at=1), tcp(B, A, "R", at=1)],
        [(0, NEW, 1), (1, REPLY, 1), (3, ESTABLISHED, 1), (4, REPLY, 1), (6, ESTABLISHED, 1), (9, REPLY, 1)],
    ),
    "every five seconds while packets pass": (
        [tcp(A, B, "S"), *(tcp(A, B, "A", at=at) for at in (1, 4.9, 5, 6, 9.9, 12, 30, 31))],
        [(0, NEW, 1), (3, ESTABLISHED, 1), (6, ESTABLISHED, 1), (7, ESTABLISHED, 1)],
    ),
    "each direction has its own five seconds": (
        [udp(A, B), udp(B, A, at=4), udp(A, B, at=5), udp(B, A, at=6), udp(B, A, at=9)],
        [(0, NEW, 1), (1, REPLY, 1), (2, ESTABLISHED, 1), (4, REPLY, 1)],
    ),
    "joined in the middle, seen from the client first": (
        [tcp(A, B, "PA"), tcp(B, A, "A"), tcp(A, B, "FA")],
        [(0, ESTABLISHED, 1), (1, REPLY, 1), (2, ESTABLISHED, 1)],
    ),
    "joined in the middle, seen from the server first": (
        [tcp(B, A, "PA"), tcp(A, B, "A"), tcp(B, A, "FA")],
        [(0, ESTABLISHED, 1), (1, ESTABLISHED, 1), (2, REPLY, 1)],
    ),
    "joined in the middle, and nobody knows who is who": (
        [tcp(A, C, "PA"), tcp(C, A, "A"), tcp(A, C, "FA"), tcp(C, A, "FA")],
        [(0, ESTABLISHED, 1), (1, ESTABLISHED, 1), (2, ESTABLISHED, 1), (3, ESTABLISHED, 1)],
    ),
    "joined at the SYN-ACK": (
        [tcp(B, A, "SA", sequence=9), tcp(A, B, "A"), tcp(B, A, "FA")],
        [(0, ESTABLISHED, 1), (1, ESTABLISHED, 1), (2, REPLY, 1)],
    ),
    "ports used again after close": (
        [*connection(A, B), *connection(A, B, first=77_777, at=1)],
        [
            *((0, NEW, 1), (1, REPLY, 1), (3, ESTABLISHED, 1), (4, REPLY, 1)),
            *((6, NEW, 2), (7, REPLY, 2), (9, ESTABLISHED, 2), (10, REPLY, 2)),
        ],
    ),
    "ports used again after RST, by the former server": (
        [tcp(A, B, "S", sequence=1), tcp(B, A, "RA"), tcp(B, A, "S", sequence=5), tcp(A, B, "SA", acknowledgment=6)],
        [(0, NEW, 1), (1, REPLY, 1), (2, NEW, 2), (3, REPLY, 2)],
    ),
    "a new attempt where nobody answered": (
        [tcp(A, B, "S", sequence=1), tcp(A, B, "S", sequence=500, at=1)],
        [(0, NEW, 1), (1, NEW, 2)],
    ),
    "a SYN into an open connection is told once and changes nothing": (
        [
            *connection(A, B)[:3],
            tcp(A, B, "S", sequence=500),
            tcp(A, B, "S", sequence=500),
            tcp(B, A, "A", sequence=5001, acknowledgment=1001),
            tcp(A, B, "FA", sequence=1001),
        ],
        [(0, NEW, 1), (1, REPLY, 1), (3, ESTABLISHED, 1), (6, ESTABLISHED, 1)],
    ),
    "ports used again though no end was seen: the SYN-ACK tells": (
        [*connection(A, B)[:3], *connection(A, B, first=500, second=900, at=1)],
        [
            *((0, NEW, 1), (1, REPLY, 1), (3, ESTABLISHED, 1), (4, ESTABLISHED, 2), (5, ESTABLISHED, 2)),
            *((6, ESTABLISHED, 2), (7, REPLY, 2)),
        ],
    ),
    "a simultaneous open": (
        [tcp(A, B, "S", sequence=1), tcp(B, A, "S", sequence=9), tcp(A, B, "SA", sequence=1, acknowledgment=10)],
        [(0, NEW, 1), (1, REPLY, 1)],
    ),
    "a connection with itself": (
        [tcp(A, A, "S", sequence=1), tcp(A, A, "SA", sequence=1, acknowledgment=2), tcp(A, A, "FA", sequence=2)],
        [(0, NEW, 1), (2, ESTABLISHED, 1)],
    ),
    "a datagram and its answer": ([udp(A, B), udp(A, B), udp(B, A)], [(0, NEW, 1), (2, REPLY, 1)]),
    "an answer whose question was not seen": (
        [udp("10.0.0.2:53", A), udp(A, "10.0.0.2:53")],
        [(0, ESTABLISHED, 1), (1, ESTABLISHED, 1)],
    ),
    "echo pairs by identifier": (
        [
            icmp("10.0.0.1", "10.0.0.2", 8, identifier=7),
            icmp("10.0.0.1", "10.0.0.2", 8, identifier=8),
            icmp("10.0.0.2", "10.0.0.1", 0, identifier=8),
            icmp("10.0.0.2", "10.0.0.1", 0, identifier=7),
            icmp("10.0.0.1", "10.0.0.2", 8, identifier=7, at=1),
        ],
        [(0, NEW, 1), (1, NEW, 2), (2, REPLY, 2), (3, REPLY, 1)],
    ),
    "echo of IPv6": (
        [icmp("fd00::1", "fd00::2", 128, identifier=7), icmp("fd00::2", "fd00::1", 129, identifier=7)],
        [(0, NEW, 1), (1, REPLY, 1)],
    ),
    "other ICMP messages have no replies": (
        [icmp("fd00::1", "fd00::2", 135), icmp("fd00::2", "fd00::1", 135), icmp("fd00::2", "fd00::1", 136)],
        [(0, NEW, 1), (1, NEW, 2), (2, NEW, 3)],
    ),
    "protocols without ports": (
        [other("10.0.0.1", "224.0.0.18", 112), other("10.0.0.1", "224.0.0.18", 112), other("10.0.0.1", "224.0.0.1", 2)],
        [(0, NEW, 1), (2, NEW, 2)],
    ),
    "SCTP": (
        [
            other("10.0.0.1", "10.0.0.2", 132, source_port=5000, destination_port=38412),
            other("10.0.0.2", "10.0.0.1", 132, source_port=38412, destination_port=5000),
        ],
        [(0, NEW, 1), (1, REPLY, 1)],
    ),
    "VLANs do not mix": (
        [udp(A, C, vlan=5), udp(C, A, vlan=6), udp(C, A, vlan=5)],
        [(0, NEW, 1), (1, NEW, 2), (2, REPLY, 1)],
    ),
    "a SYN-ACK in another VLAN, or in none, confirms the SYN": (
        [
            tcp(A, B, "S", sequence=1, vlan=5),
            tcp(A, B, "S", sequence=1, vlan=5, at=1),
            tcp(B, A, "SA", sequence=9, acknowledgment=2, at=1),
            tcp(A, B, "FA", sequence=2, vlan=5, at=2),
            tcp(B, A, "FA", sequence=10, at=2),
            tcp(A, C, "S", sequence=4, at=3),
            tcp(C, A, "SA", sequence=7, acknowledgment=5, vlan=6, at=3),
        ],
        [(0, NEW, 1), (2, REPLY, 1), (3, ESTABLISHED, 1), (4, REPLY, 1), (5, NEW, 2), (6, REPLY, 2)],
    ),
    "a SYN-ACK in another VLAN that confirms another SYN": (
        [tcp(A, B, "S", sequence=1, vlan=5), tcp(B, A, "SA", sequence=9, acknowledgment=3)],
        [(0, NEW, 1), (1, ESTABLISHED, 2)],
    ),
    "a SYN-ACK in another VLAN where the SYN was answered in its own": (
        [
            tcp(A, B, "S", sequence=1, vlan=5),
            tcp(B, A, "SA", sequence=9, acknowledgment=2, vlan=5),
            tcp(B, A, "SA", sequence=9, acknowledgment=2, vlan=6),
        ],
        [(0, NEW, 1), (1, REPLY, 1), (2, ESTABLISHED, 2)],
    ),
    "protocols do not mix": ([udp(A, B), tcp(A, B, "S")], [(0, NEW, 1), (1, NEW, 2)]),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_what_is_told(name):
    rows, expected = TABLES[name]
    assert told(*rows) == expected


@pytest.mark.parametrize("name", TABLES)
def test_batches_may_be_cut_anywhere(name):
    rows, _ = TABLES[name]
    table = Conntrack(Losses())
    single = [(row + at, *rest) for at, one in enumerate(rows) for row, *rest in track(one, table=table)]
    assert single == [tuple(each) for each in track(*rows)]


def test_counters_are_of_the_direction_so_far():
    rows = connection(A, B, request=b"x" * 10, response=b"y" * 20)
    assert [each[3:] for each in track(*rows)] == [(1, 40), (1, 40), (5, 210), (4, 180)]


ECHO = icmp("1.1.1.1", "2.2.2.2", 8, identifier=1)
ENDS = {  # how long silence has to last for the next packet to begin a new connection
    "open": (connection(A, B)[:3], conntrack.TCP_NS),
    "unanswered": ([tcp(A, B, "S", sequence=1)], conntrack.TCP_SYN_NS),
    "closed": (connection(A, B), conntrack.TCP_CLOSED_NS),
    "reset": ([tcp(A, B, "S", sequence=1), tcp(B, A, "RA")], conntrack.TCP_CLOSED_NS),
    "half closed": (connection(A, B)[:4], conntrack.TCP_NS),
    "datagrams": ([udp(A, B), udp(B, A)], conntrack.OTHER_NS),
    "echo": ([ECHO], conntrack.OTHER_NS),
}


@pytest.mark.parametrize("swept", [False, True])
@pytest.mark.parametrize(("short_s", "expected"), [(0.001, 1), (0, 2)])
@pytest.mark.parametrize("name", ENDS)
def test_silence_ends_a_connection_whether_swept_or_not(name, short_s, expected, swept):
    rows, timeout_ns = ENDS[name]
    table = Conntrack(Losses())
    assert told(*rows, table=table)[-1][2] == 1
    late = replace(rows[-1], at=rows[-1].at + timeout_ns / SECOND - short_s)
    if swept:
        assert [each.number for each in table.advance(late.time_ns)] == [1] * (expected - 1)
    list(table.track(batch(late)))
    assert [each.number for each in table] == [expected]


def test_ended_connections_are_given_whole_and_in_order():
    table = Conntrack(Losses())
    rows = [udp(f"10.0.0.1:{port}", B, at=port - 40_000) for port in range(40_000, 40_005)]
    ends = [
        (row, half.connection.number)
        for rows in (rows, [udp("10.0.0.1:40000", B, at=100)])
        for row, half, what in table.track(batch(*rows))
        if what == What.END
    ]
    assert ends == [(0, 1)]
    assert [each.number for each in table.advance(START + 63 * SECOND)] == [2, 3, 4]
    assert len(table) == 2
    assert list(table.advance(START + 64 * SECOND)) == []  # a sweep was just now


def test_bound_of_connections_forgets_those_silent_for_longest(monkeypatch):
    monkeypatch.setattr(conntrack, "MAX_CONNECTIONS", 100)
    losses = Losses()
    table = Conntrack(losses)
    ended = []
    for port in range(40_000, 41_000):
        rows = batch(udp(f"10.0.0.1:{port}", B, at=port / 1e4), udp("10.0.0.9:9", "10.0.0.2:999", at=port / 1e4))
        ended += [half.connection.number for _, half, what in table.track(rows) if what == What.END]
        assert len(table) <= 100
        assert len(table._halves) == 2 * len(table)
    assert losses.snapshot() == {("conntrack", "connection table full"): 901}
    assert ended == [1, *range(3, 903)]  # 2 is the one that was never silent


ICMP_ERRORS = {
    "port unreachable": (udp(A, B), icmp("10.0.0.2", "10.0.0.1", 3, code=3), 28),
    "from a router": (tcp(A, B, "S"), icmp("192.0.2.1", "10.0.0.1", 11), 28),
    "of an echo": (
        icmp("10.0.0.1", "10.0.0.2", 8, identifier=5),
        icmp("192.0.2.1", "10.0.0.1", 3, code=1),
        28,
    ),
    "whole packet quoted": (udp(A, B, b"x" * 50), icmp("10.0.0.2", "10.0.0.1", 3, code=3), 1000),
}


@pytest.mark.parametrize("name", ICMP_ERRORS)
def test_an_icmp_error_is_related_to_what_it_quotes(name):
    cause, error, size = ICMP_ERRORS[name]
    table = Conntrack(Losses())
    rows = [cause, replace(error, payload=ip_packet(cause)[:size])]
    events = list(table.track(batch(*rows)))
    half = events[1][1]
    assert half.reason is RELATED
    assert half.connection.related is events[0][1].connection
    assert not half.is_reply


@pytest.mark.parametrize("payload", [b"", b"E" + bytes(18), b"\x45" + bytes(27), b"\x4f" + bytes(60), b"\x60" * 80])
def test_an_icmp_error_about_nothing_known_stands_for_itself(payload):
    assert [each[1] for each in track(icmp("10.0.0.2", "10.0.0.1", 3, payload=payload))] == [NEW]


GUESSES = [  # source port, destination port, comes from the server, how sure
    (40_000, 80, False, Roles.PORTS),
    (80, 40_000, True, Roles.PORTS),
    (8080, 40_000, True, Roles.PORTS),
    (40_000, 9092, False, Roles.PORTS),
    (1023, 1024, True, Roles.PORTS),
    (40_000, 50_000, False, Roles.UNKNOWN),
    (8080, 9092, False, Roles.UNKNOWN),
]


@pytest.mark.parametrize(("source", "destination", "is_reply", "roles"), GUESSES)
def test_roles_in_mid_connection_by_ports(source, destination, is_reply, roles):
    table = Conntrack(Losses())
    [(_, half, _)] = table.track(batch(tcp(f"10.0.0.1:{source}", f"10.0.0.2:{destination}", "A")))
    assert (half.is_reply, half.connection.roles) == (is_reply, roles)
    server = f"10.0.0.{1 if is_reply else 2}"
    assert half.connection.server_ip[12:] == bytes(map(int, server.split(".")))
    assert half.connection.server_port == (source if is_reply else destination)


def test_payload_is_asked_for_until_nobody_wants_it():
    table = Conntrack(Losses())
    seen = []
    rows = [tcp(A, B, "PA", b"x", at=at / 100) for at in range(5)]
    for row, half, what in table.track(batch(*rows)):
        seen.append((row, what))
        half.wants_payload = row < 2
    assert seen == [(0, What.TELL | What.DATA), (1, What.DATA), (2, What.DATA)]


def test_payload_that_was_not_captured_counts():
    [(_, _, what)] = Conntrack(Losses()).track(batch(tcp(A, B, "PA", missing=100)))
    assert what == What.TELL | What.DATA


def test_acknowledgments_are_given_while_wanted():
    table = Conntrack(Losses())
    rows = [tcp(A, B, "A", at=at) for at in (0, 1, 2, 3, 4, 5, 6, 7)]
    seen = []
    for row, half, what in table.track(batch(*rows)):
        seen.append((row, what))
        half.want_acks(row < 3)
    assert seen == [(0, What.TELL), (1, What.ACK), (2, What.ACK), (3, What.ACK), (5, What.TELL)]


def lanes(*rows, known=()):
    """Rows in the order in which they are tracked, where the client's port is the lane of a connection."""
    table = Conntrack(Losses())
    for _ in table.track(batch(*known)):
        pass
    return [row for row, _, _ in table.track(batch(*rows), lambda connection: connection.client_port - 50_000)]


ONE, TWO, NONE = "10.0.0.1:50001", "10.0.0.1:50002", "10.0.0.1:50000"
KNOWN = [tcp(ONE, B, "S"), tcp(TWO, B, "S"), tcp(NONE, B, "S"), *connection("10.0.0.9:50001", B, first=1)[:2]]
MIXED = [
    tcp(TWO, B, "A", b"x", at=1),
    tcp(ONE, B, "A", b"x", at=1),
    tcp("10.0.0.9:50001", B, "A", b"x", at=1),
    tcp(NONE, B, "A", b"x", at=1),
    tcp(B, ONE, "A", b"x", at=1),
]


@pytest.mark.parametrize(
    ("rows", "order"),
    [
        pytest.param(MIXED, [3, 1, 4, 2, 0], id="lane by lane, connection by connection, none first"),
        pytest.param([*MIXED, tcp(TWO, B, "SA", b"x", at=1)], [0, 3, 5, 1, 4, 2], id="a SYN may begin another"),
        pytest.param([*MIXED, tcp(NONE, B, "A", b"x", at=11)], [0, 1, 2, 3, 4, 5], id="a connection may have ended"),
        pytest.param([*MIXED[:2], tcp(NONE, B, "A", b"x", at=10)], [0, 1, 2], id="seconds within one batch"),
        pytest.param([tcp(C, B, "S"), udp(C, B, b"x")], [0, 1], id="nothing in a lane"),
    ],
)
def test_lanes(rows, order):
    assert lanes(*rows, known=KNOWN) == order


def test_rows_stay_in_order_where_the_table_may_become_full(monkeypatch):
    monkeypatch.setattr(conntrack, "MAX_CONNECTIONS", 9)
    assert lanes(*MIXED, known=KNOWN) == [3, 1, 4, 2, 0]
    monkeypatch.setattr(conntrack, "MAX_CONNECTIONS", 8)
    assert lanes(*MIXED, known=KNOWN) == [0, 1, 2, 3, 4]
