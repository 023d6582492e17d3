"""The tier `ebpf`: programs on the interfaces parse, judge and tell; here their rings become rows of the store.

Records of the ring `events` and payload of `snapshots` enter; flows leave for the store in the order of time, what the
kernel itself dropped among them. Writes what the programs go by: settings, addresses, and what turns the kernel's
monotonic time into wall time.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from observer.datapath import drops
from observer.datapath.attach import Attachments, Way
from observer.datapath.btf import kernel_enum
from observer.datapath.complete import Completion
from observer.datapath.fill import fill
from observer.datapath.http2_state import Maps
from observer.datapath.interfaces import Changes
from observer.datapath.libbpf import Link, Object
from observer.datapath.losses import count_losses
from observer.datapath.maps import ZERO, Settings
from observer.datapath.objects import PROGRAM, image
from observer.datapath.pending import PendingRequests
from observer.datapath.rights import Capability
from observer.datapath.ring import Counters, ItemRing, RecordRing
from observer.errors import DatapathError
from observer.identity.endpoints import IpCache
from observer.live.loop import Pressures
from observer.live.order import Order
from observer.policy.engine import Engine
from observer.record import EventType, Records
from observer.store import Store
from observer.tag import PolicyMode

FIRST_KERNEL: Final = (5, 17)
"""The first that has bpf_loop, which the programs need."""
RECORDS: Final = 4096
"""Records taken from the ring at a time: they stay in the processor's cache until they are in the store."""
ROUND_RECORDS: Final = 1 << 18
ROUND_BYTES: Final = 1 << 24
"""What one round reads of the rings at most: a flood does not keep the loop from its other work."""
SETTLED_NS: Final = 200_000
"""How long after its time stamp a record may still be on its way into the ring; one that takes longer comes late."""
STEP_NS: Final = 1_000_000
"""How far the wall clock may run away from the kernel's before the difference is measured anew."""
SAMPLES: Final = 5
"""Readings of both clocks, of which the one that was disturbed least counts."""
PRESSURE_S: Final = 5.0
"""How old the figures of a table may be: they take milliseconds to read."""

SHARED: Final = ("events", "counters", "settings", "ipcache", "refusals")
"""Maps of the object `datapath` that `drops` writes to and reads too."""


