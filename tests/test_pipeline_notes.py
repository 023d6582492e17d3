"""What flows say beyond their packets: tunnels, names from DNS answers, TLS hellos."""

import struct
from ipaddress import IPv4Address

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from observer.decode import Decoder
from observer.identity.endpoints import EndpointTable, IpCache
from observer.identity.names import GRACE_NS
from observer.losses import Losses
from observer.pipeline import Pipeline
from observer.record import Flags, FlowType, TraceReason
from observer.store import Store
from observer.wire.encoder import FlowEncoder
from tests import captures
from tests.captures import MAC_A, MAC_B, ethernet, frames, gre, ipv4, vxlan
from tests.l7.test_tls import alpn, hello, records, server_name, versions
from tests.packets import SECOND, batch, connection, ip_packet, tcp, udp
from tests.test_pipeline import GET, OK

SHOP, WEB, DNS = "10.0.0.1:40000", "192.0.2.8:443", "10.0.0.53:53"
HELLO = records(hello(server_name(b"Api.example.com") + alpn(b"h2") + versions(0x0304)))
TLS = {"server_name": "Api.example.com", "alpn": ["h2"], "version": "TLS 1.3"}
GRACE = GRACE_NS / SECOND


def question(name):
    return b"".join(bytes((len(label),)) + label for label in name.split(b".")) + b"\0\0\1\0\1"


def query(name):
    return b"\0\7\1\0\0\1\0\0\0\0\0\0" + question(name)


