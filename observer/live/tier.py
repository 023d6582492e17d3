"""Which capture tier a node gets: the best that is asked for, allowed and loads, and why it is not a better one.

A pipeline enters, a `Capture` leaves, with the words for `status`. Refuses to fall to a tier that cannot enforce when
that was asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from observer.datapath.rights import Capability, drop_all_but
from observer.errors import ConfigError
from observer.live.loop import Capture
from observer.live.packet import PacketCapture
from observer.pipeline import Pipeline

FIRST_FREE_PORT: Final = 1024
"""Ports from here on anybody may listen on."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier that is ready to be told its interfaces."""

    name: str
    reason: str
    """Why no better one; empty where there is none."""
    capture: Capture


def open_tier(datapath: str, pipeline: Pipeline, *, enforce: bool) -> Tier:
    """The tier that `datapath` (auto, user) gets; CaptureError or ConfigError where it gets none."""
    reason = "asked for with --datapath user"
    if enforce:
        raise ConfigError(f"policy cannot be enforced in user space ({reason}): use --policy-mode audit")
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
