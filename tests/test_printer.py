"""What the stock CLI prints, from a flow literal each: compact, dict, table, JSON, node status, colours, escapes."""

import io
import json

import pytest
from google.protobuf import text_format

from observer.api import flow_pb2, observer_pb2
from observer.printer import TIME_FORMATS, Colour, Output, Printer, escape, flow_type, format_time, host_names
from observer.printer.fields import identity_names, summary, verdict

A = 'source { identity: 1234 namespace: "default" pod_name: "a" }'
B = 'destination { identity: 1235 namespace: "default" pod_name: "b" }'
IP = 'IP { source: "10.0.0.1" destination: "10.0.0.2" ipVersion: IPv4 }'
PORTS = "l4 { TCP { source_port: 40000 destination_port: 80 } }"


def response(text: str) -> observer_pb2.GetFlowsResponse:
    return text_format.Parse(text, observer_pb2.GetFlowsResponse())


def flow(text: str) -> flow_pb2.Flow:
    return text_format.Parse(text, flow_pb2.Flow())


def printed(*responses: observer_pb2.GetFlowsResponse, **options) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    printer = Printer(out, err, **options)
    for each in responses:
        printer.response(each)
    printer.close()
    return out.getvalue(), err.getvalue()


# The contract's example lines, each with the flow that yields it.
EXAMPLES = [
    (
        "Jan  1 00:00:04.000: default/a:40000 (ID:1234) -> default/b:80 (ID:1235) http-request FORWARDED "
        "(HTTP/1.1 GET http://b/x?a=1&b=<2>)",
        f"""flow {{ time {{ seconds: 4 }} {A} {B} {IP} {PORTS} verdict: FORWARDED is_reply {{}}
        l7 {{ type: REQUEST http {{ method: "GET" }} }} Summary: "HTTP/1.1 GET http://b/x?a=1&b=<2>" }}""",
        {},
    ),
    (
        "Jan  1 00:00:04.007: default/a:40000 (ID:1234) <- default/b:80 (ID:1235) http-response FORWARDED "
        "(HTTP/1.1 200 7ms (GET http://b/x))",
        """flow { time { seconds: 4 nanos: 7000000 }
        source { identity: 1235 namespace: "default" pod_name: "b" }
        destination { identity: 1234 namespace: "default" pod_name: "a" }
        IP { source: "10.0.0.2" destination: "10.0.0.1" } l4 { TCP { source_port: 80 destination_port: 40000 } }
        verdict: FORWARDED is_reply { value: true } l7 { type: RESPONSE http {} }
        Summary: "HTTP/1.1 200 7ms (GET http://b/x)" }""",
        {},
    ),
    (
        "Jan  1 00:00:03.500: default/evil^[[31mpod\\r:40000 (ID:1234) <> 10.0.0.2:80 (world) Policy denied DROPPED "
        "(TCP Flags: SYN; Auth: SPIRE)",
        f"""flow {{ time {{ seconds: 3 nanos: 500000000 }}
        source {{ identity: 1234 namespace: "default" pod_name: "evil\\033[31mpod\\r" }} destination {{ identity: 2 }}
        {IP} {PORTS} verdict: DROPPED event_type {{ type: 1 sub_type: 133 }} auth_type: SPIRE
        Summary: "TCP Flags: SYN" }}""",
        {},
    ),
    (
        "Jan  1 00:00:27.033: shop/cart:443 (kube-apiserver) <- bar/Api-0:80 (ID:1042) policy-verdict:L3-L4 INGRESS "
        "ALLOWED BY allow-dns (NetworkPolicy) (UDP)",
        """flow { time { seconds: 27 nanos: 33000000 } source { identity: 1042 namespace: "bar" pod_name: "Api-0" }
        destination { identity: 7 } destination_service { name: "cart" namespace: "shop" }
        IP { source: "10.0.0.2" destination: "10.0.0.1" } l4 { UDP { source_port: 80 destination_port: 443 } }
        verdict: FORWARDED is_reply { value: true } event_type { type: 5 } policy_match_type: 2
        traffic_direction: INGRESS ingress_allowed_by { name: "allow-dns" kind: "NetworkPolicy" } Summary: "UDP" }""",
        {"policy_names": True},
    ),
    (
        "Jan  1 00:00:07.008: kube-system/coredns-558bd:65535 (ID:1030) <- default/xwing-5d8f:80 (ID:1013) "
        "post-xlate-fwd TRANSLATED (SCTP)",
        """flow { time { seconds: 7 nanos: 8000000 }
        source { identity: 1013 namespace: "default" pod_name: "xwing-5d8f" }
        destination { identity: 1030 namespace: "kube-system" pod_name: "coredns-558bd" }
        IP { source: "10.0.0.2" destination: "10.0.0.1" } l4 { SCTP { source_port: 80 destination_port: 65535 } }
        verdict: TRANSLATED is_reply { value: true } event_type { type: 7 }
        sock_xlate_point: SOCK_XLATE_POINT_POST_DIRECTION_FWD Summary: "SCTP" }""",
        {},
    ),
    (
        "Jan  1 00:08:20.617: shop/frontend-v2:58119 (ID:1027) -> api.github.com:53 (world) dns-request proxy DROPPED "
        "(DNS Query _sip._tcp.example.org. AAAA)",
        """flow { time { seconds: 500 nanos: 617000000 }
        source { identity: 1027 namespace: "shop" pod_name: "frontend-v2" } destination { identity: 2 }
        destination_names: "api.github.com" IP { source: "10.0.0.1" destination: "1.2.3.4" }
        l4 { UDP { source_port: 58119 destination_port: 53 } } verdict: DROPPED is_reply {}
        l7 { type: REQUEST dns { observation_source: "proxy" } }
        Summary: "DNS Query _sip._tcp.example.org. AAAA" }""",
        {},
    ),
    (
        "Jan  1 00:09:40.716: shop/frontend-v1:40000 (ID:1027) -> shop/frontend-v2:9092 (ID:1027) kafka-request "
        "FORWARDED (Kafka produce correlation id 418 ...)",
        """flow { time { seconds: 580 nanos: 716000000 }
        source { identity: 1027 namespace: "shop" pod_name: "frontend-v1" }
        destination { identity: 1027 namespace: "shop" pod_name: "frontend-v2" }
        IP { source: "10.0.0.1" destination: "10.0.0.2" } l4 { TCP { source_port: 40000 destination_port: 9092 } }
        verdict: FORWARDED is_reply {} l7 { type: REQUEST kafka {} }
        Summary: "Kafka produce correlation id 418 ..." }""",
        {},
    ),
    (
        "Jan  1 00:00:02.000 EVENTS LOST: OBSERVER_EVENTS_QUEUE CPU(0) 7 (first: Jan  1 00:00:00.000, "
        "last: Jan  1 00:00:02.000)",
        """lost_events { source: OBSERVER_EVENTS_QUEUE num_events_lost: 7 cpu {} first {} last { seconds: 2 } }
        time { seconds: 2 }""",
        {},
    ),
    # Beyond the contract's lines: what is absent, IPv6, node, addresses instead of names, no port.
    ("N/A:  (unknown) <>  (unknown) UNKNOWN VERDICT_UNKNOWN ()", "flow {}", {}),
    (
        "Jan  1 00:00:00.000 [west/n1]: [fd00::1]:40000 (host) -> fd00::2 (world-ipv6) to-endpoint FORWARDED (x)",
        """flow { time {} source { identity: 1 } destination { identity: 10 } node_name: "west/n1"
        IP { source: "fd00::1" destination: "fd00::2" } l4 { TCP { source_port: 40000 } } is_reply {}
        event_type { type: 4 } verdict: FORWARDED Summary: "x" }""",
        {"node_name": True},
    ),
    (
        "Jan  1 00:00:00.000: 00:00:5e:00:53:01 (unknown) <> 00:00:5e:00:53:02 (unknown) from-network FORWARDED ()",
        """flow { time {} ethernet { source: "00:00:5e:00:53:01" destination: "00:00:5e:00:53:02" }
        event_type { type: 4 sub_type: 10 } verdict: FORWARDED }""",
        {},
    ),
    (
        "Jan  1 00:00:00.000: 10.0.0.1:40000 (ID:1234) <> 10.0.0.2:80 (ID:1235) UNKNOWN VERDICT_UNKNOWN ()",
        f"flow {{ time {{}} {A} {B} {IP} {PORTS} }}",
        {"ip_translation": False},
    ),
]


