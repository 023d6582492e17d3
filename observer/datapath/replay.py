"""A capture through the kernel's own programs, frame by frame, without an interface (BPF_PROG_TEST_RUN).

`Frames` enter; records leave for a store, in the form in which the Python pipeline makes them. What the program does
not read (other link types, tunnels, fragments) goes to that pipeline. Needs the rights to load programs, and nothing
else of the node.
"""

from __future__ import annotations

import enum
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Final, Self

import numpy as np

from observer.datapath.complete import Completion
from observer.datapath.fill import fill
from observer.datapath.handed import lengthened
from observer.datapath.http2_state import Maps
from observer.datapath.libbpf import Object, Runner
from observer.datapath.losses import count_losses
from observer.datapath.maps import Settings
from observer.datapath.objects import PROGRAM, image
from observer.datapath.pending import PendingRequests
from observer.datapath.rebuilt import FRAME_LIMIT, Segment, ethernet, split
from observer.datapath.ring import Counters, ItemRing, RecordRing
from observer.decode import Decoder, Packets
from observer.identity.endpoints import IpCache
from observer.losses import Losses
from observer.policy.engine import Engine
from observer.sources.frames import Frames
from observer.sources.pace import paced
from observer.sources.pcap import open_capture
from observer.store import Store
from observer.tag import PolicyMode

ELSEWHERE: Final = 100
"""What the program returns for a frame that it does not read: REPLAY_ELSEWHERE."""
TUNNEL: Final = 101
"""The same for one that a tunnel's packet may be in: REPLAY_TUNNEL."""


class Frame(enum.IntFlag):
    """What the program is told of a frame, in skb->cb[1]: bpf/packet.h."""

    PART = 1  # more of the same packet follows, which is counted and told then
    NO_MAC = 2  # the addresses are made up
    PLAIN = 4  # no tunnel, whatever its port


ETHERNET: Final = 1
SHORTEST: Final = 54
"""Ethernet's header and IPv6's: the kernel refuses frames that end within the header that their ethertype announces."""

DRAIN_FRAMES: Final = 512
"""Frames between two looks at the ring of records, which holds those of as many at the very least."""
TAKE_LIMIT: Final = 1 << 16
"""Records taken from the ring at once."""

# struct __sk_buff
_CONTEXT_SIZE: Final = 192
_CB: Final = struct.Struct("=II")
_CB_OFFSET: Final = 48
_TSTAMP: Final = struct.Struct("=Q")
_TSTAMP_OFFSET: Final = 152

_COLUMNS: Final = tuple(column.name for column in fields(Frames) if column.name != "data")
_PACKET_COLUMNS: Final = tuple(column.name for column in fields(Packets) if column.name not in ("data", "tunnel"))


