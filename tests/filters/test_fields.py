"""Each field on flows written by hand: one that passes, one that does not; and the texts made from the table."""

from pathlib import Path

import pytest
from google.protobuf import json_format

from observer.api import flow_pb2
from observer.errors import FilterError
from observer.filters import values
from observer.filters.expression import Expression
from observer.filters.fields import FIELDS, OPERATOR_HELP, OPERATORS, TABLE, VERDICTS, Kind, values_of

ROOT = Path(__file__).parent.parent.parent


def flow(**fields):
    return json_format.ParseDict(fields, flow_pb2.Flow())


def ours(**entries):
    """A flow with something that Hubble has no place for."""
    return {"extensions": {"@type": "type.googleapis.com/google.protobuf.Struct", "value": entries}}


def http(**fields):
    return {"l7": {"type": "RESPONSE", "http": fields}}


def header(key, value):
    return http(headers=[{"key": key, "value": value}])


def call(**fields):
    return http() | ours(grpc=fields)


def dns(kind="RESPONSE", **fields):
    return {"l7": {"type": kind, "dns": fields}}


def labels(*texts):
    return {"destination": {"labels": texts}}


def workload(**fields):
    return {"source": {"workloads": [fields]}}


CART, PAY = {"namespace": "shop", "pod_name": "cart-0"}, {"namespace": "prod", "pod_name": "pay-1"}
LONE = {"namespace": "default", "pod_name": "cart-0"}
TABLE_OF_FLOWS = [
    ("pod=cart", {"source": LONE}, {"source": CART}),
    ("pod=shop/cart", {"destination": CART}, {"destination": PAY}),
    ("to-pod=shop/", {"destination": CART}, {"source": CART}),
    ("from-pod!=shop/cart", {"destination": CART}, {"source": CART}),
    ("pod=/pay", {"source": PAY}, {"source": CART}),
    ("pod=*-0", {"source": CART}, {"source": PAY}),
    ("pod=pr*/pay-?", {"source": PAY}, {"source": {"namespace": "prod", "pod_name": "pay-10"}}),
    ('pod="*"', {"source": {"namespace": "default", "pod_name": "*x"}}, {"source": LONE}),
    ("pod~^shop/.*[0-9]$", {"source": CART}, {"source": PAY}),
    ("pod!~shop", {"source": PAY}, {"source": CART, "destination": PAY}),
    ("pod in (shop/cart, prod/*)", {"source": PAY}, {"source": LONE}),
    ("namespace=shop", {"destination": CART}, {"destination": PAY}),
    ("from-namespace=shop", {"source": CART}, {"destination": CART}),
    ("namespace=s*p", {"source": CART}, {"source": PAY}),
    ("ip=10.0.0.0/8", {"IP": {"source": "10.1.2.3"}}, {"IP": {"source": "11.1.2.3"}}),
    ("to-ip=fd00::1", {"IP": {"destination": "fd00::1"}}, {"IP": {"source": "fd00::1"}}),
    ("ip=10.0.*", {"IP": {"source": "10.0.9.9"}}, {"IP": {"source": "10.10.0.9"}}),
    ("port=80", {"l4": {"TCP": {"source_port": 80}}}, {"l4": {"ICMPv4": {}}}),
    ("to-port<1024", {"l4": {"UDP": {"destination_port": 53}}}, {"l4": {"TCP": {"destination_port": 8080}}}),
    ("port>=1024", {"l4": {"UDP": {"source_port": 1024}}}, {"l4": {"UDP": {"source_port": 1023}}}),
    ("udp", {"l4": {"UDP": {}}}, {"l4": {"TCP": {}}}),
    ("icmp", {"l4": {"ICMPv6": {}}}, {"l4": {"SCTP": {}}}),
    ("http", http(), {"l7": {"dns": {}}}),
    ("grpc", call(), http()),
    ("protocol in (GRPC, DNS)", {"l7": {"dns": {}}}, http() | ours(tls={})),
    ("verdict=dropped", {"verdict": "DROPPED"}, {"verdict": "ERROR"}),
    ("verdict!=FORWARDED", {"verdict": "DROPPED"}, {"verdict": "FORWARDED"}),
    (
        "drop-reason=POLICY_DENIED",
        {"verdict": "DROPPED", "drop_reason_desc": "POLICY_DENIED"},
        {"verdict": "FORWARDED", "drop_reason_desc": "POLICY_DENIED"},
    ),
    ("policy=deny-all", {"ingress_denied_by": [{"name": "deny-all", "namespace": "shop"}]}, {}),
    (
        "policy=shop/*",
        {"egress_allowed_by": [{"name": "x", "namespace": "shop"}]},
        {"egress_allowed_by": []},
    ),
    ("identity=world", {"destination": {"identity": 2}}, {"destination": {"identity": 1}}),
    (
        "from-identity>=256",
        {"source": {"identity": 300}},
        {"destination": {"identity": 300}},
    ),
    ("identity=0", {"source": {}}, {}),
    ("label=app=cart", {"source": {"labels": ["k8s:app=cart"]}}, {"source": {"labels": ["k8s:app=pay"]}}),
    (
        'to-label="app in (a, b), !x"',
        labels("any:app=b"),
        labels("app=b", "x"),
    ),
    ("label=app=ca*", {"source": {"labels": ["k8s:app=cart"]}}, {"source": {"labels": ["k8s:my.app=cart"]}}),
    ("label~^reserved:", {"source": {"labels": ["reserved:world"]}}, {"source": {"labels": ["k8s:x=reserved:"]}}),
    (
        "workload=Job/",
        workload(kind="Job", name="a"),
        workload(name="a"),
    ),
    (
        "workload=*art",
        workload(kind="Job", name="cart"),
        workload(name="arts"),
    ),
    ("service=shop/", {"source_service": {"name": "a", "namespace": "shop"}}, {"source_service": {"name": "shop"}}),
    ("to-service~a$", {"destination_service": {"name": "a"}}, {"source_service": {"name": "a"}}),
    ("fqdn=*.org", {"destination_names": ["a.b.org"]}, {"destination_names": ["a.b.com"]}),
    ("to-fqdn~^a", {"destination_names": ["x", "a"]}, {"source_names": ["a"]}),
    ("cluster=east", {"source": {"cluster_name": "east"}}, {"source": {"cluster_name": "easter"}}),
    ("cluster=eas*", {"source": {"cluster_name": "easter"}}, {"source": {"cluster_name": "west"}}),
    ("node=n*", {"node_name": "east/n1"}, {"node_name": "m1"}),
    ("node~east", {"node_name": "east/n1"}, {"node_name": "n1"}),
    ("node-label=zone=a", {"node_labels": ["zone=a"]}, {"node_labels": ["zone=b"]}),
    ("direction=egress", {"traffic_direction": "EGRESS"}, {"traffic_direction": "INGRESS"}),
    ("reply=true", {"is_reply": True}, {"is_reply": False}),
    ("reply=false", {"is_reply": False}, {}),
    ("not reply=true", {}, {"is_reply": True}),
    ("type=l7", {"event_type": {"type": 129}}, {"event_type": {"type": 4}}),
    ("type=trace:to-endpoint", {"event_type": {"type": 4}}, {"event_type": {"type": 4, "sub_type": 3}}),
    ("http.method=get", http(method="GET"), http(method="PUT")),
    ("http.method~^P", http(method="PUT"), http(method="GET")),
    ("http.path=^/v1/", http(url="http://x/v1/y"), http(url="http://x/y/v1/")),
    ("http.path~^/v1/", http(url="http://x/v1/y?z"), http(url="http://v1/y")),
    ("http.path!=^/v1/", http(url="http://x/v2/"), http(url="http://x/v1/")),
    ("http.url=//x/", http(url="http://x/v1"), http(url="http://y/v1")),
    ("http.status=5xx", http(code=503), http(code=404)),
    ("http.status=40X", http(code=404), http(code=414)),
    ("http.status in (404, 5+)", http(code=500), http(code=200)),
    ("http.status>=400", http(code=404), http(code=302)),
    ("http.status<400", http(code=302), http()),
    ("http.status!=200", http(), http(code=200)),
    (
        "http.header=X-Id:7",
        header("X-Id", "7"),
        header("x-id", "7"),
    ),
    (
        "http.header~(?i)^x-id:",
        header("X-Id", "7"),
        header("X", "x-id:"),
    ),
    (r"dns.query=\.org", {"l7": {"dns": {"query": "a.org."}}}, {"l7": {"dns": {"query": "aorg."}}}),
    (
        "dns.rcode=nxdomain",
        dns(rcode=3),
        dns("REQUEST", rcode=3),
    ),
    ("dns.rcode>0", dns(rcode=2), dns()),
    ("dns.rcode=0", dns(), http()),
    ("kafka.topic=orders", {"l7": {"kafka": {"topic": "orders"}}}, {"l7": {"kafka": {"topic": "orders2"}}}),
    (
        "kafka.topic=b",
        {"l7": {"kafka": {}}} | ours(kafka={"topics": ["a", "b"]}),
        ours(kafka={"topics": ["b"]}),
    ),
    ("kafka.topic~^or", {"l7": {"kafka": {"topic": "orders"}}}, {"l7": {"kafka": {"topic": "x-orders"}}}),
    ("kafka.api=produce", {"l7": {"kafka": {"api_key": "produce"}}}, {"l7": {"kafka": {"api_key": "fetch"}}}),
    (
        "grpc.method=a.B/C",
        call(service="a.B", method="C"),
        call(service="a.B"),
    ),
    ("grpc.method=/a.B/C", call(service="a.B", method="C"), http()),
    (
        "grpc.method=C",
        call(service="a.B", method="C"),
        call(service="C", method="D"),
    ),
    (
        "grpc.method=a.*",
        call(service="a.B", method="C"),
        call(service="b", method="C"),
    ),
    ("grpc.status=unavailable", call(status=14), call(status=4)),
    ("grpc.status>0", call(status=1), call(status=0)),
    ("grpc.status=OK", call(status=0), call()),
    ("latency>20ms", {"l7": {"latency_ns": "20000001"}}, {"l7": {"latency_ns": "20000000"}}),
    ("latency<=20ms", {"l7": {"latency_ns": "20000000"}}, {}),
    ("latency!=1ns", {}, {"l7": {"latency_ns": "1"}}),
    ("bytes>=1k", ours(bytes=1000), ours(bytes=999)),
    ("bytes<1KiB", ours(bytes=1023), {}),
    (
        "tcp-flags=syn",
        {"l4": {"TCP": {"flags": {"SYN": True}}}},
        {"l4": {"TCP": {"flags": {"ACK": True}}}},
    ),
    ("ip-version=v6", {"IP": {"ipVersion": "IPv6"}}, {"IP": {"ipVersion": "IPv4"}}),
    ("snat-ip=10.0.0.1", {"IP": {"source_xlated": "10.0.0.1"}}, {"IP": {"source": "10.0.0.1"}}),
    ("interface=eth0", {"interface": {"name": "eth0"}}, {"interface": {"name": "eth1"}}),
    ("encrypted=true", {"IP": {"encrypted": True}}, {}),
    ("uuid=x", {"uuid": "x"}, {"uuid": "y"}),
    ("trace-id=7", {"trace_context": {"parent": {"trace_id": "7"}}}, {"trace_context": {"parent": {"trace_id": "8"}}}),
    ("ip-trace-id=7", {"ip_trace_id": {"trace_id": "7"}}, {"ip_trace_id": {"trace_id": "8"}}),
    # words
    ("cart", {"source": CART}, {"source": PAY}),
    ("CART-0", {"destination": CART}, {"destination": {"labels": ["cart-0"]}}),
    ("shop/c", {"source": CART}, {"source": LONE}),
    ("10.0.0", {"IP": {"source": "10.0.0.7"}}, {"IP": {"source": "10.1.0.0"}}),
    ("org", {"source_names": ["a.ORG"]}, {"node_name": "a.org"}),
    ('"http/1.1 200"', {"Summary": "HTTP/1.1 200 7ms"}, {"Summary": "HTTP/2 200 7ms"}),
    ("/^HTTP.* [45]../", {"Summary": "HTTP/1.1 503"}, {"Summary": "x HTTP/1.1 503"}),
    ("/^10[.]/", {"IP": {"destination": "10.9.9.9"}}, {"IP": {"destination": "110.9.9.9"}}),
    # together
    ("dns or kafka", {"l7": {"kafka": {}}}, http()),
    ("dns and not udp", {"l7": {"dns": {}}, "l4": {"TCP": {}}}, {"l7": {"dns": {}}, "l4": {"UDP": {}}}),
    ("tcp cart or dns", {"l7": {"dns": {}}}, {"l4": {"TCP": {}}}),
    ("tcp (cart or dns)", {"l4": {"TCP": {}}, "l7": {"dns": {}}}, {"l7": {"dns": {}}}),
    ("not (tcp or udp)", {"l4": {"SCTP": {}}}, {"l4": {"UDP": {}}}),
]