def answer(name, address, *, ttl=30, alias=b""):
    """With `alias`, the name is one for it, and that has the address."""
    records = [b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", ttl, 4) + IPv4Address(address).packed]
    if alias:
        data = question(alias)[:-4]
        records.insert(0, b"\xc0\x0c\0\5\0\1" + struct.pack(">IH", ttl, len(data)) + data)
    return struct.pack(">6H", 7, 0x8180, 1, len(records), 0, 0) + question(name) + b"".join(records)


class Seen:
    """A pipeline without identities, and the flows in its store as clients get them."""

    def __init__(self, *rows, frames_of=None):
        cache = IpCache(EndpointTable())
        self.losses = Losses()
        self.store = Store(4096, endpoints=cache.table, losses=self.losses)
        self.pipeline = Pipeline(store=self.store, endpoints=cache, node="here")
        if frames_of is not None:
            self.pipeline.packets(Decoder(self.losses).decode(frames(frames_of)))
        elif rows:
            self.pipeline.packets(batch(*rows))
        self.pipeline.finish()

    def flows(self):
        taken, extras, nodes, _ = self.store.take(np.arange(self.store.next))
        for record, extra in zip(taken, extras, strict=True):
            assert bool(record["flags"] & Flags.EXTRA) is (extra is not None)
        encoder = FlowEncoder(self.store)
        return [encoder.flow(taken[at : at + 1], extras[at], at, int(nodes[at])) for at in range(len(taken))]


def ours(flow):
    struct = Struct()
    flow.extensions.Unpack(struct)
    return MessageToDict(struct)


def names(flows):
    return [(tuple(flow.source_names), tuple(flow.destination_names)) for flow in flows]


def test_a_hello_is_told_at_once_and_from_then_on():
    rows = connection(SHOP, WEB, request=HELLO, response=b"\x16\x03\x03\x00\x7a\x02")
    flows = Seen(*rows).flows()
    assert [flow.Type for flow in flows] == [FlowType.L3_L4] * 5
    name, none = ("api.example.com",), ()
    assert names(flows) == [(none, none), (none, none), (none, name), (none, name), (name, none)]
    assert [ours(flow).get("tls") for flow in flows] == [None, None, TLS, TLS, TLS]
    assert [TraceReason(flow.trace_reason).name for flow in flows] == [
        "NEW",
        "REPLY",
        "ESTABLISHED",
        "ESTABLISHED",
        "REPLY",
    ]
    assert flows[2].l4.TCP.flags.PSH


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_hello_over_many_segments(size):
    pieces = [
        tcp(SHOP, WEB, "PA", HELLO[at : at + size], sequence=1001 + at, at=1 + at / 1000)
        for at in range(0, len(HELLO), size)
    ]
    flows = Seen(tcp(SHOP, WEB, "S", sequence=1000), *pieces).flows()
    assert names(flows)[0] == ((), ())
    assert names(flows)[-1] == ((), ("api.example.com",))
    assert len(flows) == 2


def test_joined_at_the_hello_one_flow_tells_both():
    flows = Seen(tcp(SHOP, WEB, "PA", HELLO)).flows()
    assert names(flows) == [((), ("api.example.com",))]
    assert ours(flows[0])["tls"] == TLS


def test_a_hello_makes_its_sender_the_client():
    flows = Seen(tcp("10.0.0.1:443", "10.0.0.2:40000", "PA", HELLO)).flows()
    assert not flows[0].is_reply.value
    assert names(flows) == [((), ("api.example.com",))]


def test_a_name_that_is_none_stays_in_the_extension():
    flows = Seen(tcp(SHOP, WEB, "PA", records(hello(server_name(b"10.0.0.1"))))).flows()
    assert names(flows) == [((), ())]
    assert ours(flows[0])["tls"]["server_name"] == "10.0.0.1"


def test_a_hello_to_a_plain_port():
    flows = Seen(*connection(SHOP, "10.0.0.2:80", request=HELLO, response=OK)).flows()
    assert [flow.l7.http.code for flow in flows if flow.Type == FlowType.L7] == [200]
    assert names(flow for flow in flows if flow.Type == FlowType.L7) == [(("api.example.com",), ())]


def asked(name, address, at, *, alias=b"", **rest):
    """A query and its answer."""
    client = "10.0.0.1:5000"
    return [
        udp(client, DNS, query(name), at=at, **rest),
        udp(DNS, client, answer(name, address, alias=alias), at=at + 0.01, **rest),
    ]


def web_names(seen):
    return [
        pair
        for flow, pair in zip(seen, names(seen), strict=True)
        if 443 in (flow.l4.TCP.source_port, flow.l4.TCP.destination_port)
    ]


def test_an_answer_names_later_connections_of_that_client():
    rows = asked(b"www.example.com", "192.0.2.8", 0)
    rows += [tcp(SHOP, WEB, "S", at=1), tcp(WEB, SHOP, "SA", at=1.1), tcp("10.0.0.9:4", WEB, "S", at=2)]
    name = ("www.example.com",)
    assert web_names(Seen(*rows).flows()) == [((), name), (name, ()), ((), ())]


def test_an_alias_names_too():
    rows = [*asked(b"www.example.com", "192.0.2.8", 0, alias=b"edge.example.net"), tcp(SHOP, WEB, "S", at=1)]
    assert web_names(Seen(*rows).flows()) == [((), ("www.example.com", "edge.example.net"))]


def test_a_name_lives_as_long_as_its_connection():
    late = 30 + GRACE + 5
    rows = [
        *asked(b"www.example.com", "192.0.2.8", 0),
        tcp(SHOP, WEB, "S", at=1),
        tcp(WEB, SHOP, "SA", at=2),
        tcp(SHOP, WEB, "A", at=late),
        tcp("10.0.0.1:40001", WEB, "S", at=late),
    ]
    name = ("www.example.com",)
    assert web_names(Seen(*rows).flows()) == [((), name), (name, ()), ((), name), ((), ())]


def test_an_earlier_connection_is_not_named_by_a_later_answer():
    rows = [tcp(SHOP, WEB, "S", at=0), *asked(b"www.example.com", "192.0.2.8", 1), tcp(SHOP, WEB, "A", at=9)]
    assert web_names(Seen(*rows).flows()) == [((), ()), ((), ())]


def test_an_answer_nobody_asked_for_names_nothing():
    client = "10.0.0.1:5000"
    rows = [udp(client, DNS, query(b"a.test")), udp(DNS, client, answer(b"bank.test", "192.0.2.8"), at=0.1)]
    rows += [udp(DNS, "10.0.0.1:6000", answer(b"bank.test", "192.0.2.8"), at=0.2), tcp(SHOP, WEB, "S", at=1)]
    assert web_names(Seen(*rows).flows()) == [((), ())]


def test_an_answer_in_another_network_names_nothing_here():
    rows = [*asked(b"www.example.com", "192.0.2.8", 0, vlan=7), tcp(SHOP, WEB, "S", at=1)]
    assert web_names(Seen(*rows).flows()) == [((), ())]
    rows = [*asked(b"www.example.com", "192.0.2.8", 0, vlan=7), tcp(SHOP, WEB, "S", at=1, vlan=7)]
    assert web_names(Seen(*rows).flows()) == [((), ("www.example.com",))]


def test_names_of_answers_and_hellos_together():
    rows = [
        *asked(b"edge.example.net", "192.0.2.8", 0),
        tcp(SHOP, WEB, "S", at=1),
        tcp(SHOP, WEB, "PA", HELLO, sequence=1, at=2),
    ]
    assert web_names(Seen(*rows).flows())[-1] == ((), ("edge.example.net", "api.example.com"))


def wrapped(rows, *, number=7):
    """The packets in VXLAN, between two nodes."""
    return [ethernet(ipv4(vxlan(ethernet(ip_packet(row)), number), 17, "172.16.0.1", "172.16.0.2")) for row in rows]


def test_flows_of_a_tunnel_are_the_inner_ones():
    rows = connection("10.0.0.1:40000", "10.0.0.2:80", request=GET, response=OK)
    flows = Seen(frames_of=wrapped(rows)).flows()
    plain = Seen(*rows).flows()
    assert [(flow.Type, flow.IP.source, flow.l4, flow.Summary) for flow in flows] == [
        (flow.Type, flow.IP.source, flow.l4, flow.Summary) for flow in plain
    ]
    for flow in flows:
        assert (flow.tunnel.protocol, flow.tunnel.vni, flow.tunnel.IP.source) == (1, 7, "172.16.0.1")
        assert (flow.tunnel.l4.UDP.source_port, flow.tunnel.l4.UDP.destination_port) == (50000, 4789)
    assert flows[0].ethernet.source == ":".join(f"{octet:02x}" for octet in MAC_A)
    assert flows[0].ethernet.destination == ":".join(f"{octet:02x}" for octet in MAC_B)


def test_equal_addresses_in_two_networks_are_two_connections():
    rows = connection("10.0.0.1:40000", "10.0.0.2:80", request=GET, response=OK)
    mixed = [frame for pair in zip(wrapped(rows), wrapped(rows, number=8), strict=True) for frame in pair]
    flows = Seen(frames_of=mixed).flows()
    alone = Seen(frames_of=wrapped(rows)).flows()
    for vni in (7, 8):
        told = [flow for flow in flows if flow.tunnel.vni == vni]
        assert [(flow.Type, flow.l7.http.code, flow.l4.TCP.flags) for flow in told] == [
            (flow.Type, flow.l7.http.code, flow.l4.TCP.flags) for flow in alone
        ]


def handshake(acknowledgment):
    """Request and answer in networks 7 and 8, as Cilium's VNI is the sender's identity."""
    there, back = "10.0.0.1:40000", "10.0.0.2:80"
    ask = [tcp(there, back, "S", sequence=999), tcp(there, back, "PA", GET, sequence=1000)]
    tell = [
        tcp(back, there, "SA", sequence=4999, acknowledgment=acknowledgment),
        tcp(back, there, "PA", OK, sequence=5000),
    ]
    return ask, tell


@pytest.mark.parametrize("numbers", [(7, 8), (7, None), (None, 7)])
def test_directions_in_different_tunnels_are_one_connection_if_the_answer_confirms_it(numbers):
    def passing(rows, number):
        return [ethernet(ip_packet(row)) for row in rows] if number is None else wrapped(rows, number=number)

    for acknowledgment, one in ((1000, True), (1001, False)):
        ask, tell = (passing(rows, number) for rows, number in zip(handshake(acknowledgment), numbers, strict=True))
        seen = Seen(frames_of=[ask[0], tell[0], ask[1], tell[1]])
        flows = seen.flows()
        assert len({record["connection"] for record in seen.store.take(np.arange(seen.store.next))[0]}) == (
            1 if one else 2
        )
        assert [flow.is_reply.value for flow in flows] == [False, True, False, True]
        assert [flow.tunnel.vni for flow in flows] == [numbers[0] or 0, numbers[1] or 0] * 2
        assert (flows[-1].l7.latency_ns > 0) is one


def test_other_tunnels_are_told_in_the_extension():
    packet = captures.ipv4(captures.tcp(flags=captures.SYN), 6)
    (flow,) = Seen(frames_of=[ethernet(ipv4(gre(packet, key=5), 47, "172.16.0.1", "172.16.0.2"))]).flows()
    assert not flow.HasField("tunnel")
    assert not flow.HasField("ethernet")
    assert ours(flow)["tunnel"] == {"protocol": "gre", "source": "172.16.0.1", "destination": "172.16.0.2", "key": 5.0}


def test_names_are_of_one_network_of_tunnels():
    def of(number, rows):
        return wrapped(rows, number=number)

    asking = asked(b"www.example.com", "192.0.2.8", 0)
    flows = Seen(frames_of=[*of(7, asking), *of(8, [tcp(SHOP, WEB, "S")]), *of(7, [tcp(SHOP, WEB, "S")])]).flows()
    assert web_names(flows) == [((), ()), ((), ("www.example.com",))]