@pytest.mark.parametrize(("line", "text", "options"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_compact(line, text, options):
    assert printed(response(text), **options) == (line + "\n", "")


NODES = 'node_names: "k8s3" node_names: "k8s4" node_names: "a-very-long-node-name-number-5" node_names: "k8s6-b"'


@pytest.mark.parametrize(
    ("line", "text", "options"),
    [
        (
            "Jan  1 00:00:00.100 [relay-1]: 4 nodes are unavailable: k8s3, k8s4, a-very-long-node-name-number-5 "
            "(and 1 more)",
            f"node_status {{ state_change: NODE_UNAVAILABLE {NODES} }}",
            {},
        ),
        (
            'Jan  1 00:00:00.100 [relay-1]: Error "rpc error: \\"boom\\"" on 1 nodes: k8s5',
            'node_status { state_change: NODE_ERROR node_names: "k8s5" message: "rpc error: \\"boom\\"" }',
            {},
        ),
        ("", f"node_status {{ state_change: NODE_CONNECTED {NODES} }}", {}),
        ("", f"node_status {{ state_change: NODE_UNAVAILABLE {NODES} }}", {"silent": True}),
        (
            "Jan  1 00:00:00.100 [relay-1]: Receiving flows from 1 nodes: k8s5",
            'node_status { state_change: NODE_CONNECTED node_names: "k8s5" }',
            {"debug": True},
        ),
        (
            "Jan  1 00:00:00.100 [relay-1]: 1 nodes removed from cluster: k8s5^[",
            'node_status { state_change: NODE_GONE node_names: "k8s5\\033" }',
            {"debug": True},
        ),
        (
            'Jan  1 00:00:00.100 [relay-1]: unknown node status event: {"state_change":77}',
            "node_status { state_change: 77 }",
            {"debug": True},
        ),
        (
            '{"node_status":{"state_change":"NODE_ERROR","node_names":["k8s5"],"message":"\\u001b\\u003c"},'
            '"node_name":"relay-1","time":"1970-01-01T00:00:00.100Z"}',
            'node_status { state_change: NODE_ERROR node_names: "k8s5" message: "\\033<" }',
            {"output": Output.JSON},
        ),
        (
            "  TIMESTAMP: Jan  1 00:00:00.100\n      STATE: NODE_ERROR\n      NODES: k8s5\n    MESSAGE: N/A",
            'node_status { state_change: NODE_ERROR node_names: "k8s5" }',
            {"output": Output.DICT},
        ),
    ],
)
def test_node_status_goes_to_stderr(line, text, options):
    said = response(text + ' node_name: "relay-1" time { nanos: 100000000 }')
    assert printed(said, **options) == ("", line + "\n" if line else "")


def test_node_names_are_counted_after_fifty_characters():
    assert "k8s6" not in printed(response(f"node_status {{ state_change: NODE_UNAVAILABLE {NODES} }}"))[1]


REPLY = response(EXAMPLES[1][1])
LOST = response(EXAMPLES[7][1])


def test_dict_does_not_swap_replies():
    empty = ""
    out, _ = printed(REPLY, LOST, REPLY, output=Output.DICT, node_name=True)
    assert (
        out
        == f"""\
  TIMESTAMP: Jan  1 00:00:04.007
       NODE: {empty}
     SOURCE: default/b:80
DESTINATION: default/a:40000
       TYPE: http-response
    VERDICT: FORWARDED
    SUMMARY: HTTP/1.1 200 7ms (GET http://b/x)
------------
  TIMESTAMP: Jan  1 00:00:02.000
       NODE: {empty}
     SOURCE: OBSERVER_EVENTS_QUEUE
       TYPE: EVENTS LOST
    VERDICT: {empty}
    SUMMARY: CPU(0) - 7 (first: Jan  1 00:00:00.000, last: Jan  1 00:00:02.000)
------------
  TIMESTAMP: Jan  1 00:00:04.007
       NODE: {empty}
     SOURCE: default/b:80
DESTINATION: default/a:40000
       TYPE: http-response
    VERDICT: FORWARDED
    SUMMARY: HTTP/1.1 200 7ms (GET http://b/x)
"""
    )


def test_table_is_one_header_and_padded_columns():
    out, _ = printed(REPLY, LOST, output=Output.TABLE, colour=Colour.ALWAYS)
    assert out == (
        "TIMESTAMP             SOURCE                  DESTINATION       TYPE            VERDICT     SUMMARY\n"
        "Jan  1 00:00:04.007   default/b:80            default/a:40000   http-response   FORWARDED   "
        "HTTP/1.1 200 7ms (GET http://b/x)\n"
        "Jan  1 00:00:02.000   OBSERVER_EVENTS_QUEUE                     EVENTS LOST                 "
        "CPU(0) - 7 (first: Jan  1 00:00:00.000, last: Jan  1 00:00:02.000)\n"
    )


def test_a_table_without_rows_is_nothing():
    assert printed(output=Output.TABLE) == ("", "")


def test_json_is_one_response_a_line():
    out, _ = printed(response('flow { verdict: DROPPED } node_name: "n" time { seconds: 1 }'), LOST, output=Output.JSON)
    lines = out.splitlines()
    assert lines[0] == '{"flow":{"verdict":"DROPPED"},"node_name":"n","time":"1970-01-01T00:00:01Z"}'
    assert json.loads(lines[1])["lost_events"]["num_events_lost"] == "7"


@pytest.mark.parametrize(
    ("compat", "options", "bare"),
    [
        ("", {}, False),
        ("legacy-json-output", {}, True),
        ("other,legacy-json-output", {}, True),
        ("legacy-json-output", {"legacy_json": False}, False),
        ("", {"legacy_json": True}, True),
    ],
)
def test_legacy_json_is_bare_flows(monkeypatch, compat, options, bare):
    monkeypatch.setenv("HUBBLE_COMPAT", compat)
    status = response("node_status { state_change: NODE_ERROR }")
    out, err = printed(response("flow { verdict: DROPPED }"), status, output=Output.JSON, **options)
    assert out == ('{"verdict":"DROPPED"}\n' if bare else '{"flow":{"verdict":"DROPPED"}}\n')
    assert bool(err) is not bare


CYAN, YELLOW, MAGENTA, GREEN, RED, RESET = "\x1b[36m", "\x1b[33m", "\x1b[35m", "\x1b[32m", "\x1b[31m", "\x1b[0m"


def test_colours():
    out, _ = printed(response(EXAMPLES[0][1]), colour=Colour.ALWAYS)
    assert out == (
        f"Jan  1 00:00:04.000: {CYAN}default/a:{YELLOW}40000{RESET}{RESET} {MAGENTA}(ID:1234){RESET} -> "
        f"{CYAN}default/b:{YELLOW}80{RESET}{RESET} {MAGENTA}(ID:1235){RESET} http-request {GREEN}FORWARDED{RESET} "
        "(HTTP/1.1 GET http://b/x?a=1&b=<2>)\n"
    )
    out, _ = printed(response(EXAMPLES[2][1]), colour=Colour.ALWAYS)
    assert f"evil^[[31mpod\\r:{YELLOW}40000{RESET}{RESET}" in out
    assert f"{RED}DROPPED{RESET} (TCP Flags: SYN; Auth: {GREEN}SPIRE{RESET})" in out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("colour", "stream", "no_color", "term", "coloured"),
    [
        (Colour.AUTO, io.StringIO, "", "xterm", False),
        (Colour.AUTO, Terminal, "", "xterm", True),
        (Colour.AUTO, Terminal, "1", "xterm", False),
        (Colour.AUTO, Terminal, "", "dumb", False),
        (Colour.ALWAYS, io.StringIO, "1", "dumb", True),
        (Colour.NEVER, Terminal, "", "xterm", False),
    ],
)
def test_when_to_colour(monkeypatch, colour, stream, no_color, term, coloured):
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", term)
    out = stream()
    Printer(out, io.StringIO(), colour=colour).response(response(EXAMPLES[0][1]))
    assert ("\x1b[" in out.getvalue()) is coloured


@pytest.mark.parametrize(
    ("raw", "visible"),
    [
        ("plain ü 漢", "plain ü 漢"),
        ("\x1b[2J", "^[[2J"),
        ("a\rb", "a\\rb"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\0\x07\x08\x7f", "\\x00\\x07\\x08\\x7f"),
        ("\x9b31m\x85", "\\x9b31m\\x85"),
        ("\u202egnp.exe\u2066\u200f", "\\u202egnp.exe\\u2066\\u200f"),
        ("a\u2028b", "a\\u2028b"),
        ("pay\u200bments\xad", "pay\\u200bments\\xad"),
        ("\ufeffa\U000e0041", "\\ufeffa\\U000e0041"),
    ],
)
def test_escapes(raw, visible):
    assert escape(raw) == visible


NASTY = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x202E, 0x2028, 0x2029, 0x2066]))