@pytest.mark.parametrize(("text", "passes", "fails"), TABLE_OF_FLOWS, ids=[text for text, _, _ in TABLE_OF_FLOWS])
def test_one_flow_passes_and_one_does_not(text, passes, fails):
    expression = Expression.parse(text)
    assert expression.exact(flow(**passes))
    assert not expression.exact(flow(**fails))


def test_every_field_and_every_operator_has_its_flows():
    asked = " ".join(text for text, _, _ in TABLE_OF_FLOWS)
    for field in TABLE:
        assert any(f"{name}{sign}" in asked for name in field.names for sign in ("=", "!", "~", "<", ">", " in")), field
    assert all(sign in asked for sign in OPERATOR_HELP)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("20ms", 20_000_000), ("1.5s", 1_500_000_000), ("3us", 3_000), ("3µs", 3_000), ("7ns", 7), ("2m", 120_000_000_000),
     ("0.000000001s", 1), ("99999999999999999999s", (1 << 63) - 1)],
)  # fmt: skip
def test_durations(text, expected):
    assert values.duration_ns(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("900", 900), ("1k", 1_000), ("1.5M", 1_500_000), ("2GB", 2 * 10**9), ("64KiB", 65_536), ("7b", 7),
     ("9999999999g", 1 << 53)],
)  # fmt: skip
def test_sizes(text, expected):
    assert values.size(text) == expected


