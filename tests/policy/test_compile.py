"""Verdicts by compiled maps are the engine's: over the table of test_engine.py, and over random policies."""

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from observer.errors import FlowscopeError, PolicyError
from observer.policy.compile import compile_policy
from observer.policy.kafka_rules import API_KEYS
from tests.policy import random_town
from tests.policy.map_judge import Judged, MapJudge
from tests.policy.test_engine import CASES
from tests.policy.town import Http, Kafka, Town


def compiled(town, revision=1):
    return compile_policy(town.engine, town.cache, revision)


def seen(decision):
    """What a flow tells of a decision."""
    refused = 0 if decision.allowed else int(decision.direction)
    return refused, decision.egress_rule, decision.ingress_rule, int(decision.match)


def told(judged: Judged):
    return judged.refused, judged.egress_rule, judged.ingress_rule, judged.match


def answer(judge: MapJudge, town: Town, source, destination, what, request):
    return request_of(judge, judge.connection(*town.packet(source, destination, what)), request)


def request_of(judge: MapJudge, decision: Judged, request) -> Judged:
    if isinstance(request, Http):
        path = request.path if isinstance(request.path, bytes) else request.path.encode()
        return judge.http(decision, request.method.encode(), path, request.host.encode())
    if isinstance(request, Kafka):
        key = request.key if isinstance(request.key, int) else API_KEYS.get(request.key, 0x7FFF)
        topics = [topic.encode() for topic in request.topics or ()]
        return judge.kafka(decision, key, request.version or 0, (request.client or "").encode(), topics)
    return decision


def refused_by_name(town: Town) -> bool:
    """Whether the policies hold what the kernel does not judge, and are refused for it."""
    asks_for_headers = any(
        rule.headers
        for policy in town.documents.policies
        for spec in policy.rules
        for entry in (*spec.ingress, *spec.egress)
        for port_rule in entry.ports or ()
        for rule in port_rule.http
    )
    if asks_for_headers:
        with pytest.raises(PolicyError, match=r"policy.yaml:\d+: policy bank/\w+: the kernel does not judge headers"):
            compiled(town)
    return asks_for_headers


@pytest.mark.parametrize(("policies", "asked"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_verdicts_of_the_maps_are_the_engines(tmp_path, policies, asked):
    town = Town(tmp_path, policies)
    if refused_by_name(town):
        return
    judge = MapJudge(compiled(town))
    for source, destination, what, request, _ in asked:
        expected = seen(town.ask(source, destination, what, request))
        assert told(answer(judge, town, source, destination, what, request)) == expected, (source, destination, what)


def agrees(judge, place: Town, packet, request) -> None:
    """Whether the maps say of a packet, and of a request over its connection, what the engine says."""
    expected = place.connection(*packet)
    judged = judge.connection(*packet)
    assert told(judged) == seen(expected), packet
    if request is not None:
        asked = place.request(expected, request)
        assert told(request_of(judge, judged, request)) == seen(asked), (packet, request)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    random_town.identities(),
    random_town.policies(),
    st.lists(random_town.questions(), min_size=20, max_size=40),
)
def test_random_policies_are_judged_alike(identities, policies, asked):
    try:
        place = random_town.town(identities, policies)
    except FlowscopeError:
        assume(False)
    judge = MapJudge(compiled(place))
    for packet, request in asked:
        agrees(judge, place, packet, request)
