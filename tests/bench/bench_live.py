"""Live capture: records from the kernel's ring to the store, beside the budget and beside one object per record."""

import ctypes
import os
import struct
import time

from observer.datapath.libbpf import Runner
from observer.datapath.rights import EBPF, missing
from observer.identity.file import Identities
from observer.live.kernel import KernelCapture
from observer.store import DEFAULT_CAPACITY, Store
from observer.tag import PolicyMode
from tests.packets import ip_packet, tcp

RECORDS = 20_000
RUNS = 20
ETHERNET = b"\x02" * 12 + b"\x08\x00"


def main() -> None:
    if os.geteuid() or missing(EBPF):
        print("needs root, to load programs")
        return
    ipcache = Identities().ipcache()
    store = Store(DEFAULT_CAPACITY, endpoints=ipcache.table)
    began = time.perf_counter()
    capture = KernelCapture(
        store=store, endpoints=ipcache, policy=None, mode=PolicyMode.AUDIT, node=0, say=lambda line: print(line)
    )
    print(f"start: {(time.perf_counter() - began) * 1e3:.0f} ms to load, fill and trace")
    frame = ETHERNET + ip_packet(tcp("10.0.0.1:1000", "10.0.0.2:80", "S"))
    buffer = ctypes.create_string_buffer(frame, len(frame))
    runner = Runner(capture.program)
    number, best = 0, float("inf")
    for _ in range(RUNS):
        for _ in range(RECORDS):  # each opens a connection of its own
            number += 1
            struct.pack_into(">H", buffer, 14 + 12, number >> 16)
            struct.pack_into(">H", buffer, 14 + 20, number & 0xFFFF)
            runner.run(ctypes.addressof(buffer), len(frame))
        time.sleep(0.01)
        first, before = store.next, time.process_time()
        capture.drain()
        spent = time.process_time() - before
        best = min(best, spent / (store.next - first))
    print(f"ring to store: {best * 1e9:.0f} ns a record, {1e-6 / best:.1f} M a CPU-second (budget 1 M, aim 5 M)")
    print(f"lost: {dict(store.losses.snapshot())}")
    capture.close()


if __name__ == "__main__":
    main()
