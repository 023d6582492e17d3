"""Flags to filters, through the command itself: what the parser sees is what is tested."""

import json

import click
import pytest
from click.testing import CliRunner
from google.protobuf import json_format

from observer.cli.observe import command
from observer.cli.observe_filters import FLAGS
from observer.errors import FlowscopeError


def request_of(*flags):
    """The filters that the flags mean, as JSON."""
    done = CliRunner().invoke(command, [*flags, "--print-raw-filters"], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    filters = {"allowlist": [], "denylist": []}
    for line in done.output.splitlines():
        if line.endswith(":"):
            name = line[:-1]
        elif line != "{}":
            text = line.removeprefix("    - '").removesuffix("'").replace("''", "'")
            filters[name].append(json.loads(text))
    return filters["allowlist"], filters["denylist"]


@pytest.mark.parametrize(
    ("flags", "allow"),
    [
        ("", []),
        ("--verdict DROPPED", [{"verdict": ["DROPPED"]}]),
        ("--verdict DROPPED --verdict AUDIT", [{"verdict": ["DROPPED", "AUDIT"]}]),
        ("--pod a", [{"source_pod": ["a"]}, {"destination_pod": ["a"]}]),
        ("--from-pod a --to-pod b", [{"source_pod": ["a"], "destination_pod": ["b"]}]),
        (
            "--pod a --port 80",
            [{"source_pod": ["a"], "source_port": ["80"]}, {"destination_pod": ["a"], "destination_port": ["80"]}],
        ),
        (
            "--pod a --to-port 80",
            [
                {"source_pod": ["a"], "destination_port": ["80"]},
                {"destination_pod": ["a"], "destination_port": ["80"]},
            ],
        ),
        (
            "--ip 1.2.3.4 --ip 5.6.7.8 --verdict DROPPED",
            [
                {"source_ip": ["1.2.3.4", "5.6.7.8"], "verdict": ["DROPPED"]},
                {"destination_ip": ["1.2.3.4", "5.6.7.8"], "verdict": ["DROPPED"]},
            ],
        ),
        ("-n shop", [{"source_pod": ["shop/"]}, {"destination_pod": ["shop/"]}]),
        ("-nshop", [{"source_pod": ["shop/"]}, {"destination_pod": ["shop/"]}]),
        ("-n=shop", [{"source_pod": ["shop/"]}, {"destination_pod": ["shop/"]}]),
        ("--namespace shop --pod a", [{"source_pod": ["shop/a"]}, {"destination_pod": ["shop/a"]}]),
        ("--pod a --namespace shop", [{"source_pod": ["shop/a"]}, {"destination_pod": ["shop/a"]}]),
        (
            "-n a -n b --service x --service y",
            [
                {"source_service": ["a/x", "b/x", "a/y", "b/y"]},
                {"destination_service": ["a/x", "b/x", "a/y", "b/y"]},
            ],
        ),
        ("--from-namespace a --to-pod b/c", [{"source_pod": ["a/"], "destination_pod": ["b/c"]}]),
        ("--to-namespace a --to-pod a/c", [{"destination_pod": ["a/c"]}]),
        (
            "--to-namespace a --port 443",
            [
                {"destination_pod": ["a/"], "source_port": ["443"]},
                {"destination_pod": ["a/"], "destination_port": ["443"]},
            ],
        ),
        ("-A", [{"source_pod": ["/"]}, {"destination_pod": ["/"]}]),
        ("-A --pod foo", [{"source_pod": ["/foo"]}, {"destination_pod": ["/foo"]}]),
        ("--to-all-namespaces --to-service bar", [{"destination_service": ["/bar"]}]),
        ("-l a=b,c=d -l e", [{"source_label": ["a=b,c=d", "e"]}, {"destination_label": ["a=b,c=d", "e"]}]),
        ("--identity 1 --identity world", [{"source_identity": [1, 2]}, {"destination_identity": [1, 2]}]),
        ("--from-identity 0", [{"source_identity": [0]}]),
        ("--to-identity world-ipv6", [{"destination_identity": [10]}]),
        ("--from-workload Deployment/", [{"source_workload": [{"kind": "Deployment"}]}]),
        ("--to-workload a", [{"destination_workload": [{"name": "a"}]}]),
        ("--to-workload Deployment/a/b", [{"destination_workload": [{"kind": "Deployment", "name": "a/b"}]}]),
        ("--type l7", [{"event_type": [{"type": 129}]}]),
        ("-t trace:to-endpoint", [{"event_type": [{"type": 4, "match_sub_type": True}]}]),
        ("-t trace:to-host", [{"event_type": [{"type": 4, "match_sub_type": True, "sub_type": 2}]}]),
        ("-t 254 -t 255:7", [{"event_type": [{"type": 254}, {"type": 255, "match_sub_type": True, "sub_type": 7}]}]),
        ("-t agent:policy-updated", [{"event_type": [{"type": 130, "match_sub_type": True, "sub_type": 3}]}]),
        ("-t drop:133", [{"event_type": [{"type": 1, "match_sub_type": True, "sub_type": 133}]}]),
        ("--tcp-flags syn,ACK --tcp-flags fin", [{"tcp_flags": [{"SYN": True, "ACK": True}, {"FIN": True}]}]),
        ("--traffic-direction INGRESS --traffic-direction EgrEss", [{"traffic_direction": ["INGRESS", "EGRESS"]}]),
        ("--ip-version v4 --ip-version 6 --ip-version arp", [{"ip_version": ["IPv4", "IPv6", "IP_NOT_USED"]}]),
        ("-4", [{"ip_version": ["IPv4"]}]),
        ("--ipv6", [{"ip_version": ["IPv6"]}]),
        ("--http-header Foo:a:b", [{"http_header": [{"key": "Foo", "value": "a:b"}]}]),
        ("--http-method get --http-path /a --http-url ^http --http-status 5+",
         [{"http_status_code": ["5+"], "http_method": ["get"], "http_path": ["/a"], "http_url": ["^http"]}]),
        ("--drop-reason-desc POLICY_DENIED", [{"drop_reason_desc": ["POLICY_DENIED"]}]),
        ("--protocol udp", [{"protocol": ["udp"]}]),
        ("--dns-query example", [{"dns_query": ["example"]}]),
        ("--reply true", [{"reply": [True]}]),
        ("--node-name k8s* --node-label a=b", [{"node_name": ["k8s*"], "node_labels": ["a=b"]}]),
        ("--fqdn *.io", [{"source_fqdn": ["*.io"]}, {"destination_fqdn": ["*.io"]}]),
        ("--from-cluster a", [{"source_cluster_name": ["a"]}]),
        ("--uuid x --trace-id y --ip-trace-id 7", [{"uuid": ["x"], "trace_id": ["y"], "ip_trace_id": ["7"]}]),
        ("--snat-ip 2.2.2.2/16 --interface eth0",
         [{"source_ip_xlated": ["2.2.2.2/16"], "interface": [{"name": "eth0"}]}]),
        ("--encrypted=false", [{"encrypted": [True]}]),
        ("--unencrypted", [{"encrypted": [False]}]),
    ],
)  # fmt: skip
def test_flags_make_the_stock_clis_filters(flags, allow):
    assert request_of(*flags.split()) == (allow, [])


@pytest.mark.parametrize(
    ("flags", "allow", "deny"),
    [
        ("--not --verdict FORWARDED", [], [{"verdict": ["FORWARDED"]}]),
        (
            "--from-ip 1.2.3.4 --from-ip 5.6.7.8 --not --to-ip 5.5.5.5 --verdict DROPPED -t l7",
            [{"source_ip": ["1.2.3.4", "5.6.7.8"], "verdict": ["DROPPED"], "event_type": [{"type": 129}]}],
            [{"destination_ip": ["5.5.5.5"]}],
        ),
        (
            "--not --pod deathstar --not --http-status 200 --http-method get",
            [{"http_method": ["get"]}],
            [
                {"source_pod": ["deathstar"], "http_status_code": ["200"]},
                {"destination_pod": ["deathstar"], "http_status_code": ["200"]},
            ],
        ),
        ("--not=true --port 80 --port 81", [{"source_port": ["81"]}, {"destination_port": ["81"]}],
         [{"source_port": ["80"]}, {"destination_port": ["80"]}]),
        ("--not -A", [], [{"source_pod": ["/"]}, {"destination_pod": ["/"]}]),
        ("--not --from-ip 1.1.1.1 --from-pod a", [{"source_pod": ["a"]}], [{"source_ip": ["1.1.1.1"]}]),
    ],
)  # fmt: skip
def test_not_turns_the_next_flag_only(flags, allow, deny):
    assert request_of(*flags.split()) == (allow, deny)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--from-ip 1.2.3.4 --from-fqdn x", "filters --from-fqdn and --from-ip cannot be combined"),
        ("--pod a --from-pod b", "filters --from-pod and --pod cannot be combined"),
        ("--from-service foo --service bar", "filters --service and --from-service cannot be combined"),
        ("--to-pod a -n b", "filters --to-pod and --namespace cannot be combined"),
        ("-n a -A", "filters --namespace and --all-namespaces cannot be combined"),
        ("--port 1 --to-port 2", "filters --port and --to-port cannot be combined"),
        ("--identity 1 --from-identity 2", "filters --identity and --from-identity cannot be combined"),
        ("--workload a --to-workload b", "filters --workload and --to-workload cannot be combined"),
        ("--label a --from-label b", "filters --label and --from-label cannot be combined"),
        ("--ip 1.1.1.1 --pod a", "filters --ip and --pod cannot be combined"),
        ("--ip 1.1.1.1 -n a", "filters --ip and --namespace cannot be combined"),
        ("--not --from-ip 1.1.1.1 --not --from-pod a", "filters --from-ip and --from-pod cannot be combined"),
        ("--encrypted --unencrypted", "filters --encrypted and --unencrypted cannot be combined"),
        ("--to-namespace a --to-pod b/c", 'namespace conflict: "a" does not contain "b/c"'),
        ("--from-namespace a --from-service b/c", 'namespace conflict: "a" does not contain "b/c"'),
        ("--from-service a/x --from-pod b/y", 'namespace of service "a/x" conflict with pod "b"'),
        ("--not", "trailing --not found in the arguments"),
        ("--verdict DROPPED --not", "trailing --not found in the arguments"),
        ("--not --not --verdict DROPPED", "consecutive --not statements"),
        ("--verdict dropped", "invalid --verdict value: dropped"),
        ("--drop-reason-desc policy_denied", "invalid --drop-reason-desc value: policy_denied"),
        ("--traffic-direction moon", "moon: invalid traffic direction, expected ingress or egress"),
        ("--tcp-flags syn,", "unknown tcp flag: "),
        ("--tcp-flags boom", "unknown tcp flag: boom"),
        ("-t boom", "unable to parse type 'boom'"),
        ("-t trace:boom", "unable to parse event sub-type 'boom'"),
        ("-t -1", "unable to parse type '-1'"),
        ("--identity bad", "invalid security identity, expected one of host, world"),
        ("--identity unknown", "invalid security identity"),
        ("--identity 4294967296", "invalid security identity"),
        ("--http-header foobar", 'invalid http-header value "foobar", expected name:value'),
        ("--ip-trace-id 0", "invalid --ip-trace-id value: 0"),
        ("--reply maybe", "invalid --reply value: maybe"),
    ],
)
def test_what_makes_no_sense_is_refused(flags, message):
    with pytest.raises(FlowscopeError) as refused:
        request_of(*flags.split())
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("flags", "allow", "deny"),
    [
        (["--allowlist", '{"source_pod":["a"]}'], [{"source_pod": ["a"]}], []),
        (["--allowlist", '{"sourcePod":["a"]} {"source_ip":["1.1.1.1"]}'],
         [{"source_pod": ["a"]}, {"source_ip": ["1.1.1.1"]}], []),
        (["--verdict", "DROPPED", "--allowlist", "{}"], [{"verdict": ["DROPPED"]}, {}], []),
        (["--denylist", '{"http_path":["it\'s"]}'], [], [{"http_path": ["it's"]}]),
    ],
)  # fmt: skip
def test_raw_filters_stand_beside_those_of_the_flags(flags, allow, deny):
    assert request_of(*flags) == (allow, deny)


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"nothing":1}', '{"verdict":["dropped"]}', '"x"', "{} x", "null"])
def test_raw_filters_that_are_none(text):
    with pytest.raises(FlowscopeError, match="invalid --allowlist flag: failed to decode"):
        request_of("--allowlist", text)


