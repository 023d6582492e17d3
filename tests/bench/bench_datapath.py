"""What a packet costs in the eBPF datapath, by kind; what a capture costs through it; how the object loads.

BPF_PROG_TEST_RUN says how long the program ran. Packets that may come again are run many times at a stretch; those
that are read once (HTTP and others) one by one, which times the clock too: what it takes is measured with ARP frames
and taken off. Best of several rounds, medians within a round. Needs the rights to load programs.
"""

import ctypes
import statistics
import struct
import time

from observer.datapath.fill import fill
from observer.datapath.libbpf import Object, Runner
from observer.datapath.maps import Settings
from observer.datapath.objects import PROGRAM, image
from observer.datapath.ring import ItemRing, RecordRing
from observer.identity.endpoints import EndpointTable, IpCache
from tests.captures import ACK, PSH, SYN, ethernet, ipv4, tcp, udp
from tests.l7.http2_bytes import CALL, GRPC_END, GRPC_OK, HELLO, SETTINGS, Sender, data, message

REPEAT = 200_000
ROUNDS = 5
MESSAGES = 2_000
PIPELINED = 20
LOADS = 3
REQUEST = (
    b"GET /api/v1/items/17?page=2 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n"
    b"Accept-Encoding: gzip\r\nX-Request-Id: 4c1d7f0e\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 21 Nov 2026 10:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 300\r\nConnection: keep-alive\r\n\r\n" + bytes(300)
)


def kafka_request(correlation: int) -> bytes:
    """Metadata v1 of one topic."""
    body = struct.pack(">hhih", 3, 1, correlation, 5) + b"bench" + struct.pack(">ih", 1, 6) + b"orders"
    return struct.pack(">i", len(body)) + body


def calls() -> list[tuple[bytes, bytes]]:
    """gRPC calls of one connection: from the second on nearly all of a block is indexed."""
    client, server = Sender(), Sender()
    out = [(HELLO, SETTINGS)]
    for stream in range(1, 2 * MESSAGES, 2):
        asked = client.headers(stream, CALL) + data(stream, message(50), end=True)
        answered = server.headers(stream, GRPC_OK) + data(stream, message(50))
        out.append((asked, answered + server.headers(stream, GRPC_END, end=True)))
    return out


class Bench:
    """A loaded datapath in which packets are run."""

    def __init__(self) -> None:
        self.object = Object(image("datapath"), "datapath")
        start = time.process_time_ns()
        self.object.load()
        self.load_ns = time.process_time_ns() - start
        fill(self.object, IpCache(EndpointTable()), None, Settings(replay=True))
        program = self.object.program(PROGRAM)
        context = bytearray(192)
        struct.pack_into("=Q", context, 152, 1_800_000_000 * 10**9)
        self.many = Runner(program, ctx=bytes(context), repeat=REPEAT)
        self.once = Runner(program, ctx=bytes(context))
        self.rings = RecordRing(self.object.map("events")), ItemRing(self.object.map("snapshots"))

    def run(self, runner: Runner, frame: bytes) -> int:
        data = ctypes.create_string_buffer(frame, len(frame))
        runner.run(ctypes.addressof(data), len(frame))
        return runner.duration_ns

    def repeated_ns(self, frame: bytes) -> int:
        return min(self.run(self.many, frame) for _ in range(ROUNDS))

    def drain(self) -> tuple[int, int]:
        records = self.rings[0].take(1 << 20)
        return len(records), len(self.rings[1].take(1 << 30))


def arp() -> bytes:
    return ethernet(bytes(28), 0x0806)


def clock_ns(bench: Bench) -> float:
    """What a run costs beyond what the same costs at a stretch."""
    rounds = [statistics.median(bench.run(bench.once, arp()) for _ in range(MESSAGES)) for _ in range(ROUNDS)]
    return min(rounds) - bench.repeated_ns(arp())


