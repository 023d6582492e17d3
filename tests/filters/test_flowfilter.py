"""Hubble's filter semantics on flows written out: what matches, what does not, what is refused and with which words."""

import pytest
from google.protobuf import text_format

from observer.api import flow_pb2
from observer.errors import FilterError
from observer.filters.flowfilter import compile_filters


def flow(text: str) -> flow_pb2.Flow:
    return text_format.Parse(text, flow_pb2.Flow())


def wanted(text: str) -> flow_pb2.FlowFilter:
    return text_format.Parse(text, flow_pb2.FlowFilter())


POD = 'source { namespace: "shop" pod_name: "cart-0" identity: 300 cluster_name: "east" }'
HTTP = 'l7 { http { code: 404 method: "GET" url: "http://shop/a%20b?q=1" headers { key: "X-Id" value: "7" } } }'
SYN_ACK = "l4 { TCP { source_port: 40000 destination_port: 80 flags { SYN: true ACK: true } } }"


@pytest.mark.parametrize(
    ("filter_", "matching", "other"),
    [
        ("", ["", POD], []),
        # namespaced names
        ('source_pod: "shop/cart"', [POD], ["", 'destination { namespace: "shop" pod_name: "cart-0" }']),
        ('source_pod: "shop/Cart"', [], [POD]),
        ('source_pod: "sho/cart"', [], [POD]),
        ('source_pod: "shop/"', [POD, 'source { namespace: "shop" }'], ['source { pod_name: "shop" }']),
        ('source_pod: "/cart"', [POD, 'source { pod_name: "cart" }'], ['source { namespace: "shop" }']),
        ('source_pod: "/"', [POD, 'source { namespace: "x" }'], ["", "source { identity: 2 }"]),
        ('source_pod: "cart"', ['source { namespace: "default" pod_name: "cart-1" }'], [POD]),
        ('source_pod: "shop/cart-0/ignored"', [POD], []),
        ('source_pod: "x" source_pod: "shop/c"', [POD], []),
        (
            'destination_service: "shop/db"',
            ['destination_service { namespace: "shop" name: "db-0" }'],
            ['source_service { namespace: "shop" name: "db-0" }', 'destination { namespace: "shop" pod_name: "db" }'],
        ),
        # identity needs the endpoint to exist, cluster and workload are exact
        ("source_identity: 300", [POD], ["source { identity: 3 }"]),
        ("source_identity: 0", ["source {}", 'source { namespace: "x" }'], ["", "destination {}"]),
        ('source_cluster_name: "east"', [POD], ["", 'source { cluster_name: "east-1" }']),
        ('source_cluster_name: "e*"', [], [POD]),
        (
            'source_workload { name: "cart" kind: "Deployment" }',
            ['source { workloads { name: "x" } workloads { name: "cart" kind: "Deployment" } }'],
            ['source { workloads { name: "cart" } }', 'source { workloads { name: "cart-1" kind: "Deployment" } }', ""],
        ),
        ('source_workload { kind: "Job" }', ['source { workloads { name: "x" kind: "Job" } }'], ["", POD]),
        ("source_workload {}", ['source { workloads { name: "x" } }'], ["", POD]),
        ('source_label: "app=a"', ['source { labels: "k8s:app=a" }'], ["", 'destination { labels: "k8s:app=a" }']),
        ('source_fqdn: "*.org"', ['source_names: "a.com" source_names: "b.org"'], ["", 'source_names: "b.org."']),
        # addresses
        ('source_ip: "10.0.0.1"', ['IP { source: "10.0.0.1" }'], ["", 'IP { source: "10.0.0.10" }']),
        ('source_ip: "0:0:0:0:0:0:0:1"', ['IP { source: "0:0:0:0:0:0:0:1" }'], ['IP { source: "::1" }']),
        (
            'source_ip: "10.0.0.77/8"',
            ['IP { source: "10.9.9.9" }'],
            ['IP { source: "11.0.0.1" }', "", 'IP { source: "x" }'],
        ),
        (
            'source_ip: "0.0.0.0/0"',
            ['IP { source: "1.2.3.4" }'],
            ['IP { source: "::ffff:1.2.3.4" }', 'IP { source: "::" }'],
        ),
        (
            'source_ip: "::/0"',
            ['IP { source: "::ffff:1.2.3.4" }'],
            ['IP { source: "1.2.3.4" }', 'IP { source: "fe80::1%eth0" }'],
        ),
        ('source_ip: "fe80::1%eth0"', ['IP { source: "fe80::1%eth0" }'], ['IP { source: "fe80::1" }']),
        ('source_ip_xlated: "10.0.0.0/8"', ['IP { source_xlated: "10.1.1.1" }'], ['IP { source: "10.1.1.1" }']),
        ("ip_version: IPv6", ["IP { ipVersion: IPv6 }"], ["", "IP { ipVersion: IPv4 }"]),
        ("ip_version: IP_NOT_USED", ["", "IP {}"], ["IP { ipVersion: IPv4 }"]),
        ("encrypted: true", ["IP { encrypted: true }"], ["", "IP {}"]),
        ("encrypted: false", ["", "IP {}"], ["IP { encrypted: true }"]),
        # ports and flags
        ('destination_port: "080"', [SYN_ACK], ["", "l4 { UDP { destination_port: 81 } }"]),
        (
            'destination_port: "0"',
            ["l4 { SCTP {} }", "l4 { UDP { destination_port: 65536 } }"],
            ["", "l4 { ICMPv4 {} }"],
        ),
        ('protocol: "TCP"', [SYN_ACK], ["", "l4 { UDP {} }"]),
        ('protocol: "icmp"', ["l4 { ICMPv4 {} }", "l4 { ICMPv6 {} }"], [SYN_ACK]),
        ('protocol: "http" protocol: "udp"', [HTTP, "l4 { UDP {} }"], [SYN_ACK, "l7 { dns {} }"]),
        ("tcp_flags { SYN: true }", [SYN_ACK], ["", "l4 { TCP { flags { ACK: true } } }"]),
        ("tcp_flags { SYN: true ACK: true FIN: true }", [], [SYN_ACK]),
        ("tcp_flags { FIN: true } tcp_flags { SYN: true }", [SYN_ACK], []),
        ("tcp_flags {}", [SYN_ACK, "l4 { TCP { flags {} } }"], ["l4 { TCP {} }", "l4 { UDP {} }"]),
        ("interface {}", ["interface {}"], [""]),
        ('interface { index: 7 name: "eth0" }', ['interface { index: 7 name: "eth0" }'], ["interface { index: 7 }"]),
        # events
        ("verdict: DROPPED verdict: AUDIT", ["verdict: DROPPED", "verdict: AUDIT"], ["", "verdict: FORWARDED"]),
        ("event_type { type: 4 }", ["event_type { type: 4 sub_type: 3 }"], ["", "event_type { type: 1 }"]),
        ("event_type { match_sub_type: true sub_type: 3 }", ["event_type { type: 9 sub_type: 3 }"], ["event_type {}"]),
        (
            "event_type { type: 4 match_sub_type: true }",
            ["event_type { type: 4 }"],
            ["event_type { type: 4 sub_type: 3 }"],
        ),
        ("event_type {}", ["event_type {}", "event_type { type: 129 }"], [""]),
        ("traffic_direction: INGRESS", ["traffic_direction: INGRESS"], ["", "traffic_direction: EGRESS"]),
        (
            "drop_reason_desc: POLICY_DENIED",
            ["verdict: DROPPED drop_reason_desc: POLICY_DENIED"],
            ["verdict: AUDIT drop_reason_desc: POLICY_DENIED", "verdict: DROPPED"],
        ),
        ("reply: true", ["is_reply { value: true }"], ["", "is_reply {}", "verdict: DROPPED"]),
        ("reply: false", ["is_reply {}", "verdict: DROPPED"], ["", "verdict: AUDIT", "is_reply { value: true }"]),
        ('uuid: "a" uuid: "b"', ['uuid: "b"'], ["", 'uuid: "c"']),
        ('trace_id: "7"', ['trace_context { parent { trace_id: "7" } }'], [""]),
        ('trace_id: ""', ["", "trace_context {}"], ['trace_context { parent { trace_id: "7" } }']),
        ("ip_trace_id: 0", ["ip_trace_id {}"], ["", "ip_trace_id { trace_id: 1 }"]),
        ('node_name: "a*"', ['node_name: "ab"', 'node_name: "east/a"'], ["", 'node_name: "Ab"']),
        ('node_labels: "zone=a"', ['node_labels: "zone=a"'], ["", 'node_labels: "zone=b"']),
        # L7
        ('http_status_code: "404"', [HTTP], ["", "l7 { http {} }", "l7 { http { code: 40 } }"]),
        ('http_status_code: "4+"', [HTTP, "l7 { http { code: 4000 } }"], ["l7 { http { code: 4 } }"]),
        ('http_status_code: "40+"', [HTTP], ["l7 { http { code: 410 } }"]),
        ('http_method: "get"', [HTTP], ["", "l7 { http {} }", 'l7 { http { method: "GETS" } }']),
        ('http_method: "\u212aEEP"', ['l7 { http { method: "keep" } }'], [HTTP]),
        ('http_path: "^/a b$"', [HTTP], ["", 'l7 { http { url: "a b" } }', 'l7 { http { url: "/a b%" } }']),
        ('http_url: "a%20b\\\\?q"', [HTTP], ["", "l7 { http {} }"]),
        ('http_header { key: "X-Id" value: "7" }', [HTTP], ["", "l7 { http {} }"]),
        ('http_header { key: "x-id" value: "7" }', [], [HTTP]),
        (
            'dns_query: "hub\\\\.com"',
            ['l7 { dns { query: "github.com." } }'],
            ["", 'l7 { dns { query: "hubxcom" } }', HTTP],
        ),
        ('http_method: "GET" event_type { type: 129 }', [f"{HTTP} event_type {{ type: 129 }}"], [HTTP]),
        # fields are AND
        ('source_pod: "shop/" verdict: DROPPED', [f"{POD} verdict: DROPPED"], [POD, "verdict: DROPPED"]),
    ],
)
def test_what_matches(filter_, matching, other):
    tree = compile_filters([wanted(filter_)])
    inverse = compile_filters([], [wanted(filter_)])
    assert [text for text in matching if not tree.exact(flow(text))] == []
    assert [text for text in other if tree.exact(flow(text))] == []
    assert [inverse.exact(flow(text)) for text in matching + other] == [False] * len(matching) + [True] * len(other)


