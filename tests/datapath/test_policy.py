"""bpf/policy.h judges as the engine does: the table of tests/policy/test_engine.py by BPF_PROG_TEST_RUN."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bpf.build import build
from observer.datapath.libbpf import Object
from observer.datapath.policy_maps import put_policy
from observer.errors import DatapathError, FlowscopeError
from observer.policy.l7_tables import STATE, STATES_LIMIT
from tests.datapath.policy_kernel import PASSES, REFUSES, UNDECIDED, KernelJudge
from tests.policy import random_town
from tests.policy.test_compile import agrees, answer, compiled, refused_by_name, seen, told
from tests.policy.test_engine import CASES
from tests.policy.town import Kafka, Town, cnp

pytestmark = pytest.mark.ebpf


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> Iterator[Object]:
    target = tmp_path_factory.mktemp("bpf") / "policy_test.bpf.o"
    build(Path(__file__).parent / "policy_test.bpf.c", target)
    with Object(target.read_bytes(), "policy_test") as policy_test:
        policy_test.load()
        yield policy_test


@pytest.mark.parametrize(("policies", "asked"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_verdicts_of_the_kernel_are_the_engines(tmp_path, loaded, policies, asked):
    town = Town(tmp_path, policies)
    if refused_by_name(town):
        return
    put_policy(loaded, compiled(town))
    judge = KernelJudge(loaded, 1)
    for source, destination, what, request, _ in asked:
        expected = seen(town.ask(source, destination, what, request))
        assert told(answer(judge, town, source, destination, what, request)) == expected, (source, destination, what)


VAULT = "endpointSelector: {matchLabels: {role: vault}}"


def on_80(name, rules):
    ports = "ports: [{port: '80', protocol: TCP}]"
    return cnp(name, f"{{{VAULT}, ingress: [{{toPorts: [{{{ports}, rules: {rules}}}]}}]}}")


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    identities=random_town.identities(),
    policies=random_town.policies(),
    asked=st.lists(random_town.questions(), min_size=20, max_size=40),
)
def test_random_policies_are_judged_alike(loaded, identities, policies, asked):
    try:
        place = random_town.town(identities, policies)
    except FlowscopeError:
        assume(False)
    put_policy(loaded, compiled(place))
    for packet, request in asked:
        agrees(KernelJudge(loaded, 1), place, packet, request)


def test_new_policies_take_the_place_of_old_ones_by_their_revision_alone(tmp_path, loaded):
    """Both are there at once: which one holds is the caller's word, and a set of rules is never one of another."""
    revisions = {
        4: Town(tmp_path, on_80("get", "{http: [{method: GET}]}")),
        5: Town(tmp_path, on_80("put", "{http: [{method: PUT}, {path: /x}]}")),
    }
    for revision, town in revisions.items():
        put_policy(loaded, compiled(town, revision))
    packet = town.packet("8.8.8.8", "bank/vault", "TCP/80")
    for revision, method in ((4, b"GET"), (5, b"PUT"), (4, b"GET")):
        judge = KernelJudge(loaded, revision)
        decision = judge.connection(*packet)
        assert {m: judge.http(decision, m, b"/", b"").refused for m in (b"GET", b"PUT")} == {
            b"GET": 0 if method == b"GET" else 1,
            b"PUT": 0 if method == b"PUT" else 1,
        }


def test_tables_of_another_revision_let_nobody_pass_and_decide_no_request(tmp_path, loaded):
    town = Town(tmp_path, on_80("get", "{http: [{method: GET}]}"))
    put_policy(loaded, compiled(town, 6))
    packet = town.packet("8.8.8.8", "bank/vault", "TCP/80")
    judge = KernelJudge(loaded, 8)  # the half of 6, but not its revision
    assert judge.connection(*packet).ingress_l7
    assert judge.unread_http()[0] == UNDECIDED
    _, verdict, judged, undecided = judge.ask_http(b"GET", b"/", b"")
    assert (verdict, judged.refused, undecided) == (UNDECIDED, 0, True)


