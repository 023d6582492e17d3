"""A connection is seen at one interface: at the first, until it is silent there for long."""

import numpy as np
import pytest

from observer import vantage
from observer.vantage import Vantage
from tests.packets import batch, icmp, tcp, udp

CLIENT, SERVER = "10.0.0.1:40000", "10.0.0.2:80"


def kept(seen: Vantage, *rows) -> list[int]:
    """Which of the (packet, interface) pairs stay, by their number."""
    packets = batch(*(packet for packet, _ in rows))
    result = seen.keep(packets, np.array([interface for _, interface in rows], np.uint32))
    assert result.data is packets.data
    return (result.frame - packets.frame[:1].sum()).tolist()


def test_both_directions_are_seen_at_the_interface_of_the_first_packet():
    there, back = tcp(CLIENT, SERVER, "S"), tcp(SERVER, CLIENT, "SA")
    assert kept(Vantage(), (there, 1), (there, 2), (back, 2), (back, 1), (there, 1), (there, 2)) == [0, 3, 4]


def test_connections_have_interfaces_of_their_own():
    rows = [(udp("10.0.0.1:1", SERVER), 1), (udp("10.0.0.3:1", SERVER), 2), (icmp("10.0.0.1", "10.0.0.2", 8), 3)]
    assert kept(Vantage(), *rows, *rows) == [0, 1, 2, 3, 4, 5]


def test_the_batches_know_of_each_other():
    seen = Vantage()
    assert kept(seen, (tcp(CLIENT, SERVER), 1)) == [0]
    assert kept(seen, (tcp(CLIENT, SERVER), 2), (tcp(SERVER, CLIENT), 1)) == [1]
    assert kept(seen) == []


def test_another_interface_takes_over_after_a_silence_and_not_before():
    seen = Vantage()
    assert kept(seen, (tcp(CLIENT, SERVER), 1)) == [0]
    for at in (1, 50, 61, 100):  # what is left out keeps nothing alive
        assert kept(seen, (tcp(CLIENT, SERVER, at=at), 2)) == []
    assert kept(seen, (tcp(CLIENT, SERVER, at=130), 2)) == [0]


def test_one_that_goes_on_stays_where_it_is():
    seen = Vantage()
    for at in range(0, 400, 50):
        assert kept(seen, (tcp(CLIENT, SERVER, at=at), 1), (tcp(CLIENT, SERVER, at=at), 2)) == [0]


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(vantage, "MAX_KEYS", 100)
    seen = Vantage()
    for number in range(1000):
        kept(seen, (udp(f"10.0.{number >> 8}.{number & 255}:1", SERVER), 1))
    assert len(seen._young) + len(seen._old) <= 2 * (100 + 2)


@pytest.mark.parametrize("interface", [0, 2**32 - 1])
def test_any_number_is_an_interface(interface):
    assert kept(Vantage(), (tcp(CLIENT, SERVER), interface), (tcp(CLIENT, SERVER), 7)) == [0]