class KernelCapture:
    """The eBPF datapath on live interfaces.

    DatapathError where it cannot be loaded; PolicyError where the kernel cannot hold a rule exactly.
    """

    def __init__(
        self,
        *,
        store: Store,
        endpoints: IpCache,
        policy: Engine | None,
        mode: PolicyMode,
        node: int,
        say: Callable[[str], None],
    ) -> None:
        check_kernel()
        self._losses = store.losses
        with ExitStack() as stack:
            datapath = stack.enter_context(Object(image("datapath"), "datapath"))
            datapath.load()
            self._datapath = datapath
            settings = Settings(enforce=mode is PolicyMode.ENFORCE, wall_ns=wall_offset_ns())
            self._settings = fill(datapath, endpoints, policy, settings)
            self._settings_map = datapath.map("settings")
            self._events = RecordRing(datapath.map("events"))
            self._snapshots = ItemRing(datapath.map("snapshots"))
            self._counters = Counters(datapath.map("counters"))
            pending = PendingRequests(datapath.map("pending_requests"), datapath.map("counters"))
            self._tables = (datapath.map("connections"), pending)
            self._completion = Completion(
                endpoints=endpoints,
                policy=policy,
                mode=mode,
                losses=self._losses,
                pending=pending,
                words=datapath.map("let_go"),
                http2=Maps(datapath.map("hpack_tables"), datapath.map("hpack_texts")),
            )
            self._order = Order(lambda records, extras: store.append(records, extras, node))
            self.shortfall, self._words = self._trace_drops(datapath, stack)
            self.program = datapath.program(PROGRAM)
            self._attachments = Attachments(self.program, way=Way.chosen(), say=say)
            stack.callback(self._attachments.close)
            self._close = stack.pop_all().close
        self.descriptors = (self._events.fd, self._snapshots.fd)
        self._pressures: tuple[float, Pressures] = (-PRESSURE_S, ())

    @property
    def attached(self) -> Sequence[str]:
        """The interfaces' names."""
        return [f"{interface.name} ({self._attachments.way})" for interface in self._attachments]

    @property
    def pressures(self) -> Pressures:
        """How full the tables of the kernel are, or were a moment ago."""
        read, pressures = self._pressures
        if time.monotonic() >= read + PRESSURE_S:
            pressures = [(table.name, len(table), table.max_entries) for table in self._tables]
            self._pressures = time.monotonic(), pressures
        return pressures

    @property
    def needs(self) -> Collection[Capability]:
        """Links, and maps that are open, ask for no rights; a filter does, and so do maps before Linux 5.19.

        Other policies come in maps of their own.
        """
        if self._attachments.way is Way.CLSACT:
            return Capability.CAP_NET_ADMIN, Capability.CAP_BPF
        return (Capability.CAP_BPF,) if self._settings.has_policy else ()

    def take(self, changes: Changes) -> None:
        """Attach to what came; let go what went."""
        self._attachments.take(changes)

    def judge_by(self, endpoints: IpCache, policy: Engine | None) -> None:
        """Judge by these from the next packet on; PolicyError where the kernel cannot hold a rule exactly."""
        self._settings = fill(self._datapath, endpoints, policy, self._settings)
        self._completion.judge_by(endpoints, policy)

    def drain(self) -> None:
        """Put what the rings hold into the store, but for the newest, which something older may yet follow."""
        if not self._events.waiting and not self._snapshots.waiting and not self._order:
            return
        complete_ns = time.time_ns() - SETTLED_NS
        self._completion.snapshots(self._snapshots.take(ROUND_BYTES))
        self._order.put(*self._completion.take())
        taken = 0
        while self._events.waiting and taken < ROUND_RECORDS:
            records = self._events.take(RECORDS)
            if not len(records):
                break  # the next one is being written
            taken += len(records)
            newest_ns = int(records["time_ns"][-1])
            self._sort_out(records)
            self._order.give(min(complete_ns, newest_ns - SETTLED_NS))
        # Of a ring that was not read to its end, what is older than the clock may still come.
        if not self._events.waiting and not self._snapshots.waiting:
            self._order.give(complete_ns)

    def tick(self, time_ns: int) -> None:
        """Count losses, end what was silent for too long, and look whether the wall clock was set."""
        count_losses(self._counters.added(), self._losses)
        self._completion.advance(time_ns)
        offset_ns = wall_offset_ns()
        if abs(offset_ns - self._settings.wall_ns) > STEP_NS:
            self._settings = replace(self._settings, wall_ns=offset_ns)
            self._settings_map.set(ZERO, self._settings.pack())

    def close(self) -> None:
        """Take what is left, and let go everything."""
        self._attachments.close()
        self.drain()
        self._completion.finish()
        self._order.put(*self._completion.take())
        self._order.give()
        count_losses(self._counters.added(), self._losses)
        self._close()

    def _sort_out(self, records: Records) -> None:
        """The kernel's drops go by themselves: they belong to no connection of ours."""
        dropped = (records["event_type"] == EventType.DROP) & (records["drop_reason"] != 0)
        if self._words is not None and dropped.any():
            told = records[dropped]
            self._order.put(told, self._words.annotate(told))
            records = records[~dropped]
        self._completion.records(records)
        self._order.put(*self._completion.take())

    def _trace_drops(self, datapath: Object, stack: ExitStack) -> tuple[str, drops.DropWords | None]:
        """Attach to the kernel's own drops; why not, where it does not let us."""
        try:
            names = kernel_enum("skb_drop_reason")
            traced = stack.enter_context(Object(image("drops"), "drops"))
            for name in SHARED:
                traced.share(name, datapath.map(name))
            traced.load()
            reasons = traced.map("reasons")
            for key, value in drops.reason_entries(names):
                reasons.set(key, value)
            link: Link = traced.attach("flowscope_drop")
        except DatapathError as error:
            return f"without what the kernel drops: {error}", None
        stack.callback(link.close)
        words = drops.DropWords(names)
        _ = words.symbols  # now: whoever gave up his rights is shown no addresses
        return "", words


def check_kernel() -> None:
    """DatapathError where the kernel is too old."""
    release = os.uname().release
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is not None and (int(found[1]), int(found[2])) < FIRST_KERNEL:
        raise DatapathError(f"Linux {release} is too old: {'.'.join(map(str, FIRST_KERNEL))} or newer is needed")


def wall_offset_ns() -> int:
    """What is to be added to the kernel's monotonic time to get wall time."""
    readings = []
    for _ in range(SAMPLES):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        readings.append((after - before, wall - (before + after) // 2))
    return min(readings)[1]
