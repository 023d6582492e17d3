"""What a policy may ask of a Kafka request: its API key (or role), version, client and topics.

By Cilium's pkg/policy/api/kafka.go and pkg/kafka: each topic of a request needs a rule of its own; for API keys that
bear no topic, a rule's topic is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

API_KEYS: Final = {
    "produce": 0,
    "fetch": 1,
    "offsets": 2,
    "metadata": 3,
    "leaderandisr": 4,
    "stopreplica": 5,
    "updatemetadata": 6,
    "controlledshutdown": 7,
    "offsetcommit": 8,
    "offsetfetch": 9,
    "findcoordinator": 10,
    "joingroup": 11,
    "heartbeat": 12,
    "leavegroup": 13,
    "syncgroup": 14,
    "describegroups": 15,
    "listgroups": 16,
    "saslhandshake": 17,
    "apiversions": 18,
    "createtopics": 19,
    "deletetopics": 20,
    "deleterecords": 21,
    "initproducerid": 22,
    "offsetforleaderepoch": 23,
    "addpartitionstotxn": 24,
    "addoffsetstotxn": 25,
    "endtxn": 26,
    "writetxnmarkers": 27,
    "txnoffsetcommit": 28,
    "describeacls": 29,
    "createacls": 30,
    "deleteacls": 31,
    "describeconfigs": 32,
    "alterconfigs": 33,
}
"""API keys as policies name them."""

ROLES: Final = {
    "produce": frozenset((0, 3, 18)),
    "consume": frozenset((1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18)),
}
"""API keys of a role."""

TOPIC_KEYS: Final = frozenset((0, 1, 2, 3, 4, 5, 6, 8, 9, 19, 20, 21, 23, 24, 27, 28, 34, 35, 37))
"""API keys whose requests name topics."""

TOPIC_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,255}")

_FETCH: Final = 1
_FETCH_SESSIONS: Final = 7  # from this version on a fetch in a session may repeat its topics by silence (KIP-227)


@dataclass(frozen=True, slots=True)
class KafkaRule:
    """Conditions of one entry of `kafka`; all of them hold."""

    api_keys: frozenset[int] | None = None  # None: every key
    api_version: int | None = None
    client_id: str = ""
    topic: str = ""

    def admits(self, api_key: int, api_version: int | None, client_id: str | None) -> bool:
        """Whether all but the topic holds; what is not known meets no condition."""
        return (
            (self.api_keys is None or api_key in self.api_keys)
            and (self.api_version is None or api_version == self.api_version)
            and (not self.client_id or client_id == self.client_id)
        )


T = TypeVar("T")


def deciding(
    rules: Iterable[tuple[T, KafkaRule]],
    api_key: int,
    api_version: int | None,
    client_id: str | None,
    topics: Iterable[str],
) -> T | None:
    """Whose rules let the request pass: the owner of the first rule needed, or None if some topic has no rule."""
    admitting = [(owner, rule) for owner, rule in rules if rule.admits(api_key, api_version, client_id)]
    if not admitting:
        return None
    wanted = frozenset(topics)
    in_session = api_key == _FETCH and api_version is not None and api_version >= _FETCH_SESSIONS and not wanted
    if api_key not in TOPIC_KEYS or in_session:
        return admitting[0][0]
    for owner, rule in admitting:
        if not rule.topic:
            return owner
    if not wanted or not wanted <= {rule.topic for _, rule in admitting}:
        return None
    return next(owner for owner, rule in admitting if rule.topic in wanted)
