"""Records and extras to serialized flow.Flow, in batches: written by hand, because objects cost ten times as much.

What flows share is encoded once and kept: the story (both endpoints, verdict, event, policies, node), the addresses,
the request. Per flow remain time, UUID, ports, latency and counters. Field order on the wire is free in protobuf and
not that of the .proto here. The same bytes make the materialised flow, so that filters judge what clients will see.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from google.protobuf.any_pb2 import Any
from google.protobuf.timestamp_pb2 import Timestamp

from observer.api import flow_pb2, observer_pb2
from observer.extra import Extra
from observer.record import RECORD_SIZE, Flags, Present, Records
from observer.wire import parts, summary
from observer.wire.layer7 import Layer7Encoder
from observer.wire.parts import FLOW
from observer.wire.protobuf import (
    Cache,
    delimited,
    encode_varint,
    keep,
    low_14,
    number,
    string,
    strings,
    struct_entry,
    tag,
    varints,
)
from observer.wire.story import FlowSource, Key, Story, tell

# One record cut into what the encoder treats alike; the fields of record.RECORD in order.
_ROW: Final = struct.Struct("<5Q8x3I24s5I44s8H16s4s16s304s")
assert _ROW.size == RECORD_SIZE

_TIME: Final = FLOW["time"]
_UUID: Final = FLOW["uuid"]
_L4: Final = FLOW["l4"]
_L7: Final = FLOW["l7"]
_SUMMARY: Final = FLOW["Summary"]
_EXTENSIONS: Final = FLOW["extensions"]
_INTERFACE_INDEX: Final = tag(flow_pb2.NetworkInterface, "index")
_SECONDS: Final = tag(Timestamp, "seconds")
_NANOS: Final = tag(Timestamp, "nanos")

_RESPONSE_FLOW: Final = tag(observer_pb2.GetFlowsResponse, "flow")
_RESPONSE_NODE: Final = tag(observer_pb2.GetFlowsResponse, "node_name")
_RESPONSE_TIME: Final = tag(observer_pb2.GetFlowsResponse, "time")

_STRUCT_URL: Final = string(tag(Any, "type_url"), "type.googleapis.com/google.protobuf.Struct") + tag(Any, "value")
_BYTES_ENTRY: Final = struct_entry("bytes", 0)[:-8]
_PACKETS_ENTRY: Final = struct_entry("packets", 0)[:-8]
_COUNTERS: Final = struct.Struct(f"<{len(_BYTES_ENTRY)}sd{len(_PACKETS_ENTRY)}sd")
_COUNTERS_ONLY: Final = _STRUCT_URL + encode_varint(_COUNTERS.size)
_COUNTERS_HEAD: Final = _EXTENSIONS + encode_varint(len(_COUNTERS_ONLY) + _COUNTERS.size) + _COUNTERS_ONLY

# Members of IntFlag and IntEnum cost a microsecond in every `&` and `==`; hot paths take plain integers.
_MAC: Final = Present.MAC.value
_TCP_FLAGS: Final = Present.TCP_FLAGS.value
_PRESENT_COUNTERS: Final = Present.COUNTERS.value
_VLAN: Final = Present.VLAN.value
_PROCESS: Final = Present.PROCESS.value
_L7_INCOMPLETE: Final = Flags.L7_INCOMPLETE.value
_IMPORTED: Final = Flags.IMPORTED.value
_REPLY_OR_ICMP: Final = Present.IS_REPLY.value | Present.ICMP.value
_VLAN_OR_PROCESS: Final = _VLAN | _PROCESS


def _plain(values: Iterable[int]) -> Iterable[int]:
    """Numpy's integers cost ten times a Python one."""
    return values.tolist() if isinstance(values, np.ndarray) else values


def _tcp_summary(flags: int) -> bytes:
    return delimited(_SUMMARY, summary.tcp(flags).encode())


_seconds: Final[Cache[int]] = Cache(lambda second: number(_SECONDS, second))


