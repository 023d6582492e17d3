import pytest

from observer.l7.kafka_program import request_program, response_program
from observer.l7.kafka_schema import APIS, KEYS, NEWEST, Kind, Op, name_of, program
from observer.policy.kafka_rules import API_KEYS, ROLES, TOPIC_KEYS


def test_every_key_has_a_name_of_its_own():
    assert sorted(APIS) == list(range(93))
    assert len(KEYS) == len(APIS)
    assert all(name.isalpha() and name.islower() for name in KEYS)
    assert (name_of(2), name_of(92), name_of(93)) == ("offsets", "deletesharegroupoffsets", "93")


def test_names_are_those_of_policies():
    assert {name: KEYS[name] for name in API_KEYS} == API_KEYS
    assert all(keys <= APIS.keys() for keys in ROLES.values())


@pytest.mark.parametrize("api", APIS.values(), ids=lambda api: api.name)
def test_every_version_has_a_program(api):
    assert 0 <= api.first <= api.last
    for version in range(api.first, api.last + 1):
        assert response_program(api, version).steps
        assert bool(request_program(api, version).steps) == bool(api.request)


def test_requests_that_policy_asks_topics_of_are_read_for_them():
    assert {key for key in TOPIC_KEYS if "topic" not in APIS[key].request} == set()


@pytest.mark.parametrize(
    ("words", "ops"),
    [
        ("", ()),
        ("4", (Op(Kind.SKIP, 0, NEWEST, 4),)),
        (
            "8@2-4 8@3+ 8@-3 8@0",
            tuple(Op(Kind.SKIP, *versions, 8) for versions in ((2, 4), (3, NEWEST), (0, 3), (0, 0))),
        ),
        ("4* string*@1+", (Op(Kind.LIST, 0, NEWEST, 4), Op(Kind.STRINGS, 1, NEWEST))),
        (
            "[ topic ?( id ) ]@5+",
            (
                Op(
                    Kind.ARRAY,
                    5,
                    NEWEST,
                    0,
                    (Op(Kind.TOPIC, 0, NEWEST), Op(Kind.OPTIONAL, 0, NEWEST, 0, (Op(Kind.ID, 0, NEWEST),))),
                ),
            ),
        ),
    ],
)
def test_words(words, ops):
    assert program(words) == ops
