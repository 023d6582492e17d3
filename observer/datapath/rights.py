"""Which capabilities this process has, and which the capture tiers need.

Reads /proc/self/status; knows nothing of what is done with them.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Final


class Capability(enum.IntEnum):
    """The capabilities that capturing needs (linux/capability.h)."""

    CAP_NET_ADMIN = 12  # attach to interfaces
    CAP_NET_RAW = 13  # packet sockets
    CAP_PERFMON = 38  # read kernel memory from programs
    CAP_BPF = 39  # load programs, make maps


EBPF: Final = (Capability.CAP_BPF, Capability.CAP_NET_ADMIN, Capability.CAP_PERFMON)
"""What the tier `ebpf` needs to start."""
PACKET: Final = (Capability.CAP_NET_RAW,)
"""What the tier `packet` needs to start."""


def missing(needed: tuple[Capability, ...]) -> tuple[Capability, ...]:
    """Those of `needed` that this thread does not have in effect."""
    effective = int(_status("CapEff"), 16)
    return tuple(capability for capability in needed if not effective >> capability & 1)


def _status(field: str) -> str:
    """A line of /proc/self/status, without its name; of the calling thread."""
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.strip()
    raise LookupError(field)