def timestamp(time_ns: int) -> bytes:
    """A google.protobuf.Timestamp."""
    second, nanos = divmod(time_ns, 1_000_000_000)
    if nanos >> 14:
        return _seconds[second] + _NANOS + low_14[nanos & 0x3FFF] + varints[nanos >> 14]
    return _seconds[second] + (_NANOS + varints[nanos] if nanos else b"")


class FlowEncoder:
    """Encodes the flows of one store. Threads may share one: what it keeps is only ever put in and looked up whole."""

    def __init__(self, source: FlowSource) -> None:
        self._source = source
        self._stories: dict[Key, Story] = {}
        self._addresses: dict[tuple[bytes, int, int], bytes] = {}
        self._layer7 = Layer7Encoder()
        self._tcp_summaries = Cache(_tcp_summary)
        self._processes: Cache[tuple[int, bytes]] = Cache(
            lambda key: struct_entry("process", {"pid": key[0], "comm": key[1]})
        )
        self._vlans: Cache[int] = Cache(lambda vlan: struct_entry("vlan", vlan))

    def encode_many(
        self, records: Records, extras: Sequence[Extra | None], sequences: Sequence[int], nodes: Sequence[int]
    ) -> list[bytes]:
        """Serialized flow.Flow of each record; the four sequences run in parallel (arrays of integers welcome)."""
        return list(self._flows(records.tobytes(), extras, sequences, nodes))

    def responses(
        self, records: Records, extras: Sequence[Extra | None], sequences: Sequence[int], nodes: Sequence[int]
    ) -> list[bytes]:
        """Serialized observer.GetFlowsResponse of each record: what GetFlows sends."""
        names = [delimited(_RESPONSE_NODE, name.encode()) if name else b"" for name in self._source.nodes]
        out = []
        flows = self._flows(records.tobytes(), extras, sequences, nodes)
        for flow, node, time_ns in zip(flows, _plain(nodes), records["time_ns"].tolist(), strict=True):
            time = timestamp(time_ns)
            out.append(
                b"".join(
                    (_RESPONSE_FLOW, varints[len(flow)], flow, names[node], _RESPONSE_TIME, varints[len(time)], time)
                )
            )
        return out

    def encode(self, record: Records | np.void, extra: Extra | None, sequence: int, node: int = 0) -> bytes:
        """Serialized flow.Flow of one record (an array of one, or a row of an array)."""
        return next(self._flows(record.tobytes(), (extra,), (sequence,), (node,)))

    def flow(self, record: Records | np.void, extra: Extra | None, sequence: int, node: int = 0) -> flow_pb2.Flow:
        """The one and only materialiser: flow.Flow of one record."""
        return flow_pb2.Flow.FromString(self.encode(record, extra, sequence, node))

    def response(self, flow: bytes, node: str, time_ns: int) -> bytes:
        """Serialized observer.GetFlowsResponse around a serialized flow.Flow."""
        return (
            delimited(_RESPONSE_FLOW, flow)
            + string(_RESPONSE_NODE, node)
            + delimited(_RESPONSE_TIME, timestamp(time_ns))
        )

    def _flows(
        self, raw: bytes, extras: Sequence[Extra | None], sequences: Sequence[int], nodes: Sequence[int]
    ) -> Iterator[bytes]:
        """Encode record by record; everything that is looked up more than once is a local."""
        stories, addresses_of, uuid = self._stories, self._addresses, self._source.uuid
        source_ports, destination_ports, flag_fields = parts.source_ports, parts.destination_ports, parts.tcp_flags
        tcp_summaries, layer7 = self._tcp_summaries, self._layer7.encode
        for row, extra, sequence, node in zip(
            _ROW.iter_unpack(raw), extras, _plain(sequences), _plain(nodes), strict=True
        ):
            (
                time_ns,
                latency_ns,
                n_bytes,
                cookie,
                cgroup_id,
                packets,
                pid,
                ifindex,
                ends,
                l7_id,
                present,
                flags,
                drop_reason,
                tunnel_id,
                addresses,
                source_port,
                destination_port,
                vlan,
                tcp_flags,
                drop_reason_desc,
                l7_code,
                l7_version,
                l7_method,
                tail,
                lengths,
                comm,
                text,
            ) = row
            if flags & _IMPORTED and extra is not None:
                yield extra.imported
                continue

            key = (ends, tail, drop_reason_desc, present & _REPLY_OR_ICMP, node)
            story = stories.get(key)
            if story is None:
                story = tell(self._source, key)
                keep(stories, key, story)
            fields, source_names, destination_names, heads, l4, summary_field, is_tcp, family = story

            address_key = (addresses, family, present & _MAC)
            address_fields = addresses_of.get(address_key)
            if address_fields is None:
                address_fields = self._make_addresses(address_key)

            if heads:
                ports = source_ports[source_port] + destination_ports[destination_port]
                if is_tcp and present & _TCP_FLAGS:
                    ports += flag_fields[tcp_flags]
                    summary_field = tcp_summaries[tcp_flags]
                l4 = heads[len(ports)] + ports

            time = timestamp(time_ns)
            name = uuid(sequence).encode()
            rare = entries = extension = l7_field = b""
            if tail[8]:  # l7_kind
                l7, line, entries = layer7(
                    tail, present, l7_code, l7_version, l7_method, l7_id, latency_ns, lengths, text, extra
                )
                l7_field = _L7 + varints[len(l7)] + l7
                summary_field = _SUMMARY + varints[len(line)] + line if line else b""
            if extra is not None:
                if extra.source_names:
                    source_names = strings(FLOW["source_names"], extra.source_names)
                if extra.destination_names:
                    destination_names = strings(FLOW["destination_names"], extra.destination_names)
                if extra.trace_id:
                    rare += delimited(FLOW["trace_context"], parts.trace_context(extra.trace_id))
                if extra.tunnel is not None:
                    rare += delimited(FLOW["tunnel"], parts.tunnel(extra.tunnel))
                if extra.extension:
                    entries += b"".join([struct_entry(*entry) for entry in extra.extension.items()])
            if cookie or cgroup_id or ifindex or drop_reason or tail[15]:
                rare += number(FLOW["socket_cookie"], cookie) + number(FLOW["cgroup_id"], cgroup_id)
                if ifindex:
                    rare += delimited(FLOW["interface"], number(_INTERFACE_INDEX, ifindex))
                if tail[15] and (extra is None or extra.tunnel is None):
                    rare += delimited(FLOW["tunnel"], parts.tunnel_without_headers(tail[15], tunnel_id))
                if drop_reason:
                    entries += struct_entry("kernel_drop_reason", drop_reason)
            if present & _VLAN_OR_PROCESS:
                if present & _VLAN:
                    entries += self._vlans[vlan]
                if present & _PROCESS:
                    entries += self._processes[pid, comm.rstrip(b"\0")]
            if flags & _L7_INCOMPLETE:
                entries += struct_entry("l7_incomplete", True)
            if present & _PRESENT_COUNTERS:
                counters = _COUNTERS.pack(_BYTES_ENTRY, n_bytes, _PACKETS_ENTRY, packets)
                if entries:
                    entries += counters
                else:
                    extension = _COUNTERS_HEAD + counters
            if entries:
                any_struct = _STRUCT_URL + varints[len(entries)] + entries
                extension = _EXTENSIONS + varints[len(any_struct)] + any_struct
            yield b"".join(
                (
                    _TIME,
                    varints[len(time)],
                    time,
                    _UUID,
                    varints[len(name)],
                    name,
                    fields,
                    address_fields,
                    l4,
                    l7_field,
                    summary_field,
                    source_names,
                    destination_names,
                    rare,
                    extension,
                )
            )

    def _make_addresses(self, key: tuple[bytes, int, int]) -> bytes:
        """The fields Flow.ethernet and Flow.IP."""
        addresses, family, has_mac = key
        fields = b""
        if has_mac:
            fields = delimited(FLOW["ethernet"], parts.ethernet(addresses[32:38], addresses[38:44]))
        if family:
            fields += delimited(FLOW["IP"], parts.ip(family, addresses[:16], addresses[16:32]))
        keep(self._addresses, key, fields)
        return fields