def messages_ns(bench: Bench, server_port: int, exchanges: list[tuple[bytes, bytes]], port: int) -> tuple[float, float]:
    """Medians of requests and of responses, each the next of one connection."""
    one, two = 1000, 5000
    asked, answered = [], []

    def frame(payload: bytes, flags: int, *, back: bool = False) -> bytes:
        if back:
            segment = tcp(payload, server_port, port, flags, two, one)
            return ethernet(ipv4(segment, 6, "10.0.0.2", "10.0.0.1"))
        return ethernet(ipv4(tcp(payload, port, server_port, flags, one, two), 6))

    bench.run(bench.once, frame(b"", SYN))
    one += 1
    bench.run(bench.once, frame(b"", SYN | ACK, back=True))
    two += 1
    for request, response in exchanges:
        asked.append(bench.run(bench.once, frame(request, PSH | ACK)))
        one += len(request)
        if response:
            answered.append(bench.run(bench.once, frame(response, PSH | ACK, back=True)))
            two += len(response)
    return statistics.median(asked), statistics.median(answered or [0])


def best_messages_ns(bench: Bench, server_port: int, exchanges: list[tuple[bytes, bytes]]) -> tuple[float, float, int]:
    rounds = []
    told = 0
    for number in range(ROUNDS):
        bench.drain()
        rounds.append(messages_ns(bench, server_port, exchanges, 40_000 + server_port % 1000 + number))
        told = bench.drain()[0]
    return min(each[0] for each in rounds), min(each[1] for each in rounds), told


def further_ns(bench: Bench) -> float:
    """What one request more costs in a packet that has some: all is in the processor's cache by then."""
    alone, _, _ = best_messages_ns(bench, 80, [(REQUEST, b"")] * PIPELINED)
    together, _, told = best_messages_ns(bench, 81, [(REQUEST * PIPELINED, b"")] * (200 // PIPELINED))
    assert told >= 200, told
    return (together - alone) / (PIPELINED - 1)


def line(what: str, ns: float, budget: str) -> None:
    print(f"{what:44} {ns:6.0f} ns  (budget {budget})")


def main() -> None:
    loads = []
    for _ in range(LOADS):
        bench = Bench()
        loads.append(bench.load_ns)
    print(f"it loads in {min(loads) / 1e6:.0f} ms of processor time")
    clock = clock_ns(bench)
    line("ARP, nothing to read", bench.repeated_ns(arp()), "none")
    line("ACK of a known connection", bench.repeated_ns(ethernet(ipv4(tcp(), 6))), "120, aim 80")
    line("UDP on no known port", bench.repeated_ns(ethernet(ipv4(udp(bytes(60), 40000, 9999), 17))), "none")
    body = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n"
    bench.run(bench.once, ethernet(ipv4(tcp(body, 40100), 6)))
    inside = tcp(bytes(1448), 40100, 80, PSH | ACK, 1000 + len(body))
    line("1448 octets of an HTTP body, again", bench.repeated_ns(ethernet(ipv4(inside, 6))), "none")
    bench.drain()
    asked, answered, told = best_messages_ns(bench, 80, [(REQUEST, RESPONSE)] * MESSAGES)
    line(f"HTTP request, {len(REQUEST)} octets", asked - clock, "700, aim 500")
    line(f"HTTP response, {len(RESPONSE)} octets", answered - clock, "none")
    assert told >= 2 * MESSAGES, told
    line("HTTP request, a further one in the packet", further_ns(bench), "700, aim 500")
    asked, _, told = best_messages_ns(bench, 9092, [(kafka_request(number), b"") for number in range(MESSAGES)])
    line("Kafka request, Metadata of one topic", asked - clock, "450, aim 350")
    assert told >= MESSAGES, told
    asked, answered, told = best_messages_ns(bench, 50051, calls())
    line("gRPC call, indexed, and DATA", asked - clock, "1000, aim 700")
    line("gRPC response, DATA and trailers", answered - clock, "none")
    assert told >= 2 * MESSAGES, told
    stream = [(HELLO, SETTINGS), *[(data(1, bytes(1_400)), b"")] * MESSAGES]
    asked, _, told = best_messages_ns(bench, 50052, stream)
    line("HTTP/2 DATA, 1400 octets", asked - clock, "none")


if __name__ == "__main__":
    main()
