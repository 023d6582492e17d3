"""A capture of a million packets, from the file to flows in the store: speed and memory beside tshark's, in one run.

The packets are those of our own fixture captures (HTTP/1, HTTP/2 and gRPC, Kafka, DNS, bare TCP), over and over with
other addresses, so that every round holds connections of its own. `CAPTURE=file` in the environment takes a file.
"""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from observer.losses import Losses
from observer.sources.pcap import open_capture

PACKETS = 1_000_000
GOAL = 2.0  # times tshark's speed
MEMORY_MB = 250
FIXTURES = Path(__file__).parents[2] / "fixtures" / "pcaps"
ROUND = (
    "dns-basic", "grpc-big-metadata", "grpc-errors", "grpc-streams", "grpc-unary", "http1-basic", "http1-chunked",
    "http1-errors", "http1-keepalive", "http1-pipelining", "http2-curl", "http2-other", "kafka-aiokafka",
    "kafka-confluent", "kafka-python", "tcp-loss", "tcp-refused", "tcp-reorder", "udp-plain",
)  # fmt: skip
FIELDS = (
    "frame.time_epoch", "ip.src", "ip.dst", "tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport", "tcp.flags",
    "http.request.method", "http.request.uri", "http.host", "http.response.code",
    "http2.streamid", "http2.headers.method", "http2.headers.path", "http2.headers.authority", "http2.headers.status",
    "kafka.api_key", "kafka.api_version", "kafka.correlation_id", "kafka.client_id",
    "kafka.topic_name", "kafka.error", "dns.qry.name", "dns.flags.rcode", "dns.a", "dns.aaaa",
)  # fmt: skip
OURS = """
import gc, os, sys
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # this and the threshold as the commands do
from observer.identity.endpoints import EndpointTable, IpCache
from observer.pipeline import Pipeline, replay
from observer.store import Store
gc.set_threshold(50_000, 50, 100)
cache = IpCache(EndpointTable())
store = Store(endpoints=cache.table)
replay(sys.argv[1], Pipeline(store=store, endpoints=cache))
print(store.next)
"""


def frames() -> list[tuple[int, bytes]]:
    """One round: (time since its beginning in us, Ethernet frame of IPv4), the captures laid over each other."""
    out = []
    for name in ROUND:
        with open_capture(FIXTURES / f"{name}.pcap", Losses()) as capture:
            first = None
            for batch in capture.frames():
                data = bytes(batch.data)
                for start, length, time_ns, link_type in zip(
                    batch.offsets.tolist(),
                    batch.lengths.tolist(),
                    batch.times_ns.tolist(),
                    batch.link_types.tolist(),
                    strict=True,
                ):
                    first = time_ns if first is None else first
                    frame = data[start : start + length]
                    if link_type == 1 and frame[12:14] == b"\x08\0":
                        out.append(((time_ns - first) // 1000, frame))
    return sorted(out, key=lambda each: each[0])


def write(path: Path) -> int:
    """Write rounds until there are PACKETS; in each the second and third octets of both addresses are others."""
    one = frames()
    parts, words, places, position = [], [], [], 0
    for _, frame in one:
        parts += [struct.pack("<4I", 0, 0, len(frame), len(frame)), frame]
        words.append(position)
        places += [position + 16 + 14 + at for at in (13, 17)]
        position += 16 + len(frame)
    block = np.frombuffer(b"".join(parts), np.uint8)
    times = np.array([time_us for time_us, _ in one], np.int64)
    at, octets = np.array(words), np.array(places)
    span = int(times[-1]) + 1000
    rounds = -(-PACKETS // len(one))
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for number in range(rounds):
            now = times + span * number
            copy = block.copy()
            stamp = np.stack((1_700_000_000 + now // 1_000_000, now % 1_000_000), 1).astype("<u4")
            copy[at[:, None] + np.arange(8)] = stamp.view(np.uint8).reshape(-1, 8)
            copy[octets] = number >> 8 ^ copy[octets]
            copy[octets + 1] = number & 255 ^ copy[octets + 1]
            file.write(copy.data)
    return len(one) * rounds


def measured(command: list[str]) -> tuple[float, float, int, str]:
    """CPU seconds, wall seconds, peak memory in MB, and the last line of what the command prints."""
    with tempfile.TemporaryFile() as out:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, cwd=FIXTURES.parents[1])
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command[0]} failed with {process.returncode}")
        out.seek(max(0, out.seek(0, os.SEEK_END) - 200))
        last = out.read().decode(errors="replace").rstrip().rpartition("\n")[2]
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss // 1024, last


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if given := os.environ.get("CAPTURE"):
            path = Path(given).absolute()
            with open_capture(path, Losses()) as capture:
                packets = sum(len(batch) for batch in capture.frames())
        else:
            path = Path(folder) / "capture.pcap"
            packets = write(path)
        size = path.stat().st_size >> 20
        cpu, wall, memory, flows = measured([sys.executable, "-c", OURS, str(path)])
        ours = packets / cpu
        print(
            f"{packets} packets, {size} MB, {flows} flows: {ours:.0f} packets a CPU second,"
            f" {packets / wall:.0f} a second, {memory} MB at most (budget {MEMORY_MB})",
            flush=True,
        )
        # The command that users run: what it has given out it forgets.
        asked = [sys.executable, "-m", "observer.cli", "observe", "--pcap", str(path), "--verdict", "DROPPED"]
        cpu, wall, memory, _ = measured(asked)
        print(
            f"observe --verdict DROPPED: {packets / cpu:.0f} packets a CPU second, {packets / wall:.0f} a second,"
            f" {memory} MB",
            flush=True,
        )
        if shutil.which("tshark"):
            fields = [part for field in FIELDS for part in ("-e", field)]
            cpu, wall, memory, _ = measured(["tshark", "-r", str(path), "-T", "fields", *fields])
            print(
                f"tshark -T fields, the same fields: {packets / cpu:.0f} packets a CPU second,"
                f" {packets / wall:.0f} a second, {memory} MB;"
                f" ours is {ours * cpu / packets:.1f} times its speed (budget {GOAL:.0f}, aim 5)"
            )


if __name__ == "__main__":
    main()
