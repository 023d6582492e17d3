"""HTTP/2 through the datapath by BPF_PROG_TEST_RUN: what both sides say in, the L7 columns of the records out; and the
same columns of what the Python parser makes of the same octets."""

import ctypes
import itertools
import struct
from collections.abc import Callable
from typing import NamedTuple

from observer.datapath.libbpf import Object, Runner
from observer.datapath.objects import PROGRAM, image
from observer.datapath.ring import ItemRing, RecordRing
from observer.l7.http2 import Http2
from observer.l7.message import Message, Side
from observer.losses import Losses
from observer.record import Flags, FlowType, L7Kind, Present, pack_text, unpack_text
from tests import captures
from tests.l7.transcripts import CLIENT, SERVER, Transcript, known

SEGMENT = 3_000  # BPF_PROG_TEST_RUN takes about 3.5 KB
STEP_NS = 1_000
SYN, ACK = 2, 16
SETTINGS = struct.Struct("=4IQ")
SK_BUFF_SIZE, SK_BUFF_TSTAMP = 192, 152
SAID = Present.CODE | Present.METHOD | Present.L7_ID | Present.LATENCY | Present.GRPC_STATUS
FLAGGED = Flags.L7_INCOMPLETE | Flags.TEXT_CUT


class Told(NamedTuple):
    """The L7 columns of one record."""

    type: int
    kind: int
    is_reply: int
    id: int
    method: int
    code: int
    grpc_status: int
    version: int
    texts: tuple[bytes, ...]
    time_ns: int
    latency_ns: int
    present: int
    flags: int


class Kernel:
    """The datapath as a capture's replay has it; every `play` is a connection of its own."""

    def __init__(self, built: bytes | None = None, **sizes: int) -> None:
        """`built` is another object than the shipped one; `sizes` are other numbers of entries for maps."""
        self.object = Object(image("datapath") if built is None else built, "datapath")
        for name, size in sizes.items():
            self.object.resize(name, size)
        self.object.load()
        self._ring = RecordRing(self.object.map("events"))
        self._snapshots = ItemRing(self.object.map("snapshots"))
        self._ports = itertools.count(50_100)  # above the server's, which is how roles are guessed
        self.runner = Runner(self.object.program(PROGRAM), ctx=bytes(SK_BUFF_SIZE))
        self.set()

    def set(self, *, enforce: bool = False) -> None:
        """Replay: the time is the frame's."""
        self.object.map("settings").set(bytes(4), SETTINGS.pack(enforce, 0, 1, 0, 0))

    def play(
        self, transcript: Transcript, cut: Callable[[bytes], list[bytes]] | None = None, *, joined: bool = False
    ) -> list[Told]:
        """What is told of a connection; entry n has the time n + 1, as `transcripts.play` has it."""
        self.handed_over()
        connection = Connection(self, joined=joined)
        for number, (side, said) in enumerate(transcript, 1):
            if isinstance(said, int):
                connection.sequence[side] += said
                continue
            for piece in cut(said) if cut else [said]:
                connection.send(side, piece, number)
        return self.take()

    def run(self, frame: bytes, time_ns: int) -> int:
        """One frame; the TC program's verdict."""
        ctx = self.runner.ctx
        assert ctx is not None
        struct.pack_into("=Q", ctx, SK_BUFF_TSTAMP, time_ns)
        buffer = ctypes.create_string_buffer(frame, len(frame))
        return self.runner.run(ctypes.addressof(buffer), len(frame))

    def rows(self):
        """The L7 records since the last look."""
        return [row for row in self._ring.take(1 << 16) if row["type"] == FlowType.L7]

    def take(self) -> list[Told]:
        """Their L7 columns."""
        return [told_by_kernel(row) for row in self.rows()]

    def handed_over(self) -> int:
        """How much was given to user space since the last look."""
        return len(self._snapshots.take(1 << 24))

    def next_port(self) -> int:
        return next(self._ports)


class Connection:
    """A TCP connection of the kernel's, in order."""

    def __init__(self, kernel: Kernel, *, joined: bool = False) -> None:
        self.kernel = kernel
        number = kernel.next_port()
        self.addresses = (f"10.1.{number >> 16}.1", "10.2.0.1")
        self.ports = (number & 0xFFFF, 50_051)
        self.sequence = [1_000, 5_000]
        if not joined:
            self.open()

    def open(self) -> None:
        """Shake hands."""
        for side, flags in ((CLIENT, SYN), (SERVER, SYN | ACK)):
            self.segment(side, b"", flags, 0)
            self.sequence[side] += 1

    def send(self, side: Side, data: bytes, moment: int) -> int:
        """Say this, in as many segments as it takes."""
        verdict = 0
        for start in range(0, len(data), SEGMENT):
            piece = data[start : start + SEGMENT]
            verdict = self.segment(side, piece, ACK, moment)
            self.sequence[side] += len(piece)
        return verdict

    def segment(self, side: Side, data: bytes, flags: int, moment: int) -> int:
        frame = self.frame(side, data, flags)
        return self.kernel.run(frame, moment * STEP_NS)

    def frame(self, side: Side, data: bytes, flags: int = ACK) -> bytes:
        other = side.other
        segment = captures.tcp(
            data,
            self.ports[side],
            self.ports[other],
            flags,
            sequence=self.sequence[side] & 0xFFFFFFFF,
            acknowledgment=self.sequence[other] & 0xFFFFFFFF,
        )
        return captures.ethernet(captures.ipv4(segment, 6, self.addresses[side], self.addresses[other]))


def told_by_kernel(row) -> Told:
    """The columns of a record."""
    return Told(
        int(row["l7_type"]),
        int(row["l7_kind"]),
        int(row["is_reply"]),
        int(row["l7_id"]),
        int(row["l7_method"]),
        int(row["l7_code"]),
        int(row["grpc_status"]),
        int(row["l7_version"]),
        unpack_text(row),
        int(row["time_ns"]),
        int(row["latency_ns"]),
        int(row["present"]) & SAID,
        int(row["flags"]) & FLAGGED,
    )


def told_by_python(message: Message) -> Told:
    """The columns that observer/rows.py writes of a message."""
    status = (message.extension or {}).get("grpc", {}).get("status") if message.kind is L7Kind.GRPC else None
    flags = Flags.L7_INCOMPLETE if message.incomplete else 0
    lengths, text, cut = pack_text(message.texts)
    places = [0, *itertools.accumulate(lengths)]
    return Told(
        int(message.type),
        int(message.kind),
        int(message.side),
        message.id or 0,
        message.method or 0,
        message.code or 0,
        status or 0,
        message.version,
        tuple(text[start:end] for start, end in itertools.pairwise(places)),
        message.time_ns * STEP_NS,
        (message.latency_ns or 0) * STEP_NS,
        known(message) | (Present.GRPC_STATUS if status is not None else 0),
        int(flags | (Flags.TEXT_CUT if cut else 0)),
    )


def by_python_unclosed(transcript: Transcript) -> list[Told]:
    """What Http2 tells of the same while the connection stands: what is told at its end is left out."""
    parser = Http2(Losses())
    out: list[Message] = []
    for time_ns, (side, said) in enumerate(transcript, 1):
        if isinstance(said, int):
            parser.gap(side, said)
        else:
            out += parser.feed(side, said, time_ns)
    return [told_by_python(message) for message in out]