@pytest.mark.parametrize("output", list(Output))
@pytest.mark.parametrize("colour", [Colour.NEVER, Colour.ALWAYS])
def test_nothing_from_the_network_reaches_the_terminal_raw(output, colour):
    """Every string of a flow, a lost event and a node status holds every control character there is."""
    nasty = observer_pb2.GetFlowsResponse(node_name=NASTY)
    f = nasty.flow
    f.node_name = f.Summary = f.uuid = NASTY
    f.IP.source = f.IP.destination = NASTY
    f.l4.TCP.source_port = 1
    f.source.namespace = f.source.pod_name = NASTY
    f.destination_names.append(NASTY)
    f.l7.dns.observation_source = NASTY
    f.egress_denied_by.add(name=NASTY, kind=NASTY)
    f.auth_type = flow_pb2.AuthType.SPIRE
    lost = observer_pb2.GetFlowsResponse(node_name=NASTY, lost_events=flow_pb2.LostEvent(num_events_lost=1))
    status = observer_pb2.GetFlowsResponse(node_name=NASTY)
    status.node_status.state_change = 4
    status.node_status.node_names.append(NASTY)
    status.node_status.message = NASTY
    options = {"output": output, "node_name": True, "policy_names": True, "colour": colour}
    for text in printed(nasty, lost, status, **options):
        for sequence in (CYAN, YELLOW, MAGENTA, GREEN, RED, RESET):
            text = text.replace(sequence, "")
        assert set(text) & set(NASTY) <= {"\n"}
    rows = {Output.COMPACT: 2, Output.JSON: 2, Output.TABLE: 3, Output.DICT: 7 + 1 + 6}
    assert printed(nasty, lost, **options)[0].count("\n") == rows[output]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("l7 { type: SAMPLE }", "l7-sample"),
        ("l7 { type: RESPONSE kafka {} }", "kafka-response"),
        ("l7 { type: REQUEST dns {} }", "dns-request "),
        ("event_type { type: 1 sub_type: 133 }", "Policy denied"),
        (
            "event_type { type: 1 sub_type: 1 } extensions { [type.googleapis.com/google.protobuf.Struct] { fields {"
            ' key: "skb_drop_reason" value { string_value: "NETFILTER_DROP" } } } }',
            "NETFILTER_DROP",
        ),
        ("event_type { type: 1 sub_type: 1 } extensions { [type.googleapis.com/google.protobuf.Struct] {} }", "1"),
        (
            'event_type { type: 1 sub_type: 1 } extensions { type_url: "a/google.protobuf.Struct" value: "\\377" }',
            "1",
        ),
        ("event_type { type: 1 sub_type: 181 }", "Policy denied by denylist"),
        ("event_type { type: 1 sub_type: 133 } drop_reason_desc: POLICY_DENY", "Policy denied"),
        ("event_type { type: 1 sub_type: 254 }", "254"),
        ("event_type { type: 4 sub_type: 3 }", "to-stack"),
        ("event_type { type: 5 } policy_match_type: 1 traffic_direction: EGRESS", "policy-verdict:L3-Only EGRESS"),
        ("event_type { type: 5 }", "policy-verdict:none TRAFFIC_DIRECTION_UNKNOWN"),
        ("event_type { type: 3 } debug_capture_point: DBG_CAPTURE_PROXY_PRE", "DBG_CAPTURE_PROXY_PRE"),
        ("event_type { type: 7 } sock_xlate_point: SOCK_XLATE_POINT_PRE_DIRECTION_REV", "pre-xlate-rev"),
        ("event_type { type: 7 }", "SOCK_XLATE_POINT_UNKNOWN"),
        ("event_type { type: 130 }", "UNKNOWN"),
    ],
)
def test_types(text, expected):
    assert flow_type(flow(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected", "named"),
    [
        ("verdict: REDIRECTED", "REDIRECTED", ""),
        ("verdict: REDIRECTED event_type { type: 5 }", "ALLOWED", ""),
        ("verdict: ERROR event_type { type: 5 }", "DENIED", ""),
        ("verdict: AUDIT event_type { type: 5 }", "AUDITED", ""),
        ("verdict: TRACED event_type { type: 5 }", "TRACED", ""),
        ("verdict: 99", "99", ""),
        (
            'verdict: DROPPED egress_allowed_by { name: "e" } ingress_denied_by { name: "i" kind: "K" }',
            "DROPPED",
            " BY i (K)",
        ),
        (
            'verdict: FORWARDED egress_allowed_by { name: "e" kind: "K" } ingress_allowed_by { name: "i" }',
            "FORWARDED",
            " BY e (K), i",
        ),
    ],
)
def test_verdicts(text, expected, named):
    assert verdict(flow(text)) == expected
    assert verdict(flow(text), policy_names=True) == expected + named


@pytest.mark.parametrize(
    ("text", "source"),
    [
        # A service's namespace stands before the pod too, a quirk of Hubble.
        ('source { namespace: "ns" pod_name: "p" } source_service { name: "s" namespace: "other" }', "other/p"),
        ('source { namespace: "ns" } source_service { name: "s" namespace: "other" }', "other/s"),
        ('source { pod_name: "p" }', "p"),
        ('source { namespace: "ns" } source_names: "a" source_names: "b"', "a,b"),
        ('source { namespace: "ns" }', "10.0.0.1"),
    ],
)
def test_hosts(text, source):
    assert host_names(flow(f"{IP} {text}"))[0] == source
    assert host_names(flow(f"{IP} {PORTS} {text}"))[0] == f"{source}:40000"


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "unknown"),
        (1, "host"),
        (2, "world"),
        (3, "unmanaged"),
        (4, "health"),
        (5, "init"),
        (6, "remote-node"),
        (7, "kube-apiserver"),
        (8, "ingress"),
        (9, "world-ipv4"),
        (10, "world-ipv6"),
        (11, "ID:11"),
    ],
)
def test_identities(number, name):
    assert identity_names(flow(f"source {{ identity: {number} }}")) == (f"({name})", "(unknown)")


