"""A capture as a source: the file runs through the pipeline in this process, no server is asked.

`get_flows` reads the file once a call and gives flows out as they are made, so a capture of any size needs little
memory. `subscribe` reads it once for all subscriptions, into a store large enough to filter again and again.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from observer.api import batch_pb2, observer_pb2
from observer.batch import BatchReader
from observer.client.annotated import write_annotated
from observer.client.source import Node, State, Status
from observer.client.subscription import BackgroundSubscription, running
from observer.decode import Decoder, Packets
from observer.errors import FlowscopeError
from observer.judging import Files, Judging, read_judging
from observer.losses import Losses
from observer.pipeline import Pipeline, replay_batches
from observer.query import Query
from observer.record import Records
from observer.service.answers import About, Answers
from observer.service.mask import FieldMask
from observer.sources.pcap import open_capture
from observer.store import DEFAULT_CAPACITY, Store
from observer.tag import PolicyMode
from observer.wire import FlowEncoder

KEPT: Final = 1 << 20
"""Flows of a capture that a subscription can filter again; memory is taken as they come."""
UNLIMITED: Final = 1 << 31
"""A number of flows from which on "the last N" is as good as all: --all says 2^64-1."""


MAX_PACKETS: Final = 4096
"""Packets of one connection that are read again."""
MAX_PACKET_BYTES: Final = 8 << 20
"""And bytes of them."""


class Packet(NamedTuple):
    """A packet of the capture, read again."""

    number: int
    """Of its frame, from 1."""
    time_ns: int
    data: bytes
    """The whole frame as captured."""
    payload: bytes
    forward: bool
    """It goes the way of the record that was asked about."""


def check_capture(path: Path) -> None:
    """Raise CaptureError now, not later, where a file is no capture; a pipe can be read only once and is let be."""
    if not (path.is_fifo() or path.is_char_device()):
        open_capture(path, Losses()).close()


def default_node_name() -> str:
    """The name of this machine."""
    return socket.gethostname()


@dataclass(frozen=True, slots=True)
class Judged:
    """A store and the pipeline that fills it with flows that have identity and verdict."""

    store: Store
    files: Files
    judging: Judging
    pipeline: Pipeline
    node_name: str
    policy_mode: str

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the files said that somebody should look at."""
        return self.judging.warnings

    @classmethod
    def load(
        cls,
        *,
        identities: Path | None = None,
        policies: Sequence[Path] = (),
        policy_mode: str = "enforce",
        capacity: int = DEFAULT_CAPACITY,
        node_name: str | None = None,
    ) -> Judged:
        """Read identities and policies; ConfigError or PolicyError where they are wrong."""
        store = Store(capacity)
        files = Files(identities, tuple(policies))
        judging = read_judging(files, store.endpoints, store.policies)
        node = default_node_name() if node_name is None else node_name
        if judging.cluster not in ("", "default"):
            node = f"{judging.cluster}/{node}"  # as Hubble names the nodes of other clusters
        pipeline = Pipeline(
            store=store,
            endpoints=judging.endpoints,
            policy=judging.policy,
            mode=PolicyMode(policy_mode),
            node=node,
        )
        return cls(store, files, judging, pipeline, node, policy_mode if policies else "")


