"""The same frames through the kernel's datapath and through the Python pipeline, and by what flows are compared."""

from collections import Counter

from observer.datapath.replay import Replay
from observer.decode import Decoder
from observer.identity.endpoints import EndpointTable, IpCache
from observer.losses import Losses
from observer.pipeline import Pipeline
from observer.record import Flags, unpack_text
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
    position = window.start % window.store.capacity
    return window.store._records[position : position + window.length]


def in_python(batches: list[Frames], **rest) -> Store:
    endpoints, policy, mode = rest.get("endpoints"), rest.get("policy"), rest.get("mode", PolicyMode.ENFORCE)
    cache = IpCache(EndpointTable()) if endpoints is None else endpoints
    store = Store(endpoints=cache.table, losses=Losses())
    pipeline = Pipeline(store=store, endpoints=cache, policy=policy, mode=mode)
    decoder = Decoder(pipeline.losses)
    for frames in batches:
        pipeline.packets(decoder.decode(frames))
    decoder.finish()
    pipeline.finish()
    return store


def in_kernel(batches: list[Frames], **rest) -> Store:
    endpoints, policy, mode = rest.get("endpoints"), rest.get("policy"), rest.get("mode", PolicyMode.ENFORCE)
    cache = IpCache(EndpointTable()) if endpoints is None else endpoints
    store = Store(endpoints=cache.table, losses=Losses())
    with Replay(store=store, endpoints=cache, policy=policy, mode=mode) as replay:
        for frames in batches:
            replay.frames(frames)
        replay.finish()
    return store


def differences(one: list[tuple], other: list[tuple]) -> tuple[list[tuple], list[tuple]]:
    """What either has alone, counted."""
    first, second = Counter(one), Counter(other)
    return list((first - second).elements()), list((second - first).elements())
