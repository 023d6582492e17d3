"""Where packets meet a program: TCX links on an interface, and filters of the clsact qdisc where TCX is not there.

A loaded program and the index of an interface enter; what holds the program attached leaves. Which program goes
where, and what is left over of those before us, is not known here: see `attach`.
"""

from __future__ import annotations

import ctypes
import errno
from ctypes import byref
from typing import Final

from observer.datapath.bindings import LinkOpts, TcHook, TcOpts, check, libbpf, refusal, warnings
from observer.datapath.libbpf import Link, Program

TCX_INGRESS: Final = 46
TCX_EGRESS: Final = 47
BPF_F_BEFORE: Final = 8
"""Flag of `link_create`: before all others that are attached there."""
CLSACT_INGRESS: Final = 1
CLSACT_EGRESS: Final = 2


def link_create(program: Program, target: int, attach_type: int, *, flags: int = 0) -> Link:
    """Attach to an interface (index, TCX_*) or to what else the kernel calls a target."""
    options = LinkOpts(sz=ctypes.sizeof(LinkOpts), flags=flags)
    fd = libbpf().bpf_link_create(program.fd, target, attach_type, byref(options))
    if fd < 0:
        raise refusal(-fd, f"attach {program.name}")
    return Link(fd)


def clsact_create(ifindex: int) -> bool:
    """Give an interface the clsact qdisc; False if it has it."""
    result = libbpf().bpf_tc_hook_create(byref(_hook(ifindex, CLSACT_INGRESS)))
    if result == -errno.EEXIST:
        warnings.clear()
        return False
    check(result, "add the qdisc clsact")
    return True


def clsact_destroy(ifindex: int) -> None:
    """Take the clsact qdisc away, with every filter on it, whosever it is."""
    result = libbpf().bpf_tc_hook_destroy(byref(_hook(ifindex, CLSACT_INGRESS | CLSACT_EGRESS)))
    if result not in (-errno.ENODEV, -errno.ENOENT, -errno.EINVAL):
        check(result, "remove the qdisc clsact")
    warnings.clear()


def filter_attach(program: Program, ifindex: int, point: int) -> tuple[int, int]:
    """Attach to CLSACT_INGRESS or CLSACT_EGRESS as a direct-action filter: its handle and priority.

    It stays after the end of the process.
    """
    options = TcOpts(sz=TcOpts.priority.offset + 4, prog_fd=program.fd)
    check(libbpf().bpf_tc_attach(byref(_hook(ifindex, point)), byref(options)), f"attach {program.name}")
    return int(options.handle), int(options.priority)


def filter_detach(ifindex: int, point: int, handle: int, priority: int) -> None:
    """Take a filter away; no error if it, or its interface, is gone."""
    options = TcOpts(sz=TcOpts.priority.offset + 4, handle=handle, priority=priority)
    result = libbpf().bpf_tc_detach(byref(_hook(ifindex, point)), byref(options))
    if result not in (-errno.ENODEV, -errno.ENOENT, -errno.EINVAL):
        check(result, "remove a filter")
    warnings.clear()


def _hook(ifindex: int, point: int) -> TcHook:
    return TcHook(sz=TcHook.parent.offset + 4, ifindex=ifindex, attach_point=point)
