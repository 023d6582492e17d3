import pytest

from observer.policy.kafka_rules import API_KEYS, ROLES, TOPIC_KEYS, KafkaRule, deciding

PRODUCE, FETCH, METADATA, COMMIT, JOIN, VERSIONS, PRODUCER_ID = 0, 1, 3, 8, 11, 18, 22
RED = KafkaRule(ROLES["produce"], topic="red")
BLUE = KafkaRule(ROLES["produce"], topic="blue")
ANY = KafkaRule()
V3 = KafkaRule(frozenset((PRODUCE,)), api_version=3, topic="red")
MINE = KafkaRule(ROLES["consume"], client_id="me", topic="red")

# rules, key, version, client, topics, index of the rule that decides
CASES = [
    ([RED], PRODUCE, 3, "c", ["red"], 0),
    ([RED], PRODUCE, 3, "c", ["red", "blue"], None),
    ([RED, BLUE], PRODUCE, 3, "c", ["blue", "red"], 0),
    ([RED, BLUE], PRODUCE, 3, "c", ["blue"], 1),
    ([RED], PRODUCE, 3, "c", ["RED"], None),
    ([RED], PRODUCE, 3, "c", ["red2"], None),
    ([RED], PRODUCE, 3, "c", [], None),
    ([RED], METADATA, 3, "c", [], None),
    ([RED, ANY], METADATA, 3, "c", [], 1),
    ([RED], VERSIONS, 3, "c", [], 0),
    ([RED], FETCH, 3, "c", ["red"], None),
    ([RED], PRODUCER_ID, 3, "c", [], None),
    ([ANY], PRODUCER_ID, 3, "c", [], 0),
    ([ANY], 77, None, None, [], 0),
    ([V3], PRODUCE, 3, "c", ["red"], 0),
    ([V3], PRODUCE, 4, "c", ["red"], None),
    ([V3], PRODUCE, None, "c", ["red"], None),
    ([V3, BLUE], PRODUCE, 4, "c", ["red", "blue"], None),
    ([MINE], JOIN, 0, "me", [], 0),
    ([MINE], JOIN, 0, "Me", [], None),
    ([MINE], JOIN, 0, None, [], None),
    ([MINE], COMMIT, 2, "me", ["red"], 0),
    ([MINE], COMMIT, 2, "me", ["blue"], None),
    ([MINE], FETCH, 6, "me", [], None),
    ([MINE], FETCH, 7, "me", [], 0),  # a fetch session goes on
    ([MINE], FETCH, 7, "you", [], None),
    ([MINE], FETCH, 11, "me", ["blue"], None),
    ([], PRODUCE, 3, "c", ["red"], None),
]


@pytest.mark.parametrize(("rules", "key", "version", "client", "topics", "index"), CASES)
def test_which_rule_decides(rules, key, version, client, topics, index):
    assert deciding(enumerate(rules), key, version, client, topics) == index


def names(keys):
    return {name for name, key in API_KEYS.items() if key in keys}


def test_roles_and_topic_keys():
    assert names(ROLES["produce"]) == {"produce", "metadata", "apiversions"}
    assert names(ROLES["consume"]) == {
        "fetch", "offsets", "metadata", "offsetcommit", "offsetfetch", "findcoordinator", "joingroup", "heartbeat",
        "leavegroup", "syncgroup", "apiversions",
    }  # fmt: skip
    assert names(TOPIC_KEYS) == {
        "produce", "fetch", "offsets", "metadata", "leaderandisr", "stopreplica", "updatemetadata", "offsetcommit",
        "offsetfetch", "createtopics", "deletetopics", "deleterecords", "offsetforleaderepoch", "addpartitionstotxn",
        "writetxnmarkers", "txnoffsetcommit",
    }  # fmt: skip
    assert max(API_KEYS.values()) == 33
    assert len(set(API_KEYS.values())) == len(API_KEYS) == 34
