"""Questions to policy_test.bpf.c, about policies that stand in the maps of the kernel."""

import struct

from observer.datapath.libbpf import Object
from tests.policy.map_judge import Judged

CONNECT, HTTP, KAFKA, UNREADABLE = range(4)
PASSES, REFUSES, UNDECIDED = range(3)

TUPLE = struct.Struct("=32s4xHBB")
TEXT_SIZE = 255
TOPICS = 4
FIELDS = {"method": 32, "path": 2048, "host": 256}


def name(text: bytes) -> bytes:
    """`struct kafka_name`; a longer one is cut, as kafka.h tells what it cannot hold by a name that no rule has."""
    return bytes((len(text) if len(text) <= TEXT_SIZE else 0,)) + text[:TEXT_SIZE].ljust(TEXT_SIZE, b"\0")


class KernelJudge:
    """The face of map_judge.MapJudge, with the kernel behind it."""

    def __init__(self, loaded: Object, revision: int):
        self.asked, self.told = loaded.map("asked"), loaded.map("told")
        self.program = loaded.program("judge")
        self.revision = revision

    def _ask(self, packet, operation, *, key_version=0, client=b"", topics=(), request=(), unread=False):
        source, destination, protocol, port, family = packet
        words = [operation, self.revision, protocol << 16 | port, key_version, len(client), len(topics)]
        http = dict(zip(FIELDS, request, strict=False))
        lengths = [len(http.get(name, b"")) for name in FIELDS]
        parts = [
            struct.pack("=6I", *words),
            TUPLE.pack(source + destination, 0, protocol, family),
            name(client),
            *(name(topic) for topic in (*topics, *[b""] * TOPICS)[:TOPICS]),
            struct.pack("=4H", *lengths, unread),
            *(http.get(name, b"").ljust(size, b"\0") for name, size in FIELDS.items()),
        ]
        self.asked.set(bytes(4), b"".join(parts).ljust(self.asked.value_size, b"\0"))
        assert self.program.test_run(bytes(14)).retval == 0
        value = self.told.get(bytes(4))
        verdict, _, egress, ingress, egress_l7, ingress_l7, refused, match = struct.unpack_from("=6I2B", value)
        connection = Judged(refused, egress, ingress, match, egress_l7, ingress_l7)
        egress, ingress, refused, match, undecided = struct.unpack_from("=II3B", value, 28)
        return connection, verdict, Judged(refused, egress, ingress, match, egress_l7, ingress_l7), bool(undecided)

    def connection(self, *packet):
        self.packet = packet
        return self._ask(packet, CONNECT)[0]

    def http(self, _decision, *request):
        """On the connection that was asked for last."""
        _, verdict, judged, undecided = self.ask_http(*request)
        assert (verdict, undecided) == (REFUSES if judged.refused else PASSES, False)
        return judged

    def ask_http(self, *request):
        return self._ask(self.packet, HTTP, request=request)

    def unread_http(self):
        return self._ask(self.packet, HTTP, unread=True)[1:]

    def unreadable(self):
        return self._ask(self.packet, UNREADABLE)[1:]

    def kafka(self, _decision, key, version, client, topics):
        _, verdict, judged, undecided = self._ask(
            self.packet, KAFKA, key_version=key << 16 | version, client=client, topics=topics
        )
        assert (verdict, undecided) == (REFUSES if judged.refused else PASSES, False)
        return judged
