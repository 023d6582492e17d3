"""What every face of flowscope asks for: flows once (`get_flows`), flows into a store (`subscribe`), and the status."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from observer.api import observer_pb2

if TYPE_CHECKING:
    from observer.api import batch_pb2
    from observer.store import Store


class State(enum.StrEnum):
    """Where a subscription stands."""

    CONNECTING = "connecting"
    LOADING = "loading"  # what the source held when asked is still arriving
    LIVE = "live"  # all that was held is in the store; what follows is new
    RECONNECTING = "reconnecting"  # the server went away; the store keeps what it has
    ENDED = "ended"  # the source has nothing more to give, or `cancel` was called
    FAILED = "failed"  # `error` says why


class Subscription(Protocol):
    """A background thread that appends to the caller's store until the source ends or `cancel` is called."""

    @property
    def state(self) -> State:
        """Where it stands now."""
        ...

    @property
    def error(self) -> str:
        """Why it failed or is reconnecting, one line for the user; empty otherwise."""
        ...

    @property
    def lost(self) -> int:
        """Flows that the source says this reader has lost."""
        ...

    @property
    def skipped(self) -> int:
        """Flows left out here, unread, because they came faster than they could be taken."""
        ...

    def cancel(self) -> None:
        """Stop; nothing is appended once this returns."""
        ...

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it ended, failed or was cancelled; False on timeout."""
        ...


@dataclass(frozen=True, slots=True)
class Status:
    """What a source is and what it has lost."""

    server: observer_pb2.ServerStatusResponse
    node_name: str = ""
    tier: str = ""  # pcap, flows, packet, bcc, ebpf; empty: not a flowscope server
    tier_reason: str = ""
    policy_mode: str = ""
    health: str = "SERVING"  # as grpc.health.v1 says
    losses: Sequence[tuple[str, str, int]] = field(default=())  # stage, reason, number; most numerous first
    attached: Sequence[str] = ()  # what a live tier captures from, and how
    pressures: Sequence[tuple[str, int, int]] = ()  # how full the kernel's tables are: name, entries, most

    @classmethod
    def from_batch(cls, told: batch_pb2.StatusResponse, *, health: str = "SERVING") -> Status:
        """What an observer of flowscope's tells of itself."""
        return cls(
            told.server,
            node_name=told.node_name,
            tier=told.tier,
            tier_reason=told.tier_reason,
            policy_mode=told.policy_mode,
            health=health,
            losses=[(loss.stage, loss.reason, loss.number) for loss in told.losses],
            attached=list(told.attached),
            pressures=[(pressure.table, pressure.entries, pressure.most) for pressure in told.pressures],
        )


@dataclass(frozen=True, slots=True)
class Node:
    """Where flows come from, as a server tells it; what it does not tell is empty or zero."""

    name: str
    state: str = ""  # SERVING, or as Relay says: CONNECTED, UNAVAILABLE ...
    address: str = ""
    version: str = ""
    tier: str = ""
    tier_reason: str = ""
    policy_mode: str = ""
    num_flows: int = 0  # held
    max_flows: int = 0
    seen_flows: int = 0
    uptime_ns: int = 0
    losses: Sequence[tuple[str, str, int]] = field(default=())  # stage, reason, number
    attached: Sequence[str] = field(default=())
    pressures: Sequence[tuple[str, int, int]] = field(default=())  # how full its tables are: name, entries, most

    @classmethod
    def from_status(cls, status: Status, *, address: str = "") -> Node:
        """The one node that a status is about."""
        told = status.server
        return cls(
            name=status.node_name or address,
            state=status.health,
            address=address,
            version=told.version,
            tier=status.tier,
            tier_reason=status.tier_reason,
            policy_mode=status.policy_mode,
            num_flows=told.num_flows,
            max_flows=told.max_flows,
            seen_flows=told.seen_flows,
            uptime_ns=told.uptime_ns,
            losses=status.losses,
            attached=status.attached,
            pressures=status.pressures,
        )


class Source(Protocol):
    """A server or a capture."""

    name: str
    """What to show: the server's address, the capture's file name."""

    warnings: Sequence[str]
    """What is odd about the policies it judges by; a server has told its own when it started."""

    def get_flows(self, request: observer_pb2.GetFlowsRequest) -> Iterator[observer_pb2.GetFlowsResponse]:
        """The flows that `request` selects; ends by itself unless it follows. FlowscopeError on failure."""
        ...

    def subscribe(self, store: Store, request: observer_pb2.GetFlowsRequest) -> Subscription:
        """Append what `request` selects to `store`, which nobody else may write to, until cancelled."""
        ...

    def status(self) -> Status:
        """The status now; FlowscopeError when the source cannot be reached."""
        ...

    def nodes(self) -> Sequence[Node]:
        """The nodes that flows come from; FlowscopeError when the source cannot be reached."""
        ...

    def close(self) -> None:
        """End every call and subscription."""
        ...


def open_servers(addresses: Sequence[str]) -> Source:
    """One server or several: the flows of several are merged in order of time."""
    sources = [open_server(address) for address in dict.fromkeys(addresses)]
    if len(sources) == 1:
        return sources[0]
    from observer.client.several import SeveralSources

    return SeveralSources(sources)


def open_server(address: str) -> Source:
    """A server at host:port, unix:///path or unix:path; nothing is sent before the first call."""
    from observer.client.server import ServerSource  # gRPC costs 0.1 s to import

    return ServerSource(address)


def open_capture_source(
    path: Path,
    *,
    identities: Path | None = None,
    policies: Sequence[Path] = (),
    policy_mode: str = "enforce",
    datapath: str = "user",
    realtime: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """A capture file, run through the pipeline in this process; ConfigError, PolicyError or CaptureError when wrong.

    With `datapath` "ebpf" the kernel's programs read it; its flows begin with DatapathError where they cannot.
    `progress` is called with bytes read and bytes in all, by the thread that reads.
    """
    from observer.client.capture import CaptureSource  # numpy and the whole pipeline

    return CaptureSource(
        path,
        identities=identities,
        policies=policies,
        policy_mode=policy_mode,
        datapath=datapath,
        realtime=realtime,
        progress=progress,
    )
