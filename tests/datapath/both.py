"""The same frames through the kernel's datapath and through the Python pipeline, and by what flows are compared."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from observer.datapath.replay import Replay
from observer.decode import Decoder
from observer.identity.file import Identities, load_identities
from observer.losses import Losses
from observer.pipeline import Pipeline
from observer.policy.engine import Engine
from observer.policy.load import load_policies
from observer.record import Flags, L7Kind, unpack_text
from observer.sources.frames import Frames
from observer.store import Store
from observer.tag import PolicyMode

COLUMNS = (
    "time_ns", "latency_ns", "bytes", "packets", "source_endpoint", "destination_endpoint", "source_identity",
    "destination_identity", "l7_id", "present", "vlan", "tcp_flags", "source_port", "destination_port",
    "drop_reason_desc", "l7_code", "l7_version", "l7_method", "family", "protocol", "type", "event_type", "sub_type",
    "verdict", "direction", "is_reply", "l7_kind", "l7_type", "grpc_status", "trace_reason", "icmp_type", "icmp_code",
    "policy_match", "egress_rule", "ingress_rule",
)  # fmt: skip
OCTETS = ("source_ip", "destination_ip", "source_mac", "destination_mac")
HAS_EXTRA = int(Flags.EXTRA)


def flow(record) -> tuple:
    """What of a record both have to agree on; the connection's number is each one's own."""
    values = tuple(record[name].item() for name in COLUMNS)
    flags = int(record["flags"]) & ~HAS_EXTRA  # the kernel makes no extras
    return (*values, *(record[name].tobytes() for name in OCTETS), flags, unpack_text(record))


def named(row: tuple) -> dict:
    """A flow by column, for messages."""
    return dict(zip((*COLUMNS, *OCTETS, "flags", "texts"), row, strict=True))


def stored(store: Store) -> list[tuple]:
    """The flows of a store, in order."""
    return [flow(record) for window in store.columns(store.first, store.next) for record in records_of(window)]


def records_of(window):
    return window.store.take(np.arange(window.start, window.start + window.length))[0]


class World(NamedTuple):
    """Who is where, and what is allowed; each run loads its own, and numbers agree."""

    identities: Path | None = None
    policy: Path | None = None
    mode: PolicyMode = PolicyMode.ENFORCE

    def load(self) -> tuple[Store, dict]:
        known = Identities() if self.identities is None else load_identities(self.identities)
        cache = known.ipcache()
        store = Store(endpoints=cache.table, losses=Losses())
        engine = None
        if self.policy is not None:
            engine = Engine(load_policies([self.policy]), store.endpoints, store.policies, known.namespaces)
        return store, {"store": store, "endpoints": cache, "policy": engine, "mode": self.mode}


NOWHERE = World()
APART_NS = 10**13
"""Between two runs: more than any timeout."""


def in_python(batches: Sequence[Frames], world: World = NOWHERE) -> Store:
    store, rest = world.load()
    pipeline = Pipeline(**rest)
    decoder = Decoder(pipeline.losses)
    for frames in batches:
        pipeline.packets(decoder.decode(frames))
    decoder.finish()
    pipeline.finish()
    return store


def in_kernel(batches: Sequence[Frames], world: World = NOWHERE) -> Store:
    store, rest = world.load()
    with Replay(**rest) as replay:
        for frames in batches:
            replay.frames(frames)
        replay.finish()
    return store


class Kernel:
    """A datapath that is loaded once and takes one capture after the other, each later than the one before.

    Tables keep what was there: whoever asks gives its connections addresses of their own.
    """

    def __init__(self) -> None:
        self.store, rest = NOWHERE.load()
        self.replay = Replay(**rest)
        self._latest_ns = 0

    def later(self, frames: Frames) -> Frames:
        """The same frames, after all that were run."""
        if not len(frames.times_ns):
            return frames
        # Each test has times of its own, some of them later than those of others.
        shift = max(0, self._latest_ns + APART_NS - int(frames.times_ns.min()))
        self._latest_ns = int(frames.times_ns.max()) + shift
        return replace(frames, times_ns=frames.times_ns + shift)

    def run(self, frames: Frames) -> list[tuple]:
        self.store.forget()
        self.replay.frames(frames)
        self.replay.finish()
        return stored(self.store)

    def assert_same(self, frames: Frames) -> list[tuple]:
        """Both make the same flows of these frames; those of the kernel."""
        frames = self.later(frames)
        kernel = self.run(frames)
        missing, added = differences(stored(in_python([frames])), kernel)
        lacking, surplus = [named(row) for row in missing[:3]], [named(row) for row in added[:3]]
        assert (lacking, surplus) == ([], []), f"the kernel lacks {lacking} and has {surplus}"
        return kernel


def by_kernel(store: Store, kind: L7Kind) -> int:
    """How many requests and responses of a protocol the kernel has told by itself: user space adds extras."""
    flows = [record for window in store.columns(store.first, store.next) for record in records_of(window)]
    return sum(
        record["l7_kind"] == kind and record["connection"] >> 40 and not record["flags"] & HAS_EXTRA for record in flows
    )


def differences(one: list[tuple], other: list[tuple]) -> tuple[list[tuple], list[tuple]]:
    """What either has alone, counted."""
    first, second = Counter(one), Counter(other)
    return list((first - second).elements()), list((second - first).elements())