def test_a_whitelist_is_or_and_the_blacklist_is_taken_away():
    dropped, tcp, pod = wanted("verdict: DROPPED"), wanted('protocol: "tcp"'), wanted('source_pod: "shop/"')
    tree = compile_filters([dropped, tcp], [pod])
    assert [tree.exact(flow(text)) for text in ("verdict: DROPPED", SYN_ACK, "", f"{POD} verdict: DROPPED")] == [
        True,
        True,
        False,
        False,
    ]
    assert compile_filters().matches_all
    assert not tree.matches_all
    assert compile_filters().exact(flow(POD))


L7_ONLY = "requires the event type filter to only match 'l7' events"


@pytest.mark.parametrize(
    ("filter_", "message"),
    [
        ('source_pod: ""', 'invalid filter, must be [namespace/][<name>], got ""'),
        ('source_service: ""', 'invalid source service filter: invalid filter, must be [namespace/][<name>], got ""'),
        ('destination_cluster_name: ""', "invalid filter, name must not be empty"),
        ('source_ip: "10.0.0.256"', 'invalid IP address in filter: "10.0.0.256"'),
        ('source_ip: "010.0.0.1"', 'invalid IP address in filter: "010.0.0.1"'),
        ('source_ip: ""', 'invalid IP address in filter: ""'),
        ('source_ip: "10.0.0.0/33"', 'invalid CIDR in filter: "10.0.0.0/33"'),
        ('source_ip: "10.0.0.0/08"', 'invalid CIDR in filter: "10.0.0.0/08"'),
        ('source_ip: "10.0.0.0/255.0.0.0"', 'invalid CIDR in filter: "10.0.0.0/255.0.0.0"'),
        ('source_ip: "10.0.0.0/"', 'invalid CIDR in filter: "10.0.0.0/"'),
        ('source_ip: "fe80::1%eth0/64"', 'invalid CIDR in filter: "fe80::1%eth0/64"'),
        ('source_ip_xlated: "x"', 'invalid IP address in filter: "x"'),
        (
            'source_port: "+80"',
            'invalid source port filter: invalid port "+80": strconv.ParseUint: parsing "+80": invalid syntax',
        ),
        (
            'source_port: " 80"',
            'invalid source port filter: invalid port " 80": strconv.ParseUint: parsing " 80": invalid syntax',
        ),
        (
            'source_port: "0x50"',
            'invalid source port filter: invalid port "0x50": strconv.ParseUint: parsing "0x50": invalid syntax',
        ),
        (
            'destination_port: ""',
            'invalid destination port filter: invalid port "": strconv.ParseUint: parsing "": invalid syntax',
        ),
        (
            'destination_port: "65536"',
            'invalid destination port filter: invalid port "65536": strconv.ParseUint: parsing "65536": '
            "value out of range",
        ),
        (
            'source_port: "\u0668"',
            'invalid source port filter: invalid port "\u0668": strconv.ParseUint: parsing "\u0668": invalid syntax',
        ),
        ('protocol: "quic"', 'invalid protocol filter: unknown protocol: "quic"'),
        ('source_fqdn: ""', "empty pattern"),
        ('node_name: "a/b/c"', "too many slashes in pattern"),
        ('source_label: "()"', "invalid source label filter: found '(', expected: !, identifier, or 'end of string'"),
        (
            'destination_label: "="',
            "invalid destination label filter: found '=', expected: !, identifier, or 'end of string'",
        ),
        ('node_labels: "="', "invalid node label filter: found '=', expected: !, identifier, or 'end of string'"),
        ('http_status_code: "4"', 'invalid http status code filter: invalid status code prefix: "4"'),
        ('http_status_code: "600"', 'invalid http status code filter: invalid status code prefix: "600"'),
        ('http_status_code: "404\\n"', 'invalid http status code filter: invalid status code prefix: "404\\n"'),
        ('http_path: "(a"', "invalid http path filter: (a: error parsing regexp: missing closing ): `(a`"),
        ('http_url: "[a"', "invalid http url filter: [a: error parsing regexp: missing closing ]: `[a`"),
        (
            'dns_query: "(?=a)"',
            "invalid DNS query filter: failed to compile regexp: error parsing regexp: "
            "invalid or unsupported Perl syntax: `(?=`",
        ),
        ('event_type { type: 4 } http_status_code: "200"', f"filtering by http status code {L7_ONLY}"),
        ('event_type { type: 4 } http_method: "GET"', f"filtering by http method {L7_ONLY}"),
        ('event_type { type: 4 } http_path: "/"', f"filtering by http path {L7_ONLY}"),
        ('event_type { type: 4 } http_url: "/"', f"filtering by http url {L7_ONLY}"),
        ('event_type {} http_header { key: "a" }', f"filtering by http headers {L7_ONLY}"),
        (
            'experimental { cel_expression: "true" }',
            "CEL expressions are not supported: use the other fields of the filter",
        ),
    ],
)
def test_what_is_refused_and_how(filter_, message):
    for lists in ([wanted(filter_)], []), ([], [wanted(filter_)]):
        with pytest.raises(FilterError) as refused:
            compile_filters(*lists)
        assert str(refused.value) == message