class CaptureSource:
    """One capture file, and who and what it is judged by."""

    def __init__(
        self,
        path: Path,
        *,
        identities: Path | None = None,
        policies: Sequence[Path] = (),
        policy_mode: str = "enforce",
        datapath: str = "user",
        realtime: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """`datapath` "ebpf" lets the kernel's programs read the frames, where "user" has the pipeline do it."""
        self.name = path.name
        self._datapath = datapath
        self._path = path
        self._realtime = realtime
        self._progress = progress
        self._load = partial(Judged.load, identities=identities, policies=policies, policy_mode=policy_mode)
        self._judged = self._load()
        self.warnings: Sequence[str] = self._judged.warnings
        self._used = False
        self._answers = self._answers_of(self._judged)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._kept: Judged | None = None
        self._replaying: threading.Thread | None = None
        self._failure: FlowscopeError | None = None
        self._subscriptions: list[BackgroundSubscription] = []
        check_capture(path)

    def get_flows(self, request: observer_pb2.GetFlowsRequest) -> Iterator[observer_pb2.GetFlowsResponse]:
        """The flows that `request` selects; `follow` ends with the capture."""
        query = Query.from_request(request)
        return self._flows(query, FieldMask(request.field_mask.paths) if request.field_mask.paths else None)

    def _flows(self, query: Query, mask: FieldMask | None) -> Iterator[observer_pb2.GetFlowsResponse]:
        judged = self._load() if self._used else self._judged
        self._used, self._judged = True, judged
        self._answers = answers = self._answers_of(judged)
        number = 0 if query.number >= UNLIMITED else query.number
        oldest = query.first or query.since_ns is not None
        # What was read is let go as soon as it was given out: the number and its end are counted here.
        passing = replace(query, number=0, first=False, follow=False)
        last: deque[observer_pb2.GetFlowsResponse] | None = None
        if number and not oldest:
            last = deque(maxlen=number)
            passing = replace(passing, until_ns=None)  # Hubble goes back from the newest before it looks at `until`
        encoder = FlowEncoder(judged.store)
        given = 0
        for _ in self._batches(judged):
            ended = _later(judged.store, passing.until_ns)
            for serialized in answers.selected(passing, mask, encoder, self._stop.is_set):
                response = observer_pb2.GetFlowsResponse.FromString(serialized)
                if last is not None:
                    last.append(response)
                    continue
                yield response
                given += 1
                if number and given == number:
                    return
            judged.store.forget()
            if ended:
                return
        for response in last or ():
            if query.until_ns is not None and response.time.ToNanoseconds() > query.until_ns:
                return
            yield response

    def subscribe(self, store: Store, request: observer_pb2.GetFlowsRequest) -> BackgroundSubscription:
        """Append what `request` selects to `store`; the first call starts reading the file."""
        query = replace(Query.from_request(request), follow=True)
        with self._lock:
            if self._kept is None:
                self._kept = self._load(capacity=KEPT)
                self._answers = self._answers_of(self._kept)
                self._replaying = threading.Thread(target=self._replay, args=(self._kept,), name="replay", daemon=True)
                self._replaying.start()
        kept = self._kept

        def feed(subscription: BackgroundSubscription) -> None:
            reader = BatchReader(store.endpoints, store.policies)
            subscription.state = State.LOADING
            for serialized in Answers(kept.store, About()).selected_batches(query, lambda: subscription.cancelled):
                batch = reader.from_batch(batch_pb2.BatchResponse.FromString(serialized))
                subscription.take(batch, reader.node_names)
            if self._failure is not None:
                raise self._failure

        subscription = BackgroundSubscription(store, feed, name=self.name)
        self._subscriptions = [*running(self._subscriptions), subscription]
        return subscription

    def packets(self, record: Any, *, around_ns: int | None = None, limit: int = MAX_PACKETS) -> list[Packet]:
        """Read the packets of a record's connection again, both ways, the first `limit` of them.

        With `around_ns`, only those of that very time, the way of the record first; none where a capture came by a
        pipe. Reads the file from its start: as slow as it is long.
        """
        if self._path.is_fifo() or self._path.is_char_device():
            return []
        found: list[Packet] = []
        size = 0
        decoder = Decoder(Losses())
        with open_capture(self._path, Losses()) as capture:
            for frames in capture.frames():
                if self._stop.is_set():
                    break
                packets = decoder.decode(frames)
                wanted = _of_connection(packets, record)
                if around_ns is not None:
                    wanted &= packets.time_ns == around_ns
                forward = packets.source_port == record["source_port"]
                forward &= (packets.source_ip == record["source_ip"]).all(axis=1)
                for row in np.flatnonzero(wanted).tolist():
                    frame = int(packets.frame[row]) - int(frames.numbers[0])
                    start = int(frames.offsets[frame])
                    data = bytes(frames.data[start : start + int(frames.lengths[frame])])
                    size += len(data)
                    if size > MAX_PACKET_BYTES or (around_ns is None and len(found) == limit):
                        return found
                    found.append(
                        Packet(frame + int(frames.numbers[0]), int(packets.time_ns[row]), data, packets.payload(row),
                               bool(forward[row]))
                    )  # fmt: skip
        if around_ns is not None:
            found.sort(key=lambda packet: (not packet.forward, not packet.payload))
        return found[:limit]

    def write_packets(
        self, out: BinaryIO, records: Records, comments: Sequence[str], *, stop: Callable[[], bool] = lambda: False
    ) -> int:
        """Write the packets of the records' connections as pcapng, those that made a record with its comment."""
        if self._path.is_fifo() or self._path.is_char_device():
            raise FlowscopeError(f"{self._path} came by a pipe and cannot be read again; save it to a file first")
        return write_annotated(self._path, out, records, comments, stop=lambda: stop() or self._stop.is_set())

    def status(self) -> Status:
        """What was read so far, and what of it could not be."""
        return Status.from_batch(self._answers.status())

    def nodes(self) -> Sequence[Node]:
        """The one whose capture it is."""
        return [Node.from_status(self.status(), address=self.name)]

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        for subscription in self._subscriptions:
            subscription.cancel()
        if self._replaying is not None:
            self._replaying.join()

    def _batches(self, judged: Judged, *, realtime: bool = False) -> Iterator[None]:
        """Read the file into the store, and hand over after each batch."""
        if self._datapath == "user":
            yield from replay_batches(
                self._path, judged.pipeline, realtime=realtime, progress=self._progress, stop=self._stop
            )
            return
        from observer.datapath.replay import Replay  # nobody else needs libbpf
        from observer.datapath.replay import replay_batches as kernel_batches

        with Replay(
            store=judged.store,
            endpoints=judged.judging.endpoints,
            policy=judged.judging.policy,
            mode=PolicyMode(judged.policy_mode or "enforce"),
            node=judged.node_name,
        ) as datapath:
            yield from kernel_batches(self._path, datapath, realtime=realtime, progress=self._progress, stop=self._stop)

    def _replay(self, kept: Judged) -> None:
        try:
            for _ in self._batches(kept, realtime=self._realtime):
                pass
        except FlowscopeError as error:
            self._failure = error
        finally:
            kept.store.close()

    def _answers_of(self, judged: Judged) -> Answers:
        return Answers(judged.store, About(node_name=judged.node_name, tier="pcap", policy_mode=judged.policy_mode))


def _of_connection(packets: Packets, record: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which packets have the record's addresses, ports and protocol, either way."""
    one = (record["source_ip"], record["source_port"])
    other = (record["destination_ip"], record["destination_port"])

    def goes(source: tuple[Any, Any], destination: tuple[Any, Any]) -> Any:
        rows = (packets.source_port == source[1]) & (packets.destination_port == destination[1])
        rows &= (packets.source_ip == source[0]).all(axis=1)
        return rows & (packets.destination_ip == destination[0]).all(axis=1)

    mask: np.ndarray[Any, np.dtype[np.bool_]] = packets.protocol == record["protocol"]
    mask &= goes(one, other) | goes(other, one)
    return mask


def _later(store: Store, until_ns: int | None) -> bool:
    """Whether the store holds a flow that ends a query with that `until`."""
    return until_ns is not None and bool((store.hot("time_ns").astype("i8") > until_ns).any())
