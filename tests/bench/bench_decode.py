"""What a packet costs from the capture file to columns: reading, decoding, and the same packets as dpkt's objects."""

import gzip
import random
import tempfile
import time
from pathlib import Path

import dpkt

from observer.decode import Decoder
from observer.losses import Losses
from observer.sources.pcap import open_capture
from tests.captures import ACK, PSH, enhanced, ethernet, interface, ipv4, ipv6, pcap, section, tcp, udp

PACKETS = 200_000
PEER_PACKETS = 20_000
RUNS = 5
BUDGET_NS = 1500  # with the connection lookup


def packets() -> list[bytes]:
    """A third bare ACKs, the rest with some payload; a tenth IPv6, a tenth DNS over UDP, a fifth tagged."""
    rng = random.Random(1)
    kinds = []
    for number in range(1000):
        payload = bytes(rng.choice((0, 90, 600, 1448)))
        segment = tcp(payload, 30000 + number, 80, PSH | ACK, number, number, options=b"\1\1\x08\x0a" + bytes(8))
        protocol = 6
        if number % 10 == 0:
            segment, protocol = udp(bytes(60), 30000 + number), 17
        six = number % 10 == 5
        ip = ipv6(segment, protocol) if six else ipv4(segment, protocol)
        kinds.append(ethernet(ip, 0x86DD if six else 0x0800, [(0x8100, 9)] if number % 5 == 1 else ()))
    return [rng.choice(kinds) for _ in range(PACKETS)]


def best_ns(path: Path, decode: bool) -> float:
    best = float("inf")
    for _ in range(RUNS):
        decoder = Decoder(Losses())
        start = time.process_time_ns()
        count = 0
        with open_capture(path, Losses()) as capture:
            for frames in capture.frames():
                count += len(decoder.decode(frames)) if decode else len(frames)
        assert count == PACKETS
        best = min(best, (time.process_time_ns() - start) / PACKETS)
    return best


def dpkt_ns(path: Path) -> float:
    start = time.process_time_ns()
    with path.open("rb") as file:
        for number, (_, frame) in enumerate(dpkt.pcap.Reader(file), 1):
            dpkt.ethernet.Ethernet(frame)
            if number == PEER_PACKETS:
                break
    return (time.process_time_ns() - start) / PEER_PACKETS


def main() -> None:
    built = packets()
    data = pcap(built)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "capture"
        path.write_bytes(data)
        peer = dpkt_ns(path)
        for name, content in (
            ("pcap", data),
            ("pcapng", section() + interface() + b"".join(map(enhanced, built))),
            ("pcap.gz", gzip.compress(data, 1)),
        ):
            path.write_bytes(content)
            read, both = best_ns(path, False), best_ns(path, True)
            print(
                f"{name:8} {read:5.0f} ns a packet to read, {both:5.0f} with decoding"
                f" (budget {BUDGET_NS} with the connection lookup; dpkt's objects {peer:.0f}, {peer / both:.1f} x)"
            )