def test_summary_has_the_clis_additions():
    assert summary(flow('ip_trace_id { trace_id: 9 } Summary: "UDP" auth_type: TEST_ALWAYS_FAIL')) == (
        "IP Trace ID: 9; UDP; Auth: TEST_ALWAYS_FAIL"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("StampMilli", "Feb  3 04:05:06.012"),
        ("YearMonthDay", "2026-02-03"),
        ("YearMonthDayHour", "2026-02-03T04Z"),
        ("YearMonthDayHourMinute", "2026-02-03T04:05Z"),
        ("RFC3339", "2026-02-03T04:05:06Z"),
        ("RFC3339Milli", "2026-02-03T04:05:06.012Z"),
        ("RFC3339Micro", "2026-02-03T04:05:06.0123Z"),
        ("RFC3339Nano", "2026-02-03T04:05:06.0123Z"),
        ("RFC1123Z", "Tue, 03 Feb 2026 04:05:06 +0000"),
    ],
)
def test_times(name, text):
    time = observer_pb2.GetFlowsResponse().time
    time.FromJsonString("2026-02-03T04:05:06.012300Z")
    assert format_time(time, name) == text
    assert name in TIME_FORMATS


@pytest.mark.parametrize(
    ("seconds", "nanos", "text"),
    [
        (-62135596800, 0, "Jan  1 00:00:00.000"),
        (-62135596801, 0, "N/A"),
        (253402300799, 999999999, "Dec 31 23:59:59.999"),
        (253402300800, 0, "N/A"),
        (0, -1, "N/A"),
        (0, 10**9, "N/A"),
        (2**62, 0, "N/A"),
    ],
)
def test_times_that_are_none(seconds, nanos, text):
    flow_time = observer_pb2.GetFlowsResponse().time
    flow_time.seconds, flow_time.nanos = seconds, nanos
    assert format_time(flow_time) == text


def test_an_unknown_time_format_is_refused():
    with pytest.raises(ValueError, match="unknown time format"):
        Printer(io.StringIO(), io.StringIO(), time_format="Kitchen")
