"""Which capture tier a node gets: the best that is asked for, allowed and loads, and why it is not a better one.

Who and what flows are judged by enters, a `Capture` leaves, with the words for `status`. Refuses to fall to a tier that
cannot enforce when that was asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from observer.datapath.rights import Capability, drop_all_but
from observer.errors import ConfigError, DatapathError, PolicyError
from observer.identity.endpoints import IpCache
from observer.live.kernel import KernelCapture
from observer.live.loop import Capture
from observer.live.packet import PacketCapture
from observer.pipeline import Pipeline
from observer.policy.engine import Engine
from observer.store import Store
from observer.tag import PolicyMode

FIRST_FREE_PORT: Final = 1024
"""Ports from here on anybody may listen on."""


@dataclass(frozen=True, slots=True)
class Judges:
    """Where flows go, and who and what says of them who they are and whether they may."""

    store: Store
    endpoints: IpCache
    policy: Engine | None
    mode: PolicyMode
    node: str


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier that is ready to be told its interfaces."""

    name: str
    reason: str
    """Why no better one, or what this one lacks; empty where there is nothing better."""
    capture: Capture


def open_tier(datapath: str, judges: Judges, *, say: Callable[[str], None]) -> Tier:
    """The tier that `datapath` (auto, ebpf, user) gets; FlowscopeError where it gets none.

    `say` gets a line about each interface that cannot be captured from.
    """
    reason = "asked for with --datapath user"
    if datapath != "user":
        try:
            capture = _kernel(judges, say)
        except (DatapathError, PolicyError) as error:
            if datapath == "ebpf":
                raise
            reason = f"no ebpf: {error}"
        else:
            return Tier("ebpf", capture.shortfall, capture)
    if judges.policy is not None and judges.mode is PolicyMode.ENFORCE:
        raise ConfigError(f"policy cannot be enforced in user space ({reason}): use --policy-mode audit")
    pipeline = Pipeline(
        store=judges.store, endpoints=judges.endpoints, policy=judges.policy, mode=judges.mode, node=judges.node
    )
    return Tier("packet", reason, PacketCapture(pipeline))


def give_up_rights(capture: Capture, listeners: Iterable[tuple[int, Path | None]]) -> None:
    """Keep the capabilities that `capture`, and listening at these ports and paths, need from now on, and no other."""
    keep = set(capture.needs)
    for port, path in listeners:
        if path is None:
            keep |= {Capability.CAP_NET_BIND_SERVICE} if 0 < port < FIRST_FREE_PORT else set()
        elif path.parent.exists() and path.parent.stat().st_uid != os.geteuid():
            keep.add(Capability.CAP_DAC_OVERRIDE)
    drop_all_but(keep)


def _kernel(judges: Judges, say: Callable[[str], None]) -> KernelCapture:
    nodes = judges.store.nodes
    if judges.node not in nodes:
        nodes.append(judges.node)
    return KernelCapture(
        store=judges.store,
        endpoints=judges.endpoints,
        policy=judges.policy,
        mode=judges.mode,
        node=nodes.index(judges.node),
        say=say,
    )
