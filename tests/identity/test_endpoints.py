import ipaddress

import pytest

from observer.identity import endpoints
from observer.identity.endpoints import MAPPED, Endpoint, EndpointTable, IpCache


def packed(text):
    ip = ipaddress.ip_address(text)
    return (ip.version, ip.packed if ip.version == 6 else MAPPED + ip.packed)


def cache(prefixes, dual_stack=False):
    found = IpCache(EndpointTable(), dual_stack=dual_stack)
    for text in prefixes:
        network = ipaddress.ip_network(text)
        _, address = packed(str(network.network_address))
        number = found.table.intern(Endpoint(identity=300, pod=text))
        found.add(address, network.prefixlen + (96 if network.version == 4 else 0), number)
    return found


PREFIXES = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "::/0", "fd00::/8", "fd00::10/128", "127.0.0.2/32"]

LOOKUPS = [
    ("10.9.9.9", "10.0.0.0/8"),
    ("10.1.9.9", "10.1.0.0/16"),
    ("10.1.2.3", "10.1.2.3/32"),
    ("fd00::11", "fd00::/8"),
    ("fd00::10", "fd00::10/128"),
    ("2001:db8::1", "::/0"),
    ("127.0.0.2", "127.0.0.2/32"),
]


@pytest.mark.parametrize(("address", "prefix"), LOOKUPS)
def test_the_longest_prefix_wins(address, prefix):
    found = cache(PREFIXES)
    assert found.table[found.lookup(*packed(address))].pod == prefix
    assert found.table[found.lookup(*packed(address))].pod == prefix  # remembered


RESERVED = [
    ("8.8.8.8", False, 2, "reserved:world"),
    ("2001:db8::1", False, 2, "reserved:world"),
    ("8.8.8.8", True, 9, "reserved:world-ipv4"),
    ("2001:db8::1", True, 10, "reserved:world-ipv6"),
    ("127.9.9.9", False, 1, "reserved:host"),
    ("::1", True, 1, "reserved:host"),
]


@pytest.mark.parametrize(("address", "dual_stack", "identity", "label"), RESERVED)
def test_what_nobody_claims_is_reserved(address, dual_stack, identity, label):
    found = cache([], dual_stack)
    endpoint = found.table[found.lookup(*packed(address))]
    assert (endpoint.identity, endpoint.labels, endpoint.managed) == (identity, (label,), False)


def test_a_prefix_of_all_ipv6_claims_no_ipv4():
    found = cache(["::/0"])
    assert found.table[found.lookup(*packed("8.8.8.8"))].identity == 2


def test_no_address_is_no_endpoint():
    assert cache([]).lookup(0, bytes(16)) == 0


def test_a_new_prefix_replaces_what_was_remembered():
    found = cache(["10.0.0.0/8"])
    assert found.table[found.lookup(*packed("10.0.0.1"))].pod == "10.0.0.0/8"
    number = found.table.intern(Endpoint(pod="new"))
    found.add(packed("10.0.0.1")[1], 128, number)
    assert found.lookup(*packed("10.0.0.1")) == number


def test_the_memo_is_bounded(monkeypatch):
    monkeypatch.setattr(endpoints, "MEMO_LIMIT", 10)
    found = cache(["10.0.0.0/8"])
    for last in range(35):
        assert found.table[found.lookup(*packed(f"10.0.0.{last}"))].pod == "10.0.0.0/8"
        assert len(found._memo) <= 10


@pytest.mark.parametrize(
    ("endpoint", "managed"),
    [
        (Endpoint(), False),
        (Endpoint(pod="p"), True),
        (Endpoint(identity=300, pod="p"), True),
        (Endpoint(identity=300), False),
        (Endpoint(identity=1, pod="host-network"), False),
    ],
)
def test_managed(endpoint, managed):
    assert endpoint.managed is managed
