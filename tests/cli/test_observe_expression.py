"""Expressions on observe's command line: the same as flags, beside flags, and wrong."""

import json
import signal

import pytest
from click.testing import CliRunner

from observer.cli.observe import SHOWN_AFTER, SHOWN_BEFORE, command, pointed_at
from observer.cli.observe_filters import FLAGS
from observer.filters.fields import FIELDS, TABLE
from tests.cli.test_commands import JUDGED, PATIENCE_S, run, start
from tests.cli.test_commands import server as server
from tests.cli.test_observe_filters import request_of

VALUES = {
    "uuid": "x",
    "node-name": "n*",
    "node-label": "zone=a",
    "cluster": "default",
    "protocol": "dns",
    "tcp-flags": "syn,ack",
    "type": "trace:to-endpoint",
    "verdict": "DROPPED",
    "drop-reason-desc": "POLICY_DENIED",
    "http-status": "5+",
    "http-method": "get",
    "http-path": "^/v1/(a|b)",
    "http-url": "shop",
    "http-header": "X-Id:7",
    "dns-query": r"\.org\.$",
    "trace-id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "ip-trace-id": "7",
    "fqdn": "*.example.org",
    "ip": "10.244.0.0/16",
    "snat-ip": "10.0.0.1",
    "ip-version": "v6",
    "pod": "shop/api",
    "namespace": "shop",
    "label": "app=frontend,tier!=x",
    "service": "shop/api",
    "port": "8080",
    "workload": "Deployment/frontend",
    "identity": "world",
    "traffic-direction": "ingress",
    "reply": "true",
    "interface": "eth0",
}
WITHOUT_A_FIELD = {"not", "ipv4", "ipv6", "encrypted", "unencrypted"} | {
    f"{before}all-namespaces" for before in ("", "from-", "to-")
}
SIDED = [name for name in FLAGS if name not in WITHOUT_A_FIELD]


