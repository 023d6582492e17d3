# ruff: noqa: E501 - a policy is one line of the table
"""What the kernel's tables cannot hold is refused at load by one line that names the policy; every bound is reached."""

import pytest

from observer.errors import PolicyError
from observer.policy import classes, compile, l7_tables
from observer.policy.automaton import MASK_BITS
from tests.policy.map_judge import STATE_SIZE, MapJudge
from tests.policy.test_compile import compiled, request_of, seen, told
from tests.policy.town import Http, Kafka, Town, cnp

VAULT = "endpointSelector: {matchLabels: {role: vault}}"
TCP80 = 'ports: [{port: "80", protocol: TCP}]'


def ruled(name, rules, peers=""):
    """A policy with these L7 rules for port 80 of the vault."""
    return cnp(name, f"{{{VAULT}, ingress: [{{{peers}toPorts: [{{{TCP80}, rules: {rules}}}]}}]}}")


def paths(*patterns):
    return "{http: [" + ", ".join(f"{{path: '{pattern}'}}" for pattern in patterns) + "]}"


REFUSED = [
    (
        ruled("p", "{http: [{path: /a}, {headers: [X-Token]}]}"),
        "policy bank/p: the kernel does not judge headers (here 'x-token'); take the condition out, or use --datapath user",
    ),
    (
        ruled("p", "{http: [{headerMatches: [{name: X-A, value: b}]}]}"),
        "policy bank/p: the kernel does not judge headers (here 'x-a'); take the condition out, or use --datapath user",
    ),
    (
        ruled("p", r"{http: [{method: 'GET\b'}]}"),
        r"policy bank/p: method 'GET\\b' has \b, which the kernel does not judge; rewrite it, or use --datapath user",
    ),
    (
        ruled("p", r"{http: [{host: '\pL+'}]}"),
        r"policy bank/p: host '\\pL+' has \p, which the kernel does not judge; rewrite it, or use --datapath user",
    ),
    (
        ruled("p", paths("(.*a.{20})")),
        "policy bank/p: path '(.*a.{20})' is too large for the kernel's tables; simplify it, or use --datapath user",
    ),
    (
        ruled("p", paths("x" * 200 + "(a?){1000}")),
        f"policy bank/p: path '{'x' * 80}' is too large for the kernel's tables; simplify it, or use --datapath user",
    ),
    (
        ruled("p", paths(*(f"/{number}" for number in range(MASK_BITS + 1)))),
        "policy bank/p: 65 http rules for one port, the kernel judges 64; join some by alternatives, or use --datapath user",
    ),
    (
        ruled("p", "{kafka: [" + ", ".join(["{role: produce}"] * 65) + "]}"),
        "policy bank/p: 65 kafka rules for one port, the kernel judges 64; join some by alternatives, or use --datapath user",
    ),
    (
        ruled("p", f"{{kafka: [{{clientID: {'c' * 255}}}]}}"),
        "policy bank/p: a clientID of more than 254 bytes, of which the kernel reads no more; shorten it, or use --datapath user",
    ),
]


@pytest.mark.parametrize(("policy", "why"), REFUSED)
def test_a_rule_that_cannot_be_held_is_refused_with_its_place(tmp_path, policy, why):
    with pytest.raises(PolicyError) as raised:
        compiled(Town(tmp_path, policy))
    assert str(raised.value) == f"{tmp_path}/policy.yaml:5: {why}"


def test_re2_itself_refuses_nested_repeats(tmp_path):
    with pytest.raises(PolicyError, match="refused by RE2: invalid repetition size"):
        Town(tmp_path, ruled("p", paths("(a{1000}){1000}")))


TOGETHER = [
    (
        ruled("one", paths(*(f"/{n}" for n in range(40)))) + ruled("two", paths(*(f"/{n}" for n in range(25)))),
        "policy bank/one: 65 http rules for one peer and port; the kernel judges 64 together; join some by alternatives, or use --datapath user",
    ),
    (
        ruled("one", paths("(.*a.{8})")) + ruled("two", paths("(.*b.{8})")),
        "policy bank/one: the http rules for one peer and port are too large together for the kernel's tables; simplify their patterns, or use --datapath user",
    ),
]


@pytest.mark.parametrize(("policies", "why"), TOGETHER)
def test_rules_that_meet_on_a_port_are_refused_together(tmp_path, policies, why):
    with pytest.raises(PolicyError) as raised:
        compiled(Town(tmp_path, policies))
    assert str(raised.value) == why