class Replay:
    """The datapath over captured frames, into a store; a context manager, used by one thread."""

    def __init__(
        self,
        *,
        store: Store,
        endpoints: IpCache,
        policy: Engine | None = None,
        mode: PolicyMode = PolicyMode.ENFORCE,
        losses: Losses | None = None,
        node: str = "",
    ) -> None:
        """DatapathError where programs cannot be loaded."""
        self.losses = store.losses if losses is None else losses
        self._store = store
        if node not in store.nodes:
            store.nodes.append(node)
        self._node = store.nodes.index(node)
        self._object = Object(image("datapath"), "datapath")
        self._object.load()
        fill(self._object, endpoints, policy, Settings(enforce=mode is PolicyMode.ENFORCE, replay=True))
        self._runner = Runner(self._object.program(PROGRAM), ctx=bytes(_CONTEXT_SIZE))
        self._events = RecordRing(self._object.map("events"))
        self._snapshots = ItemRing(self._object.map("snapshots"))
        self._counters = Counters(self._object.map("counters"))
        self._decoder = Decoder(self.losses)
        self._completion = Completion(
            endpoints=endpoints,
            policy=policy,
            mode=mode,
            losses=self.losses,
            pending=PendingRequests(self._object.map("pending_requests"), self._object.map("counters")),
            words=self._object.map("let_go"),
            http2=Maps(self._object.map("hpack_tables"), self._object.map("hpack_texts")),
        )
        self._time_ns = 0  # of the packets that were read, the latest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of programs and maps."""
        self._object.close()

    def frames(self, frames: Frames) -> None:
        """Run the next frames and append the flows that they make."""
        octets = np.frombuffer(frames.data, np.uint8)
        base = octets.ctypes.data
        others: list[int] = []
        tunnels: list[int] = []
        columns = zip(
            frames.offsets.tolist(),
            frames.lengths.tolist(),
            frames.wire_lengths.tolist(),
            frames.times_ns.tolist(),
            frames.link_types.tolist(),
            strict=True,
        )
        for row, (offset, length, wire, time_ns, link_type) in enumerate(columns):
            if link_type != ETHERNET or length < SHORTEST:
                others.append(row)
                continue
            if others:
                self._decode(frames, others)
                others = []
            if length <= FRAME_LIMIT:
                result = self._run(base + offset, length, time_ns)
            else:
                result = self._run_long(bytes(octets[offset : offset + length]), wire, time_ns)
            if result == TUNNEL:
                tunnels.append(row)  # nothing that the kernel reads belongs to what is inside
            elif result == ELSEWHERE:
                self._decode(frames, [row])
            if self._snapshots.waiting:
                self._drain()
            elif not row % DRAIN_FRAMES:
                self._drain_records()
        if others:
            self._decode(frames, others)
        if tunnels:
            self._decode(frames, tunnels)
        self._drain()
        self._completion.advance(self._time_ns)
        self._append()

    def finish(self) -> None:
        """End every connection: the capture is over."""
        self._decoder.finish()
        self._completion.finish()
        self._append()
        count_losses(self._counters.added(), self.losses)

    def _run(self, address: int, length: int, time_ns: int, ip_length: int = 0, what: int = 0) -> int:
        """Run one frame; what the program says of it. `what` are bits of Frame."""
        context = self._runner.ctx
        assert context is not None
        _TSTAMP.pack_into(context, _TSTAMP_OFFSET, time_ns)
        _CB.pack_into(context, _CB_OFFSET, ip_length, what)
        result = self._runner.run(address, length)
        if result not in (ELSEWHERE, TUNNEL):
            self._time_ns = max(self._time_ns, time_ns)
        return result

    def _run_bytes(self, frame: bytes, time_ns: int, ip_length: int, what: int) -> int:
        return self._run(np.frombuffer(frame, np.uint8).ctypes.data, len(frame), time_ns, ip_length, what)

    def _run_long(self, frame: bytes, wire: int, time_ns: int, ip_length: int = 0, what: int = 0) -> int:
        """Run a long frame: a TCP segment as several, of which the last one counts; of any other the beginning."""
        segment = Segment(frame, wire)
        if not segment.whole:
            if not what & Frame.PLAIN:
                return ELSEWHERE  # behind extension headers, perhaps: the decoder knows
            result = self._run_bytes(frame[:FRAME_LIMIT], time_ns, ip_length, what)
            self._complete_datagram(frame)
            return result
        *parts, last = split(frame, segment)
        for part in parts:
            if (result := self._run_bytes(part, time_ns, 0, what | Frame.PART)) in (ELSEWHERE, TUNNEL):
                return result
        return self._run_bytes(last, time_ns, ip_length or segment.ip_length, what)

    def _decode(self, frames: Frames, rows: list[int]) -> None:
        """Run what the decoder makes of frames that the program does not take; what was in tunnels is read here."""
        some = replace(frames, **{name: getattr(frames, name)[rows] for name in _COLUMNS})
        packets = self._decoder.decode(some)
        inside = []
        for row in range(len(packets)):
            if packets.tunnel is not None and packets.tunnel[row] is not None:
                inside.append(row)
                continue
            frame = ethernet(packets, row)
            what = Frame.PLAIN if packets.has_mac[row] else Frame.PLAIN | Frame.NO_MAC
            time_ns, length = int(packets.time_ns[row]), int(packets.ip_length[row])
            if len(frame) <= FRAME_LIMIT:
                self._run_bytes(frame, time_ns, length, what)
            else:
                self._run_long(frame, len(frame) + int(packets.payload_missing[row]), time_ns, length, what)
            self._drain()
        if inside:
            self._completion.packets(_rows_of(packets, inside))

    def _complete_datagram(self, frame: bytes) -> None:
        """Put what was cut off a datagram behind the beginning of it that the program has snapped."""
        self._drain_records()
        items = self._snapshots.take(self._snapshots.waiting)
        self._completion.snapshots([lengthened(item, frame[FRAME_LIMIT:]) for item in items])

    def _drain(self) -> None:
        """Take what both rings hold: names learned here are for what comes later."""
        self._drain_records()
        while self._snapshots.waiting:
            self._completion.snapshots(self._snapshots.take(self._snapshots.waiting))

    def _drain_records(self) -> None:
        while self._events.waiting:
            self._completion.records(self._events.take(TAKE_LIMIT))

    def _append(self) -> None:
        records, extras = self._completion.take()
        if len(records):
            self._store.append(records, extras, self._node)


def replay_batches(
    path: str | Path,
    replay: Replay,
    *,
    realtime: bool = False,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> Iterator[None]:
    """Run a capture through the datapath, and hand over after each batch: as pipeline.replay_batches does."""
    stop = threading.Event() if stop is None else stop
    with open_capture(path, replay.losses) as capture:
        batches = capture.frames()
        for frames in paced(batches, stop) if realtime else batches:
            if stop.is_set():
                return
            replay.frames(frames)
            if progress is not None:
                progress(capture.position, capture.size)
            yield
    if not stop.is_set():
        replay.finish()
        yield


def _rows_of(packets: Packets, rows: list[int]) -> Packets:
    """Some of the packets."""
    columns = {name: getattr(packets, name)[rows] for name in _PACKET_COLUMNS}
    return replace(packets, tunnel=[packets.tunnel[row] for row in rows] if packets.tunnel else None, **columns)
