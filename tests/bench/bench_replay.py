"""What a packet costs from the capture file to flows in the store, and what tshark takes for the same fields."""

import gc
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from observer.identity.endpoints import EndpointTable, IpCache
from observer.pipeline import Pipeline, replay
from observer.store import Store
from tests.packets import connection, pcap, tcp, udp

RUNS = 3
CONNECTIONS = 3_000
GOAL = 2.0  # times tshark's speed
FIELDS = (
    "frame.time_epoch", "ip.src", "ip.dst", "tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport",
    "http.request.method", "http.request.uri", "http.host", "http.response.code",
    "dns.qry.name", "dns.flags.rcode", "dns.a",
)  # fmt: skip
GET = b"GET /api/v2/products?page=2 HTTP/1.1\r\nHost: api-server:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 300\r\n\r\n" + b"x" * 300
QUERY = bytes.fromhex("1234010000010000000000000161027879000001" + "0001")
ANSWER = bytes.fromhex("12348180000100010000000001610278790000010001" + "c00c000100010000003c00040a000002")


def name(number: int) -> str:
    return f"10.1.{number >> 8 & 255}.{number & 255}:{40_000 + number % 20_000}"


def http():
    for number in range(CONNECTIONS):
        yield from connection(name(number), "10.0.0.2:8080", request=GET, response=OK, at=number / 1000)


def dns():
    for number in range(CONNECTIONS * 2):
        yield udp(name(number), "10.0.0.53:53", QUERY, at=number / 1000)
        yield udp("10.0.0.53:53", name(number), ANSWER, at=number / 1000 + 0.0005)


def bulk():
    sender, receiver = "10.0.0.1:40000", "10.0.0.2:9000"
    yield from connection(sender, receiver)[:3]
    for number in range(CONNECTIONS * 5):
        at = 1 + number / 10_000
        yield tcp(sender, receiver, "PA", b"\x80" * 1000, sequence=1001 + number * 1000, acknowledgment=5001, at=at)
        yield tcp(receiver, sender, "A", sequence=5001, acknowledgment=1001 + (number + 1) * 1000, at=at)


def ours_ns(path: Path) -> int:
    best = 1 << 62
    for _ in range(RUNS):
        cache = IpCache(EndpointTable())
        store = Store(endpoints=cache.table)
        start = time.process_time_ns()
        replay(path, Pipeline(store=store, endpoints=cache))
        best = min(best, time.process_time_ns() - start)
    return best


def tshark_ns(path: Path, nothing: Path) -> int:
    """CPU time without that of starting up, which a capture of one packet shows."""
    fields = [part for field in FIELDS for part in ("-e", field)]

    def run(file: Path) -> int:
        command = [
            "bash",
            "-c",
            'TIMEFORMAT=%U; time tshark "$@" >/dev/null 2>&1',
            "-",
            "-r",
            str(file),
            "-T",
            "fields",
        ]
        return int(float(subprocess.run([*command, *fields], capture_output=True, text=True).stderr) * 1e9)

    return run(path) - run(nothing)


def main() -> None:
    gc.set_threshold(50_000, 50, 100)  # as the commands do
    with tempfile.TemporaryDirectory() as folder:
        nothing = Path(folder) / "nothing.pcap"
        nothing.write_bytes(pcap(udp("10.0.0.1:1", "10.0.0.2:2")))
        for title, rows in (
            ("HTTP, 10 packets a connection", http()),
            ("DNS", dns()),
            ("unread bytes and ACKs", bulk()),
        ):
            packets = list(rows)
            path = Path(folder) / "capture.pcap"
            path.write_bytes(pcap(*packets))
            ours = ours_ns(path) / len(packets)
            line = f"pcap to flows, {title}: {ours / 1000:.2f} us a packet"
            if shutil.which("tshark"):
                peer = tshark_ns(path, nothing) / len(packets)
                line += f", tshark {peer / 1000:.2f}: {peer / ours:.1f} times its speed (budget {GOAL:.0f})"
            print(line, flush=True)


if __name__ == "__main__":
    main()
