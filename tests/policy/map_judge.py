"""Judges by the bytes of compiled policy maps, as bpf/policy.h does, in plain Python: a second reading."""

import struct
from dataclasses import dataclass

from observer.policy.compile import PolicyMaps

PASSES, REFUSES, UNREADABLE = 0, 1, 2
INGRESS, EGRESS = 1, 2
ANY_STATE = 0xFFFFFFFF
STATE_SIZE = 8 + 2 * 256
FIELDS = ("method", "path", "host", "key", "version", "client", "topic")


@dataclass(frozen=True)
class Judged:
    """As record columns: refused is a Direction, or 0."""

    refused: int
    egress_rule: int
    ingress_rule: int
    match: int
    egress_l7: int = 0
    ingress_l7: int = 0


class LongestPrefix:
    """BPF_MAP_TYPE_LPM_TRIE: the length in bits comes first, in host order."""

    def __init__(self, entries):
        self.by_length = {}
        for key, value in entries:
            (length,) = struct.unpack_from("=I", key)
            data = int.from_bytes(key[4:]) >> (len(key) - 4) * 8 - length
            assert data not in self.by_length.setdefault(length, {}), "a prefix twice"
            self.by_length[length][data] = value

    def get(self, data):
        bits = len(data) * 8
        for length in sorted(self.by_length, reverse=True):
            value = self.by_length[length].get(int.from_bytes(data) >> bits - length)
            if value is not None:
                return value
        return None


class MapJudge:
    def __init__(self, maps: PolicyMaps):
        tables = {name: table.entries for name, table in maps.tables.items()}
        for name, table in maps.tables.items():
            assert len(dict(table.entries)) == len(table.entries), name
            for key, value in table.entries:
                assert (len(key), len(value)) == (table.key_size, table.value_size), name
        self.addresses = LongestPrefix(tables["policy_addresses"])
        self.pairs = dict(tables["policy_pairs"])
        self.ports = LongestPrefix(tables["policy_ports"])
        self.sets = [value for _, value in tables["policy_sets"]]
        assert len(maps.states) % STATE_SIZE == 0
        self.states = [maps.states[at : at + STATE_SIZE] for at in range(0, len(maps.states), STATE_SIZE)]

    def connection(self, source, destination, protocol, port, family):
        """`port` is an ICMP type where the protocol is ICMP."""
        one, other = (
            struct.unpack("=II", self.addresses.get(struct.pack("=I", family) + ip)) for ip in (source, destination)
        )
        allowed, egress_rule, match, egress_l7 = self._half(one, other, EGRESS, protocol, port)
        if not allowed:
            return Judged(EGRESS, egress_rule, 0, match)
        allowed, ingress_rule, ingress_match, ingress_l7 = self._half(other, one, INGRESS, protocol, port)
        if not allowed:
            return Judged(INGRESS, egress_rule, ingress_rule, ingress_match)
        match = ingress_match if other[1] & 1 else match
        return Judged(0, egress_rule, ingress_rule, match, egress_l7, ingress_l7)

    def _half(self, subject, peer, direction, protocol, port):
        managed, selected = subject[1] & 1, subject[1] & {INGRESS: 2, EGRESS: 4}[direction]
        if not selected:
            return True, 0, 4 if managed else 0, 0
        table = self.pairs.get(struct.pack("=III", subject[0], peer[0], direction))
        if table is None:
            table = self.pairs[struct.pack("=III", subject[0], 0, direction)]
        rule, l7, allowed, match = struct.unpack(
            "=IIBBxx", self.ports.get(table + bytes((protocol,)) + port.to_bytes(2) + b"\0")
        )
        return bool(allowed), rule, match, l7

    def _set(self, number):
        value = self.sets[number]
        http, kafka, http_open, kafka_open, topic_keys = struct.unpack_from("=5Q", value)
        starts = dict(zip(FIELDS, struct.unpack_from("=7I", value, 40), strict=True))
        first = struct.unpack_from("=II", value, 72)
        owners = [struct.unpack_from("=II", value, 80 + 8 * index) for index in range(128)]
        return http, kafka, http_open, kafka_open, topic_keys, starts, first, owners[:64], owners[64:]

    def _mask(self, start, text):
        if start == ANY_STATE:
            return (1 << 64) - 1
        state = start
        for byte in text:
            (state,) = struct.unpack_from("=H", self.states[state], 8 + 2 * byte)
            if not state:
                break
        return struct.unpack_from("=Q", self.states[state])[0]

    def _requested(self, decision, matching):
        if decision.refused or not (decision.egress_l7 or decision.ingress_l7):
            return decision
        egress_rule, ingress_rule, match = decision.egress_rule, decision.ingress_rule, decision.match
        for number, direction in ((decision.egress_l7, EGRESS), (decision.ingress_l7, INGRESS)):
            if not number:
                continue
            (rule, of_rule), passes = matching(self._set(number))
            if direction == EGRESS:
                egress_rule = rule
                if not passes:
                    return Judged(EGRESS, rule, 0, of_rule)
            else:
                ingress_rule, match = rule, of_rule
                if not passes:
                    return Judged(INGRESS, egress_rule, rule, of_rule)
        return Judged(0, egress_rule, ingress_rule, match, decision.egress_l7, decision.ingress_l7)

    def http(self, decision, method, target, host):
        def matching(of):
            mask, starts, first, owners = of[0], of[5], of[6], of[7]
            for field, text in (("method", method), ("path", target), ("host", host)):
                mask &= self._mask(starts[field], text)
            return (owners[lowest(mask)], True) if mask else (first, False)

        return self._requested(decision, matching)

    def kafka(self, decision, key, version, client, topics):
        def matching(of):
            _, mask, _, without_topic, topic_keys, starts, first, _, owners = of
            for field, text in (("key", key.to_bytes(2)), ("version", version.to_bytes(2)), ("client", client)):
                mask &= self._mask(starts[field], text)
            in_session = key == 1 and version >= 7 and not topics
            if key < 64 and topic_keys >> key & 1 and not in_session:
                if mask & without_topic:
                    mask &= without_topic
                else:
                    named = [mask & self._mask(starts["topic"], topic) for topic in topics]
                    mask = 0
                    if all(named):
                        for each in named:
                            mask |= each
            return (owners[lowest(mask)], True) if mask else (first, False)

        return self._requested(decision, matching)


def lowest(mask):
    return (mask & -mask).bit_length() - 1
