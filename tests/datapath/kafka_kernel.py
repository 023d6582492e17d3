"""bpf/kafka.h alone, by BPF_PROG_TEST_RUN: octets of both sides in, the L7 columns of records out; and the same columns
of what the Python parser makes of the same octets."""

import struct
from typing import Final, NamedTuple, Self

from observer.datapath.fill import fill_kafka
from observer.datapath.libbpf import Object, Program
from observer.datapath.losses import Counter
from observer.datapath.ring import RecordRing
from observer.l7.kafka import Kafka
from observer.l7.kafka_topics import TopicIds
from observer.l7.message import Message, Side
from observer.losses import Losses
from observer.record import Flags, L7Kind, Present, pack_text, unpack_text
from tests.l7.transcripts import known

READ, REFUSED, HAND_OVER = 0, 1, 2
ORDER_READ, ORDER_ABANDON, ORDER_LEFT, ORDER_DETECT, ORDER_DETECT_EXPECTED = range(5)
DETECTED = 100
FRAME_LIMIT = 3_400  # what BPF_PROG_TEST_RUN takes
SAID: Final = Present.CODE | Present.METHOD | Present.L7_ID | Present.LATENCY
FLAGGED: Final = Flags.L7_INCOMPLETE | Flags.TEXT_CUT


class Told(NamedTuple):
    """The L7 columns of one record."""

    type: int
    method: int
    version: int
    id: int
    code: int
    texts: tuple[bytes, ...]
    time_ns: int
    latency_ns: int
    present: int
    flags: int
    verdict: int = 0
    egress_rule: int = 0
    ingress_rule: int = 0


class KernelKafka:
    """One connection at a time; `feed` gives what a packet made the kernel tell."""

    def __init__(self, image: bytes, **sizes: int) -> None:
        self.object = Object(image, "kafka")
        for name, size in sizes.items():
            self.object.resize(name, size)
        self.object.load()
        fill_kafka(self.object)
        self.program: Program = self.object.program("kafka")
        self._ring = RecordRing(self.object.map("events"))
        self._tested = self.object.map("tested")
        self._number = 0
        self.results: list[int] = []
        self.is_judged = self.is_enforced = False
        self.begin()

    def begin(self, *, forget: bool = True) -> None:
        """Another connection; `forget` what those before told of topic ids."""
        self._number += 1
        self.results = []
        self.client, self.server = 1, 2  # last octets of their addresses
        if forget:
            self.object.map("kafka_topic_ids").clear()
        self._tested.set(bytes(4), struct.pack("=Q", self._number).ljust(self._tested.value_size, b"\0"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.object.close()

    def order(self, what: int, side: Side, data: bytes, time_ns: int = 0) -> int:
        asked = (side, what, self.is_judged, self.is_enforced, self.client, self.server, time_ns)
        frame = struct.pack("=6BQ", *asked) + data
        return self.program.test_run(frame).retval

    def feed(self, side: Side, data: bytes, time_ns: int) -> list[Told]:
        for start in range(0, len(data), FRAME_LIMIT):
            self.results.append(self.order(ORDER_READ, side, data[start : start + FRAME_LIMIT], time_ns))
        return self.take()

    def close(self, side: Side, time_ns: int) -> list[Told]:
        self.results.append(self.order(ORDER_ABANDON, side, b"", time_ns))
        return self.take()

    def left(self, side: Side) -> int:
        """Octets that are passed over before the parser looks again."""
        return self.order(ORDER_LEFT, side, b"")

    @property
    def state(self) -> bytes:
        """What is known of the connection, to be gone back to."""
        value = self._tested.get(bytes(4))
        assert value is not None
        return value

    @state.setter
    def state(self, value: bytes) -> None:
        self._tested.set(bytes(4), value)

    def count(self, name: str) -> int:
        """A counter of the kernel's, over all CPUs."""
        value = self.object.map("counters").get(struct.pack("=I", Counter[name]))
        assert value is not None
        return sum(struct.unpack(f"={len(value) // 8}Q", value))

    def take(self) -> list[Told]:
        return [
            Told(
                int(row["l7_type"]),
                int(row["l7_method"]),
                int(row["l7_version"]),
                int(row["l7_id"]),
                int(row["l7_code"]),
                unpack_text(row)[:2],
                int(row["time_ns"]),
                int(row["latency_ns"]),
                int(row["present"]) & SAID,
                int(row["flags"]) & FLAGGED,
                *(int(row[name]) if self.is_judged else 0 for name in ("verdict", "egress_rule", "ingress_rule")),
            )
            for row in self._ring.take(1 << 16)
        ]


def told(message: Message, time_ns: int) -> Told:
    """The columns that observer/rows.py writes of a message that a packet of this time made known."""
    assert message.kind is L7Kind.KAFKA
    flags = Flags.L7_INCOMPLETE if message.incomplete else 0
    lengths, text, cut = pack_text(message.texts)
    one, two = lengths[:2]
    return Told(
        int(message.type),
        message.method or 0,
        message.version,
        (message.id or 0) & 0xFFFFFFFF,
        (message.code or 0) & 0xFFFF,
        (text[:one], text[one : one + two]),
        time_ns,
        max(message.latency_ns or 0, 0),
        known(message),
        flags | (Flags.TEXT_CUT if cut else 0),
    )


def python(topic_ids: TopicIds | None = None) -> Kafka:
    return Kafka(Losses(), topic_ids, (b"client", b"server"))