def told(*words):
    """What observe prints, without a process of its own."""
    done = CliRunner().invoke(command, words, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


def value_of(flag):
    return VALUES[flag.removeprefix("from-").removeprefix("to-") if flag not in VALUES else flag]


@pytest.mark.parametrize("flag", SIDED)
def test_a_field_means_what_the_flag_of_that_name_means(flag):
    value = value_of(flag)
    flags, words = request_of(f"--{flag}", value), request_of(f"{flag}={value}")
    assert flags == words
    assert (
        request_of("--not", f"--{flag}", value) == request_of(f"not {flag}={value}") == request_of(f"{flag}!={value}")
    )


def test_every_flag_has_its_field():
    assert set(FLAGS) - WITHOUT_A_FIELD <= set(FIELDS)
    assert all(field.flag in FLAGS for field in TABLE if field.flag)


@pytest.mark.parametrize(
    ("flag", "value", "some"),
    [
        ("to-pod", "shop/api", True),
        ("pod", "shop/api", True),
        ("from-namespace", "visitors", True),
        ("http-status", "2+", True),
        ("http-path", "^/v1/charge$", True),
        ("dns-query", "payment", True),
        ("verdict", "DROPPED", True),
        ("label", "app=frontend", True),
        ("ip", "fd00::/16", True),
        ("identity", "257", True),
        ("port", "53", True),
        ("fqdn", "*", True),
        ("workload", "Deployment/", True),
        ("tcp-flags", "syn", True),
        ("type", "l7", True),
        ("reply", "false", True),
        ("traffic-direction", "egress", True),
        ("pod", "nobody", False),
    ],
)
def test_a_server_and_a_capture_answer_it_like_the_flag(server, flag, value, some):
    by_flag = told("--server", server, "--all", f"--{flag}", value)
    assert bool(by_flag) == some
    expression = f'{flag}="{value}"'
    assert told("--server", server, "--all", expression) == by_flag
    assert told(*JUDGED, expression) == by_flag


@pytest.mark.parametrize(
    "text",
    [
        "latency>=1ns and http",
        "pod=*-server-* or dns",
        "CHARGE and not verdict=DROPPED",
        "/v[12]/ !reply=true",
        "verdict=DROPPED and (http or kafka.topic=x)",
        "bytes>1k",
        "http.status>200",
        "not (pod~^shop or dns)",
    ],
)
def test_what_is_judged_here_is_the_same_of_a_server_and_a_capture(server, text):
    from_server = told("--server", server, "--all", text)
    assert from_server
    assert told(*JUDGED, text) == from_server
    lines = from_server.splitlines(keepends=True)
    for number in (1, 3):
        last = "".join(lines[-number:])
        assert told("--server", server, "--last", str(number), text) == last
        assert told(*JUDGED, "--last", str(number), text) == last
        assert told("--server", server, "--first", str(number), text) == "".join(lines[:number])


def test_words_are_joined_and_stand_beside_flags(server):
    words = ["from-pod=shop/api", "--verdict", "DROPPED", "and", "latency>0ms"]
    code, out, _ = run("observe", "--server", server, "--all", *words)
    assert code == 0
    lines = out.splitlines()
    assert lines
    assert all(" http-response DROPPED " in line for line in lines)


def test_an_expression_is_followed(server):
    words = ["observe", "--server", server, "--follow", "--last", "2", "verdict=DROPPED and latency>=1ns"]
    for _ in range(3):  # ctrl-c may come while the call that follows is being opened
        with start(*words) as process:
            assert all(" http-response DROPPED " in process.stdout.readline() for _ in range(2))
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    ("words", "allow", "deny", "rest"),
    [
        (["dns"], [{"protocol": ["dns"]}], [], ""),
        (["dns", "--verdict", "DROPPED"], [{"verdict": ["DROPPED"], "protocol": ["dns"]}], [], ""),
        (["not dns"], [], [{"protocol": ["dns"]}], ""),
        (["dns or kafka"], [{"protocol": ["dns"]}, {"protocol": ["kafka"]}], [], ""),
        (["protocol in (dns, kafka)"], [{"protocol": ["dns", "kafka"]}], [], ""),
        (["not (dns or to-port=53)"], [], [{"protocol": ["dns"]}, {"destination_port": ["53"]}], ""),
        (["not (dns and to-port=53)"], [], [{"protocol": ["dns"], "destination_port": ["53"]}], ""),
        (["not dns or not to-port=53"], [], [{"protocol": ["dns"], "destination_port": ["53"]}], ""),
        (["dns or not to-port=53"], [], [], "dns or not to-port=53"),
        (["port=53"], [{"source_port": ["53"]}, {"destination_port": ["53"]}], [], ""),
        (["from-namespace=shop from-pod=/cart"], [{"source_pod": ["shop/cart"]}], [], ""),
        (["from-namespace=shop from-pod=x/cart"], [{"source_pod": ["shop/"]}], [], "from-pod=x/cart"),
        (["verdict=DROPPED verdict=AUDIT"], [{"verdict": ["DROPPED"]}], [], "verdict=AUDIT"),
        (["type=trace http.status=500"], [{"event_type": [{"type": 4}]}], [], "http.status=500"),
        (["type=l7 http.status=5xx"], [{"event_type": [{"type": 129}], "http_status_code": ["5+"]}], [], ""),
        (["dns and latency>1ms"], [{"protocol": ["dns"]}], [], "latency>1ms"),
        (["to-pod=prod/a*-x"], [{"destination_pod": ["prod/a"]}], [], "to-pod=prod/a*-x"),
        (["to-pod in (b, prod/*)"], [{"destination_pod": ["b", "prod/"]}], [], "to-pod in (b, prod/*)"),
        (["to-pod=a*"], [], [], "to-pod=a*"),
        (["to-pod in (a, a*)"], [], [], "to-pod in (a, a*)"),
        (["to-pod!=prod/*"], [], [], "to-pod!=prod/*"),
        (["grpc"], [{"protocol": ["http"]}], [], "grpc"),
        (["protocol in (grpc, dns)"], [{"protocol": ["http", "dns"]}], [], "protocol in (grpc, dns)"),
        (["http.status>=500 !grpc"], [{"protocol": ["http"]}], [], "http.status>=500 and not grpc"),
        (
            ["(to-port=53 and latency>1ms) or dns.rcode>0"],
            [{"destination_port": ["53"]}, {"protocol": ["dns"]}],
            [],
            "to-port=53 and latency>1ms or dns.rcode>0",
        ),
        (["cart", "pod=*x"], [], [], "cart and pod=*x"),
        (["--not", "--to-port", "53", "!kafka"], [], [{"destination_port": ["53"]}, {"protocol": ["kafka"]}], ""),
        (["port=0 and port=1"], [{"source_port": ["0"]}, {"destination_port": ["0"]}], [], "port=1"),
    ],
)  # fmt: skip
def test_print_raw_filters_shows_what_a_server_is_asked(words, allow, deny, rest):
    done = CliRunner().invoke(command, [*words, "--print-raw-filters"], standalone_mode=False)
    assert done.exception is None
    lines = [line for line in done.output.splitlines() if not line.startswith("#")]
    notes = [line for line in done.output.splitlines() if line.startswith("#")]
    filters = {"allowlist:": [], "denylist:": []}
    for line in lines:
        if line in filters:
            name = line
        elif line != "{}":
            filters[name].append(json.loads(line.removeprefix("    - '").removesuffix("'").replace("''", "'")))
    assert filters == {"allowlist:": allow, "denylist:": deny}
    assert notes == ([f"# judged by observe: {rest}"] if rest else [])


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["dns and to-pdo=x"], ["  dns and to-pdo=x", "          ^", "unknown field `to-pdo`; did you mean `to-pod`?"]),
        (["to-pod"], ["  to-pod", "        ^", "expected =, !=, ~, !~, in after `to-pod`"]),
        (["a", "b)"], ["  a b)", "     ^", "unexpected `)`"]),
        (["ip=1.2.3"], ["  ip=1.2.3", "     ^", 'invalid IP address in filter: "1.2.3"']),
        (["a\x1b[2J"], ["  a^[[2J", "   ^", r"the character U+001B cannot stand in a filter; in quotes write \x1b"]),
        (["é漢 ="], ["  é漢 =", "  ^", "unknown field `é漢`; to find a text with `=`, quote it"]),
        (["é漢 )"], ["  é漢 )", "      ^", "unexpected `)`"]),
    ],
)
def test_a_mistake_is_shown_where_it_is(words, lines):
    code, out, err = run("observe", *JUDGED, *words)
    assert (code, out) == (1, "")
    assert err.splitlines() == lines


@pytest.mark.parametrize("words", [["(" * 100_000], ["a=" * 60_000], [b"\xff\xfe=x"], ["not"] * 5_000])
def test_hostile_words_are_a_few_lines(words):
    code, out, err = run("observe", *JUDGED, *words)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 3
    assert len(err) < 600


def test_only_what_is_near_a_mistake_is_shown():
    text = "a" * 500
    shown, caret = pointed_at(text, 250)
    assert shown == f"  ...{'a' * (SHOWN_BEFORE + SHOWN_AFTER)}..."
    assert caret == " " * (5 + SHOWN_BEFORE) + "^"


def test_help_names_every_field():
    code, out, _ = run("observe", "--help")
    assert code == 0
    assert " [OPTIONS] [EXPRESSION]\n" in out
    for field in TABLE:
        assert f"\n  {field.name}{'*' * field.sided} " in out