@pytest.mark.parametrize("text", ["", "ms", "1", "1h", "-1ms", "1e3ms", "1 ms", "9" * 21 + "s", "1.s", "٣ms"])
def test_what_is_no_duration(text):
    with pytest.raises(FilterError, match="expected a duration"):
        values.duration_ns(text)


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        (
            "dns and verdict=x",
            16,
            f"unknown verdict `x`; one of {', '.join(VERDICTS)}",
        ),
        ("drop-reason=x", 12, "unknown drop reason `x`; for example POLICY_DENIED"),
        ("verdict in (DROPPED, x)", 21, None),
        ("port=http", 5, None),
        ("port<65536", 5, "expected a number below 65536, not `65536`"),
        ("identity>x", 9, None),
        ("namespace=a/b", 10, "a namespace is one word without a slash, not `a/b`"),
        ('pod=""', 4, 'invalid filter, must be [namespace/][<name>], got ""'),
        ("reply=yes", 6, "expected true or false, not `yes`"),
        ("http.status=6xx", 12, 'invalid http status code filter: invalid status code prefix: "6+"'),
        ("http.path=(", 10, None),
        ("grpc.status=NOPE", 12, None),
        ("dns.rcode>99999", 10, None),
        ("kafka.topic~(", 12, "error parsing regexp: missing closing ): `(`"),
        ("http.header=x", 12, 'invalid http-header value "x", expected name:value'),
        ('label="a in"', 6, None),
        ("fqdn=a!b", 5, None),
        ("ip-trace-id=0", 12, "expected a number greater than 0, not `0`"),
        ("a or /*/", 5, None),
    ],
)
def test_a_value_that_is_refused_is_told_with_its_place(text, position, message):
    with pytest.raises(FilterError) as refused:
        Expression.parse(text)
    assert refused.value.position == position
    assert message is None or str(refused.value) == message