def test_printed_raw_filters_can_be_given_back():
    allow, _ = request_of("--pod", "a", "--tcp-flags", "syn", "--identity", "world", "-t", "trace:to-host")
    again, _ = request_of(*[word for one in allow for word in ("--allowlist", json.dumps(one))])
    assert again == allow


def test_every_flag_names_a_field_of_a_flow_filter():
    from observer.api import flow_pb2

    fields = flow_pb2.FlowFilter.DESCRIPTOR.fields_by_name
    for flag in FLAGS.values():
        named = [name for name in (flag.both, flag.source, flag.destination) if name]
        assert all(name in fields for name in named)
        assert named or flag.name == "not" or flag.name.endswith(("namespace", "namespaces"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--follow=maybe"], "invalid value 'maybe' for --follow"),
        (["--nothing"], "No such option"),
        (["--last", "-1"], "Invalid value for '--last'"),
    ],
)
def test_usage_errors(args, message):
    with pytest.raises(click.UsageError) as refused:
        command.make_context("observe", list(args))
    assert message in refused.value.format_message()


@pytest.mark.parametrize(
    ("args", "name", "value"),
    [
        (["--follow=true"], "follow", True),
        (["--follow=false"], "follow", False),
        (["-f"], "follow", True),
        (["--ip-translation=false"], "ip_translation", False),
        (["-o=json"], "output", "json"),
        (["-ojson"], "output", "json"),
        (["--output=table"], "output", "table"),
        (["-o", "JSON"], "output", "json"),
        (["--pod", "-n=x"], "pod", ("-n=x",)),
        (["flows", "--last", "3"], "last", 3),
    ],
)
def test_pflags_spellings(args, name, value):
    assert command.make_context("observe", list(args)).params[name] == value


def test_filters_are_valid_messages():
    from observer.api import flow_pb2

    allow, _ = request_of("--pod", "a", "--verdict", "DROPPED")
    assert json_format.ParseDict(allow[0], flow_pb2.FlowFilter()).verdict == [flow_pb2.DROPPED]
