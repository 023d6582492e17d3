"""A capture through the kernel's own programs, frame by frame, without an interface (BPF_PROG_TEST_RUN).

`Frames` enter; records leave for a store, in the form in which the Python pipeline makes them. What the program does
not read (other link types, tunnels, fragments) goes to that pipeline. Needs the rights to load programs, and nothing
else of the node.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Final, Self

import numpy as np

from observer.datapath.complete import Completion
from observer.datapath.libbpf import Object, Runner
from observer.datapath.losses import count_losses
from observer.datapath.maps import ZERO, Settings, addresses
from observer.datapath.objects import image
from observer.datapath.ring import Counters, ItemRing, RecordRing
from observer.decode import Decoder
from observer.identity.endpoints import IpCache
from observer.losses import Losses
from observer.policy.engine import Engine
from observer.record import TcpFlag
from observer.sources.frames import Frames
from observer.sources.pace import paced
from observer.sources.pcap import open_capture
from observer.store import Store
from observer.tag import PolicyMode

PROGRAM: Final = "flowscope_in"
ELSEWHERE: Final = 100
"""What the program returns for a frame that it does not read: REPLAY_ELSEWHERE."""

FRAME_LIMIT: Final = 3_400
"""The longest frame that BPF_PROG_TEST_RUN takes; longer ones, made by the card's offloads, are split."""
PART_SIZE: Final = 2_800
"""Octets of payload of each part."""

ETHERNET: Final = 1
ETHERNET_SIZE: Final = 14
TAGS: Final = (0x8100, 0x88A8, 0x9100, 0x9200)
IPV4: Final = 0x0800
IPV6: Final = 0x86DD
TCP: Final = 6

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
        self._object.only(PROGRAM)
        self._object.load()
        settings = Settings(enforce=mode is PolicyMode.ENFORCE, replay=True)
        self._object.map("settings").set(ZERO, settings.pack())
        ipcache = self._object.map("ipcache")
        for key, value in addresses(endpoints):
            ipcache.set(key, value)
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
            pending=self._object.map("pending_requests"),
            words=self._object.map("let_go"),
        )
        self._time_ns = 0

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
        elsewhere = []
        columns = zip(
            frames.offsets.tolist(),
            frames.lengths.tolist(),
            frames.wire_lengths.tolist(),
            frames.times_ns.tolist(),
            frames.link_types.tolist(),
            strict=True,
        )
        for row, (offset, length, wire, time_ns, link_type) in enumerate(columns):
            if link_type != ETHERNET or length < ETHERNET_SIZE:
                elsewhere.append(row)
                continue
            if length <= FRAME_LIMIT:
                taken = self._run(base + offset, length, time_ns)
            else:
                taken = self._run_parts(bytes(octets[offset : offset + length]), wire, time_ns)
            if not taken:
                elsewhere.append(row)
            if self._snapshots.waiting:
                self._drain()
            elif not row % DRAIN_FRAMES:
                self._drain_records()
        self._drain()
        if elsewhere:
            rows = replace(frames, **{name: getattr(frames, name)[elsewhere] for name in _COLUMNS})
            self._completion.packets(self._decoder.decode(rows))
        if len(frames):
            self._time_ns = max(self._time_ns, int(frames.times_ns[-1]))
            self._completion.advance(self._time_ns)
        self._append()

    def finish(self) -> None:
        """End every connection: the capture is over."""
        self._decoder.finish()
        self._completion.finish()
        self._append()
        count_losses(self._counters.added(), self.losses)

    def _run(self, address: int, length: int, time_ns: int, ip_length: int = 0, is_part: int = 0) -> bool:
        """Run one frame; whether the program has read it."""
        context = self._runner.ctx
        assert context is not None
        _TSTAMP.pack_into(context, _TSTAMP_OFFSET, time_ns)
        _CB.pack_into(context, _CB_OFFSET, ip_length, is_part)
        return self._runner.run(address, length) != ELSEWHERE

    def _run_parts(self, frame: bytes, wire: int, time_ns: int) -> bool:
        """Run a long frame: a TCP segment as several, of which the last one counts; of any other the beginning."""
        parts = split(frame, wire)
        if parts is None:
            parts = [frame[:FRAME_LIMIT]]
        taken = False
        ip_length = 0 if len(parts) == 1 else ip_length_of(frame, wire)
        for number, part in enumerate(parts):
            kept = np.frombuffer(part, np.uint8)
            taken = self._run(kept.ctypes.data, len(part), time_ns, ip_length, number < len(parts) - 1)
            if not taken:
                break
        return taken

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


class _Headers:
    """Where the headers of a TCP segment in an Ethernet frame are; `whole` if it is one that can be split."""

    def __init__(self, frame: bytes, wire: int) -> None:
        self.whole = False
        at, kind = ETHERNET_SIZE, int.from_bytes(frame[12:14], "big")
        while kind in TAGS and at + 4 <= len(frame):
            kind = int.from_bytes(frame[at + 2 : at + 4], "big")
            at += 4
        self.ip = at
        self.is_ipv6 = kind == IPV6
        if kind == IPV4 and len(frame) >= at + 20:
            self.tcp, protocol = at + (frame[at] & 15) * 4, frame[at + 9]
            self.length = int.from_bytes(frame[at + 2 : at + 4], "big") or wire - at
            if int.from_bytes(frame[at + 6 : at + 8], "big") & 0x3FFF:
                return
        elif kind == IPV6 and len(frame) >= at + 40:
            self.tcp, protocol = at + 40, frame[at + 6]
            self.length = int.from_bytes(frame[at + 4 : at + 6], "big") + 40
            if self.length == 40:
                self.length = wire - at
        else:
            return
        if protocol != TCP or len(frame) < self.tcp + 20:
            return
        self.payload = self.tcp + (frame[self.tcp + 12] >> 4) * 4
        self.end = min(len(frame), at + self.length)
        self.missing = at + self.length - self.end
        self.whole = self.payload < self.end and not frame[self.tcp + 13] & TcpFlag.SYN


def ip_length_of(frame: bytes, wire: int) -> int:
    """The IP packet's length on the wire."""
    return _Headers(frame, wire).length


def split(frame: bytes, wire: int) -> list[bytes] | None:
    """The same TCP segment as several frames, each short enough; None if it is none, or carries a SYN.

    FIN, and what the snap length has cut off, stand behind the last octet, and so in the last frame.
    """
    headers = _Headers(frame, wire)
    if not headers.whole:
        return None
    sequence = int.from_bytes(frame[headers.tcp + 4 : headers.tcp + 8], "big")
    parts = []
    for start in range(headers.payload, headers.end, PART_SIZE):
        stop = min(start + PART_SIZE, headers.end)
        is_last = stop == headers.end
        part = bytearray(frame[: headers.payload] + frame[start:stop])
        moved = sequence + start - headers.payload & 0xFFFFFFFF
        part[headers.tcp + 4 : headers.tcp + 8] = moved.to_bytes(4, "big")
        if not is_last:
            part[headers.tcp + 13] &= ~TcpFlag.FIN & 0xFF
        length = headers.payload - headers.ip + stop - start + (headers.missing if is_last else 0)
        at = headers.ip + (4 if headers.is_ipv6 else 2)
        part[at : at + 2] = min(length - 40 * headers.is_ipv6, 0xFFFF).to_bytes(2, "big")
        parts.append(bytes(part))
    return parts
