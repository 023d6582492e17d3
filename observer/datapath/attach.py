"""Where programs are attached: both directions of each chosen interface, by TCX links or clsact filters.

Links go when the process dies. Filters (kernels before 6.6) stay, so a start removes those of flowscope's that no
process holds any more, known by the names of their programs; what belongs to others is never touched. Whoever comes
late stands first: others that decide the packet's way do not hide it.
"""

from __future__ import annotations

import enum
import errno
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from observer.datapath import hooks, netlink
from observer.datapath.interfaces import Changes, Interface, list_interfaces
from observer.datapath.libbpf import Link, Program
from observer.errors import ConfigError, DatapathError

PREFIX: Final = "flowscope_"
"""Of the names of all programs that are ever attached: by it they are known later."""
VARIABLE: Final = "FLOWSCOPE_ATTACH"
"""The environment variable that chooses `tcx` or `clsact`."""

RTM_NEWTFILTER, RTM_GETTFILTER = 44, 46
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_BPF_NAME, TCA_BPF_ID = 7, 11
FILTER: Final = struct.Struct("=BxxxiIII")
"""tcmsg: family, interface, handle, parent, priority and protocol."""
PARENTS: Final = {hooks.CLSACT_INGRESS: 0xFFFFFFF2, hooks.CLSACT_EGRESS: 0xFFFFFFF3}


class Way(enum.StrEnum):
    """How programs are attached."""

    TCX = "tcx"  # kernel 6.6 and newer
    CLSACT = "clsact"

    @classmethod
    def chosen(cls) -> Way | None:
        """What the environment chooses; ConfigError where that is no way."""
        text = os.environ.get(VARIABLE, "")
        try:
            return cls(text) if text else None
        except ValueError:
            raise ConfigError(f"{VARIABLE} is {text!r}: it may be tcx or clsact") from None


@dataclass(frozen=True, slots=True)
class Filter:
    """A bpf filter on a clsact qdisc."""

    ifindex: int
    point: int
    handle: int
    priority: int
    name: str
    program_id: int

    def remove(self) -> None:
        """Take it away."""
        hooks.filter_detach(self.ifindex, self.point, self.handle, self.priority)


class Attachments:
    """One program at both directions of the interfaces that come; let go when they leave or this is closed.

    `way` None: TCX, or clsact where the kernel does not know it. `say` gets a line about each that failed.
    """

    def __init__(self, program: Program, *, way: Way | None, say: Callable[[str], None]) -> None:
        if not program.name.startswith(PREFIX):
            raise ValueError(f"{program.name}: the name of an attached program begins with {PREFIX}")
        self.way = way
        self._program = program
        self._say = say
        self._links: dict[Interface, list[Link]] = {}
        self._filters: dict[Interface, list[tuple[int, int, int]]] = {}
        self._qdiscs: set[int] = set()
        remove_leftovers()

    def __len__(self) -> int:
        return len(self._links) + len(self._filters)

    def __iter__(self) -> Iterator[Interface]:
        """The interfaces that programs are attached to."""
        return iter([*self._links, *self._filters])

    def take(self, changes: Changes) -> None:
        """Let go what went, attach to what came; who is gone again meanwhile, or refuses, is told and left alone."""
        for interface in changes.went:
            self.detach(interface)
        for interface in changes.came:
            try:
                self.attach(interface)
            except DatapathError as error:
                if error.number == errno.ENODEV:
                    self._say(f"{interface.name} is gone before it could be captured from")
                else:
                    self._say(f"{interface.name} is not captured from: {error}")

    def attach(self, interface: Interface) -> None:
        """Attach at both directions; DatapathError, and at neither, where one refuses."""
        if self.way is not Way.CLSACT:
            try:
                self._links[interface] = self._link(interface)
            except DatapathError as error:
                if self.way is Way.TCX or error.number != errno.EINVAL:
                    raise
                self.way = Way.CLSACT
            else:
                self.way = Way.TCX
                return
        self._filter(interface)

    def detach(self, interface: Interface) -> None:
        """Let go; no error if the interface is gone."""
        for link in self._links.pop(interface, ()):
            link.close()
        for filter in self._filters.pop(interface, ()):
            hooks.filter_detach(interface.index, *filter)
        if interface.index in self._qdiscs:
            self._qdiscs.discard(interface.index)
            if not any(True for point in PARENTS for _ in filters(interface.index, point)):
                hooks.clsact_destroy(interface.index)

    def close(self) -> None:
        """Let go everything."""
        for interface in self:
            self.detach(interface)

    def _link(self, interface: Interface) -> list[Link]:
        with ExitStack() as undo:
            links = []
            for kind in (hooks.TCX_INGRESS, hooks.TCX_EGRESS):
                link = hooks.link_create(self._program, interface.index, kind, flags=hooks.BPF_F_BEFORE)
                undo.callback(link.close)
                links.append(link)
            undo.pop_all()
        return links

    def _filter(self, interface: Interface) -> None:
        if hooks.clsact_create(interface.index):
            self._qdiscs.add(interface.index)
        attached = self._filters[interface] = []
        try:
            for point in PARENTS:
                handle, priority = hooks.filter_attach(self._program, interface.index, point)
                attached.append((point, handle, priority))
        except DatapathError:
            self.detach(interface)
            raise


def filters(ifindex: int, point: int) -> Iterator[Filter]:
    """The filters of an interface at CLSACT_INGRESS or CLSACT_EGRESS; none where it has no such qdisc, or is gone."""
    try:
        told = netlink.dump(RTM_GETTFILTER, FILTER.pack(0, ifindex, 0, PARENTS[point], 0))
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EINVAL, errno.ENOENT):
            return
        raise
    for message in told:
        if message.type != RTM_NEWTFILTER:
            continue
        _, _, handle, _, info = FILTER.unpack_from(message.body)
        found = netlink.attributes(message.body, FILTER.size)
        options = netlink.attributes(found.get(TCA_OPTIONS, b"")) if found.get(TCA_KIND) == b"bpf\0" else {}
        identifier = int.from_bytes(options.get(TCA_BPF_ID, b""), "little")
        yield Filter(ifindex, point, handle, info >> 16, netlink.text(options.get(TCA_BPF_NAME, b"")), identifier)


def remove_leftovers() -> int:
    """Remove the filters that a killed flowscope left on any interface; how many there were."""
    left = [
        filter
        for interface in list_interfaces()
        for point in PARENTS
        for filter in filters(interface.index, point)
        if filter.name.startswith(PREFIX)
    ]
    if not left:
        return 0
    held = programs_held()
    left = [filter for filter in left if filter.program_id not in held]
    for filter in left:
        filter.remove()
    return len(left)


def programs_held() -> set[int]:
    """The programs that processes hold descriptors of."""
    held = set()
    for folder in Path("/proc").glob("[0-9]*/fdinfo"):
        with suppress(OSError):  # processes end while we look
            for path in folder.iterdir():
                with suppress(OSError):
                    for line in path.read_text().splitlines():
                        if line.startswith("prog_id:"):
                            held.add(int(line.partition(":")[2]))
    return held
