"""Which capabilities this process has, which the capture tiers need, and giving up those that nothing needs any more.

Reads /proc and calls capset and prctl (capabilities(7)); knows nothing of what is done with the rights. Capabilities
belong to a thread: whoever gives them up does so before starting others, which inherit what is left.
"""

from __future__ import annotations

import ctypes
import enum
import os
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Final

from observer.errors import DatapathError


class Capability(enum.IntEnum):
    """The capabilities that somebody here asks for (linux/capability.h)."""

    CAP_DAC_OVERRIDE = 1  # a socket file in somebody else's directory
    CAP_SETPCAP = 8  # give up what an exec could regain
    CAP_NET_BIND_SERVICE = 10  # listen on a port below 1024
    CAP_NET_ADMIN = 12  # attach to interfaces
    CAP_NET_RAW = 13  # packet sockets
    CAP_PERFMON = 38  # read kernel memory from programs
    CAP_BPF = 39  # load programs, make maps


EBPF: Final = (Capability.CAP_BPF, Capability.CAP_NET_ADMIN, Capability.CAP_PERFMON)
"""What the tier `ebpf` needs to start."""
PACKET: Final = (Capability.CAP_NET_RAW,)
"""What the tier `packet` needs to start."""

CAPABILITY_VERSION_3: Final = 0x20080522
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 24, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
LAST: Final = Path("/proc/sys/kernel/cap_last_cap")


def effective() -> int:
    """The capabilities of this thread, a bit each."""
    return int(_status("CapEff"), 16)


def missing(needed: Collection[Capability]) -> tuple[Capability, ...]:
    """Those of `needed` that this thread does not have in effect."""
    have = effective()
    return tuple(capability for capability in needed if not have >> capability & 1)


def drop_all_but(keep: Collection[Capability]) -> None:
    """Give up every other capability of this thread for good, also what an exec could give it back.

    DatapathError where the kernel refuses: then nobody knows what is left.
    """
    kept = sum(1 << capability for capability in keep) & int(_status("CapPrm"), 16)
    if not missing((Capability.CAP_SETPCAP,)):
        for capability in range(int(LAST.read_text()) + 1):
            if not kept >> capability & 1:
                _prctl(PR_CAPBSET_DROP, capability)
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    sets = struct.pack("=6I", low, low, 0, high, high, 0)  # effective, permitted, inheritable
    if _libc().capset(header, sets):
        raise DatapathError(f"cannot give up capabilities: {os.strerror(ctypes.get_errno())}")


def _prctl(*arguments: int) -> None:
    if _libc().prctl(*(ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0)[:5])):
        raise DatapathError(f"cannot give up capabilities: {os.strerror(ctypes.get_errno())}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _status(field: str) -> str:
    """A line of /proc/thread-self/status, without its name."""
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.strip()
    raise LookupError(field)