UNREAD = [
    ("{http: [{method: GET}]}", (UNDECIDED, True), (UNDECIDED, True)),
    ("{http: [{}]}", (PASSES, False), (UNDECIDED, True)),  # every request, but a request
    ("{http: [{path: /a}, {}]}", (PASSES, False), (UNDECIDED, True)),
    ("{kafka: [{}]}", (UNDECIDED, True), (UNDECIDED, True)),
]


@pytest.mark.parametrize(("rules", "of_http", "of_anything"), UNREAD)
def test_what_could_not_be_read_is_undecided(tmp_path, loaded, rules, of_http, of_anything):
    town = Town(tmp_path, on_80("p", rules))
    put_policy(loaded, compiled(town))
    judge = KernelJudge(loaded, 1)
    judge.connection(*town.packet("8.8.8.8", "bank/vault", "TCP/80"))
    verdict, judged, undecided = judge.unread_http()
    assert (verdict, undecided) == of_http
    assert bool(judged.refused) == (verdict == REFUSES)
    verdict, judged, undecided = judge.unreadable()
    assert ((verdict, undecided), judged.refused) == (of_anything, 0)


def test_without_l7_rules_nothing_has_to_be_read(tmp_path, loaded):
    town = Town(tmp_path, on_80("p", "{http: [{method: GET}]}"))
    put_policy(loaded, compiled(town))
    judge = KernelJudge(loaded, 1)
    judge.connection(*town.packet("8.8.8.8", "bank/teller", "TCP/80"))
    assert judge.unreadable()[0] == judge.unread_http()[0] == PASSES
    judge.connection(*town.packet("8.8.8.8", "bank/vault", "TCP/81"))
    verdict, judged, _ = judge.unreadable()
    assert (verdict, judged.refused) == (REFUSES, 1)


@pytest.mark.parametrize("size", [2047, 2048])
def test_a_path_of_every_byte_that_there_is_room_for(tmp_path, loaded, size):
    town = Town(tmp_path, on_80("p", f"{{http: [{{path: '/{'a' * 1023}.*b'}}]}}"))
    put_policy(loaded, compiled(town))
    judge = KernelJudge(loaded, 1)
    decision = judge.connection(*town.packet("8.8.8.8", "bank/vault", "TCP/80"))
    path = b"/" + b"a" * (size - 2)
    assert judge.http(decision, b"GET", path + b"b", b"").refused == 0
    assert judge.http(decision, b"GET", path + b"c", b"").refused == 1


@pytest.mark.parametrize("length", [254, 255])
def test_the_longest_topics_and_clients(tmp_path, loaded, length):
    town = Town(tmp_path, on_80("p", f"{{kafka: [{{topic: {'t' * length}, clientID: {'c' * 254}}}]}}"))
    put_policy(loaded, compiled(town))
    packet = town.packet("8.8.8.8", "bank/vault", "TCP/80")
    for topic in (length - 1, length, length + 1):
        for client in (253, 254, 255, 300):
            agrees(KernelJudge(loaded, 1), town, packet, Kafka(0, ("t" * topic,), client="c" * client))


def test_a_table_that_the_kernel_refuses_leaves_the_others(tmp_path, loaded):
    town = Town(tmp_path, on_80("p", "{http: [{method: GET}]}"))
    put_policy(loaded, compiled(town, 10))
    broken = compiled(town, 11)
    broken.tables["policy_sets"].key_size = 8
    with pytest.raises(DatapathError, match="cannot make the map policy_sets: Invalid argument"):
        put_policy(loaded, broken)
    judge = KernelJudge(loaded, 10)
    decision = judge.connection(*town.packet("8.8.8.8", "bank/vault", "TCP/80"))
    assert judge.http(decision, b"GET", b"/", b"").refused == 0


def test_there_is_room_for_as_many_states_as_may_be_compiled(loaded):
    assert loaded.map("policy_states").value_size == STATES_LIMIT * STATE.size