def test_the_64th_rule_is_judged(tmp_path):
    town = Town(tmp_path, ruled("one", paths(*(f"/{n}" for n in range(63)))) + ruled("two", paths("/63")))
    judge = MapJudge(compiled(town))
    packet = town.packet("8.8.8.8", "bank/vault", "TCP/80")
    for path in ("/0", "/62", "/63", "/64"):
        request = Http(path=path)
        decision = judge.connection(*packet)
        assert told(request_of(judge, decision, request)) == seen(town.request(town.connection(*packet), request))
    assert request_of(judge, judge.connection(*packet), Http(path="/63")).ingress_rule == 2


MANY = cnp(
    "p",
    f"{{{VAULT}, ingress: [{{fromCIDR: [1.0.0.0/8, 2.0.0.0/8], toPorts: [{{{TCP80}}}]}}, {{fromEndpoints: [{{matchLabels: {{role: guard}}}}]}}]}}",
)
L7S = ruled("p", "{http: [{method: GET}]}", "fromCIDR: [1.0.0.0/8], ") + ruled(
    "q", "{http: [{method: PUT}]}", "fromCIDR: [2.0.0.0/8], "
)
BOUNDS = [
    (
        classes,
        "PREFIXES_LIMIT",
        MANY,
        lambda maps: len(maps.tables["policy_addresses"].entries),
        "identities and policies name more than {} prefixes",
    ),
    (
        classes,
        "CLASSES_LIMIT",
        MANY,
        lambda maps: len({value for _, value in maps.tables["policy_addresses"].entries}),
        "policies tell more than {} kinds of addresses apart",
    ),
    (
        compile,
        "PAIRS_LIMIT",
        MANY,
        lambda maps: len(maps.tables["policy_pairs"].entries),
        "policies have different rules for more than {} pairs",
    ),
    (
        compile,
        "PORTS_LIMIT",
        MANY,
        lambda maps: len(maps.tables["policy_ports"].entries),
        "policies tell more than {} ranges of ports apart",
    ),
    (
        l7_tables,
        "SETS_LIMIT",
        L7S,
        lambda maps: len(maps.tables["policy_sets"].entries) - 1,
        "policies make more than {} sets of L7 rules",
    ),
    (
        l7_tables,
        "STATES_LIMIT",
        L7S,
        lambda maps: len(maps.states) // STATE_SIZE,
        "L7 rules need more than {} states",
    ),
]


@pytest.mark.parametrize(("module", "name", "policies", "size", "why"), BOUNDS, ids=[bound[1] for bound in BOUNDS])
def test_a_table_is_filled_to_its_bound_and_no_further(tmp_path, monkeypatch, module, name, policies, size, why):
    town = Town(tmp_path, policies)
    needed = size(compiled(town))
    assert needed > 1
    monkeypatch.setattr(module, name, needed)
    assert size(compiled(town)) == needed
    monkeypatch.setattr(module, name, needed - 1)
    with pytest.raises(PolicyError, match=why.format(needed - 1)) as raised:
        compiled(town)
    assert str(raised.value).endswith(", or use --datapath user")


def test_a_long_list_of_cidrs_makes_few_classes(tmp_path):
    cidrs = ", ".join(f"{a}.{b}.0.0/17" for a in range(100, 110) for b in range(200))
    town = Town(tmp_path, cnp("p", f"{{{VAULT}, ingress: [{{fromCIDR: [{cidrs}]}}]}}"))
    maps = compiled(town)
    assert len({value for _, value in maps.tables["policy_addresses"].entries}) < 20
    judge = MapJudge(maps)
    for source in ("100.0.0.1", "100.0.128.0", "109.199.127.255", "109.199.128.0", "110.0.0.0", "99.255.255.255"):
        packet = town.packet(source, "bank/vault", "TCP/80")
        assert told(judge.connection(*packet)) == seen(town.connection(*packet)), source


@pytest.mark.parametrize("length", [254, 255])
def test_the_longest_topics_and_clients(tmp_path, length):
    town = Town(tmp_path, ruled("p", f"{{kafka: [{{topic: {'t' * length}, clientID: {'c' * 254}}}]}}"))
    judge = MapJudge(compiled(town))
    packet = town.packet("8.8.8.8", "bank/vault", "TCP/80")
    for topic in (length - 1, length, length + 1):
        for client in (253, 254, 255, 300):
            request = Kafka(0, ("t" * topic,), client="c" * client)
            expected = seen(town.request(town.connection(*packet), request))
            assert told(request_of(judge, judge.connection(*packet), request)) == expected
