"""Connections as bpf/conn.h follows them, held to conntrack.py packet by packet."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import captures
from tests.datapath.traffic import frames_of
from tests.packets import connection, icmp, ip_packet, other, tcp, udp

pytestmark = pytest.mark.ebpf

ADDRESSES = (f"10.{number >> 8}.{number & 255}" for number in itertools.count(1))


@pytest.fixture
def net() -> str:
    """Three octets that no other test has."""
    return next(ADDRESSES)


def told(kernel, *rows):
    return kernel.assert_same(frames_of(list(rows)))


def test_a_whole_connection(kernel, net):
    assert len(told(kernel, *connection(f"{net}.1:40000", f"{net}.2:80"))) == 4


@pytest.mark.parametrize("ports", [(40000, 80), (80, 40000), (40000, 8080), (5000, 6000), (50000, 60000)])
def test_roles_are_guessed_in_the_middle(kernel, net, ports):
    one, two = f"{net}.1:{ports[0]}", f"{net}.2:{ports[1]}"
    told(kernel, tcp(one, two, "A"), tcp(two, one, "A", at=0.1), tcp(one, two, "FA", at=0.2))


@pytest.mark.parametrize("gap", [4.9, 5.0, 5.1, 9.9, 59, 61, 8001])
def test_reports_and_timeouts(kernel, net, gap):
    one, two = f"{net}.1:40000", f"{net}.2:80"
    told(
        kernel,
        tcp(one, two, "S", sequence=1),
        tcp(two, one, "SA", sequence=9, acknowledgment=2, at=0.1),
        tcp(one, two, "A", sequence=2, acknowledgment=10, at=0.1 + gap),
        tcp(one, two, "A", sequence=2, acknowledgment=10, at=0.2 + 2 * gap),
    )


@pytest.mark.parametrize("gap", [1, 9.9, 10.1, 61])
@pytest.mark.parametrize("end", ["RA", "FA"])
def test_ports_used_again_after_an_end(kernel, net, gap, end):
    one, two = f"{net}.1:40000", f"{net}.2:80"
    first = [tcp(one, two, "S", sequence=1), tcp(two, one, "SA", sequence=9, acknowledgment=2, at=0.1)]
    ends = [tcp(one, two, end, sequence=2, at=0.2), tcp(two, one, end, sequence=10, at=0.3)]
    again = [
        tcp(one, two, "S", sequence=500, at=gap),
        tcp(two, one, "SA", sequence=7, acknowledgment=501, at=gap + 0.1),
    ]
    told(kernel, *first, *ends, *again)


def test_a_forged_syn_does_not_end_a_connection(kernel, net):
    one, two = f"{net}.1:40000", f"{net}.2:80"
    rows = [
        tcp(one, two, "S", sequence=1),
        tcp(two, one, "SA", sequence=9, acknowledgment=2, at=0.1),
        tcp(one, two, "S", sequence=777, at=0.2),
        tcp(two, one, "A", sequence=10, acknowledgment=2, at=0.3),
        tcp(one, two, "S", sequence=778, at=0.4),
        tcp(two, one, "SA", sequence=900, acknowledgment=779, at=0.5),
    ]
    told(kernel, *rows)


def test_both_open_at_once(kernel, net):
    one, two = f"{net}.1:4000", f"{net}.2:5000"
    told(
        kernel,
        tcp(one, two, "S", sequence=1),
        tcp(two, one, "S", sequence=9, at=0.1),
        tcp(two, one, "SA", sequence=9, at=0.2),
    )


@pytest.mark.parametrize("kinds", [(8, 0), (0, 8), (0,), (8, 8)])
def test_echoes(kernel, net, kinds):
    rows = [
        icmp(f"{net}.{1 + number % 2}", f"{net}.{2 - number % 2}", kind, identifier=5, at=number)
        for number, kind in enumerate(kinds)
    ]
    told(kernel, *rows)


@pytest.mark.parametrize("quoted", ["known", "reply", "unknown", "cut"])
def test_an_error_belongs_to_what_it_quotes(kernel, net, quoted):
    sent = udp(f"{net}.1:5000", f"{net}.2:9999", b"x")
    about = {
        "known": sent,
        "reply": udp(f"{net}.2:9999", f"{net}.1:5000", b"x"),
        "unknown": udp(f"{net}.1:5001", f"{net}.2:9999", b"x"),
        "cut": sent,
    }[quoted]
    payload = ip_packet(about)[: 27 if quoted == "cut" else None]
    told(kernel, sent, icmp(f"{net}.2", f"{net}.1", 3, code=3, payload=payload, at=0.1))


def test_errors_of_both_directions_are_two_connections(kernel, net):
    rows = [icmp(f"{net}.1", f"{net}.2", 3, payload=b"x" * 8), icmp(f"{net}.2", f"{net}.1", 3, payload=b"x" * 8, at=1)]
    assert len(told(kernel, *rows)) == 2


@pytest.mark.parametrize(("one", "two"), [(5000, 53), (53, 5000), (53, 53), (0, 5000), (123, 123), (5000, 6000)])
def test_datagrams(kernel, net, one, two):
    first = udp(f"{net}.1:{one}", f"{net}.2:{two}")
    told(kernel, first, udp(f"{net}.2:{two}", f"{net}.1:{one}", at=1), udp(f"{net}.1:{one}", f"{net}.2:{two}", at=70))


def test_other_protocols_and_one_address(kernel, net):
    told(kernel, other(f"{net}.1", f"{net}.2", 112), other(f"{net}.2", f"{net}.1", 112, at=0.1))
    told(kernel, tcp(f"{net}.3:7", f"{net}.3:7", "S"), tcp(f"{net}.3:7", f"{net}.3:7", "SA", at=0.1))


FLAGS = st.sampled_from(["S", "SA", "A", "A", "PA", "FA", "RA", "R", "FSR", ""])
STEPS = st.lists(
    st.tuples(
        st.booleans(), FLAGS, st.sampled_from([0, 1, 2, 500, 501]), st.sampled_from([0, 1, 2, 500, 501, 502]),
        st.sampled_from([0.001, 0.1, 4.99, 5, 11, 61]),
    ),
    max_size=14,
)  # fmt: skip


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, ports=st.sampled_from([(40000, 80), (5000, 6000)]))
def test_any_order_of_flags_numbers_and_pauses(kernel, steps, ports):
    net = next(ADDRESSES)
    one, two = f"{net}.1:{ports[0]}", f"{net}.2:{ports[1]}"
    rows, at = [], 0.0
    for back, flags, sequence, acknowledgment, pause in steps:
        at += pause
        ends = (two, one) if back else (one, two)
        rows.append(tcp(*ends, flags, sequence=sequence, acknowledgment=acknowledgment, at=at))
    if rows:
        told(kernel, *rows)


def test_vlans_keep_equal_addresses_apart(kernel, net):
    segment = captures.ipv4(captures.tcp(flags=captures.SYN), 6, f"{net}.1", f"{net}.2")
    batch = captures.frames(
        [captures.ethernet(segment, tags=[(0x8100, vlan)] if vlan else ()) for vlan in (0, 1, 2, 1)]
    )
    assert len(kernel.assert_same(batch)) == 3