def test_what_a_flow_has_is_told_side_by_side():
    whole = flow(source=CART, destination=PAY, verdict="DROPPED", l7={"dns": {"query": "x."}}, l4={"UDP": {}})
    assert values_of(whole, "pod") == ["shop/cart-0", "prod/pay-1"]
    assert values_of(whole, "to-pod") == ["prod/pay-1"]
    assert values_of(whole, "protocol") == ["dns", "udp"]
    assert values_of(whole, "verdict") == ["DROPPED"]
    assert values_of(whole, "http.path") == values_of(whole, "interface") == []


def test_names_are_one_fields_each():
    names = [name for field in TABLE for name in field.names]
    assert len(names) == len(set(names)) == len(FIELDS)
    assert set(OPERATORS) == set(Kind)
    assert {sign for signs in OPERATORS.values() for sign in signs} == set(OPERATOR_HELP)


def test_the_page_on_fields_is_made_from_the_table():
    rows = ["| field | means | operators |", "|---|---|---|"]
    for field in TABLE:
        name = f"`{field.name}`{' *' if field.sided else ''}"
        flag = f" (`--{field.flag}`)" if field.flag else ""
        rows.append(f"| {name} | {field.help}{flag} | {' '.join(f'`{sign}`' for sign in field.operators)} |")
    signs = ["| operator | means |", "|---|---|", *(f"| `{sign}` | {told} |" for sign, told in OPERATOR_HELP.items())]
    page = (ROOT / "docs" / "filter-language.md").read_text()
    for table in (rows, signs):
        assert "\n".join(table) in page, "\n" + "\n".join(table)


def test_the_readme_names_every_field():
    section = (ROOT / "README.md").read_text().partition("### Filter language")[2].partition("\n### ")[0]
    assert [field.name for field in TABLE if f"`{field.name}`" not in section] == []
