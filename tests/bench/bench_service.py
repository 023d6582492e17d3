"""The service through real sockets: GetFlows to a foreign client, a followed stream to ours, `observe` to a first line.

The server is a process of its own, as in life, so that client and server do not share an interpreter lock. What grpcio
carries is the peer of GetFlows: the same messages, ready made, from a bare server in the same run.
"""

import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager

import grpc
import numpy as np

from observer.api import observer_pb2
from observer.client import State, open_server
from observer.extra import Extra
from observer.record import EventType, FlowType, L7Kind, L7Type, Present, pack_text
from observer.store import Store
from tests.service.flows import SECOND_NS, START_NS, add_flows, make_store, serving
from tests.service.foreign import answering

HELD = 50_000
FOLLOWED_S = 4.0
STARTS = 7
HEAD = b"Host: payment-gateway:8080\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nX-Request-Id: 7f3c9a\r\n"


def main():
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix://{folder}/bench.sock"
        peer = f"unix://{folder}/bare.sock"
        with child("held", address), child("bare", peer):
            get_flows(address, peer)
            starts(address)
        with child("followed", address):
            follow(address)


@contextmanager
def child(*words):
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.bench_service", *words], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


def http_records(count):
    """What a shop's flows are: requests and responses with a header section each."""
    store = make_store(0, 64)
    add_flows(store, 2)
    records = np.resize(store._records[:2], count)
    lengths, text, _ = pack_text((b"/v1/charge", b"payment-gateway:8080"))
    records["time_ns"] = START_NS + np.arange(count) * (SECOND_NS // 10_000)
    records["type"], records["event_type"], records["l7_kind"] = FlowType.L7, EventType.L7, L7Kind.HTTP
    records["l7_type"] = np.where(np.arange(count) % 2, L7Type.RESPONSE, L7Type.REQUEST)
    records["l7_method"], records["l7_code"], records["l7_version"] = 3, 200, 11
    records["latency_ns"] = 1_200_000
    records["present"] |= np.uint32(Present.LATENCY | Present.CODE | Present.METHOD)
    records["text_length"] = lengths
    records["text"][:, : len(text)] = np.frombuffer(text, np.uint8)
    return records, [(row, Extra(head=HEAD)) for row in range(count)]


def serve_held(address):
    store = make_store(2, HELD * 2)
    records, extras = http_records(HELD)
    store.append(records, extras, 1)
    with serving(store, address):
        stand_by()


def serve_bare(address):
    """The messages of one GetFlows, from a handler that does nothing else."""
    from observer.service.answers import About, Answers

    store = make_store(2, HELD * 2)
    records, extras = http_records(HELD)
    store.append(records, extras, 1)
    messages = list(Answers(store, About()).flows(observer_pb2.GetFlowsRequest(), lambda: False))
    with answering(address, GetFlows=messages):
        stand_by()


def serve_followed(address):
    """A store whose writer never rests: 2,048 flows at a time, as a busy pipeline appends them."""
    store = make_store(2, 131_072)
    records, extras = http_records(2048)
    with serving(store, address):
        threading.Thread(target=write, args=(store, records, extras), daemon=True).start()
        stand_by()


def write(store, records, extras):
    while True:
        store.append(records, extras[::8], 1)  # one extra in eight, as where headers are not asked for
        # Paced to what this machine's other half can take, or the figure would be of what is lost.
        time.sleep(0.0015)


def stand_by():
    print("ready", flush=True)
    threading.Event().wait()


def count_messages(address):
    with grpc.insecure_channel(address.replace("unix://", "unix:")) as channel:
        call = channel.unary_stream("/observer.Observer/GetFlows")(observer_pb2.GetFlowsRequest().SerializeToString())
        next(call)
        started = time.perf_counter()
        count = sum(1 for _ in call)
        return count / (time.perf_counter() - started)


def get_flows(address, peer):
    """The best of three each, taken in turns: what else the machine does hits both."""
    rates = [(count_messages(address), count_messages(peer)) for _ in range(3)]
    ours, bare = map(max, zip(*rates, strict=True))
    print(f"GetFlows to a foreign client               {ours:12,.0f} flows/s   budget: what grpcio allows, aim 57,000")
    print(f"  bare grpcio, the same messages           {bare:12,.0f} flows/s   ours is {ours / bare:.2f} of it")


def starts(address):
    words = [sys.executable, "-m", "observer.cli", "observe", "--server", address, "--last", "1"]
    times = []
    for _ in range(STARTS):
        started = time.perf_counter()
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline()
            times.append(time.perf_counter() - started)
    print(
        f"`observe` start to first line              {sorted(times)[STARTS // 2]:12.3f} s         budget 0.4, aim 0.25"
    )


def follow(address):
    with closing(open_server(address)) as source:
        store = Store(131_072)
        subscription = source.subscribe(store, observer_pb2.GetFlowsRequest(follow=True))
        while subscription.state is not State.LIVE:
            time.sleep(0.01)
        first, lost, started = store.next, subscription.lost, time.perf_counter()
        time.sleep(FOLLOWED_S)
        got, gone = store.next - first, subscription.lost - lost
        rate = got / (time.perf_counter() - started)
    print(
        f"follow stream to our client                {rate:12,.0f} flows/s   budget 200,000, aim 1,000,000; "
        f"overtaken {gone / max(got + gone, 1):.0%}"
    )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        {"held": serve_held, "bare": serve_bare, "followed": serve_followed}[sys.argv[1]](sys.argv[2])
    else:
        main()
