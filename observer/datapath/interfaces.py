"""The interfaces to capture from: chosen by name or glob, or every veth, and followed as they come and go.

Messages of the kernel enter (RTM_NEWLINK, RTM_DELLINK); interfaces that came and that went leave. Knows nothing of
what is done with them.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from observer.datapath import netlink

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
IFLA_IFNAME, IFLA_LINKINFO, IFLA_EXT_MASK = 3, 18, 29
IFLA_INFO_KIND: Final = 1
RTEXT_FILTER_SKIP_STATS: Final = 8
LINK: Final = struct.Struct("=BxHiII")
"""ifinfomsg: family, type, index, flags, change."""
BACKLOG: Final = 1 << 20
"""Bytes of messages that may wait: thousands of interfaces at once; when it is not enough, all are listed again."""


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface of this network namespace."""

    index: int
    name: str
    kind: str = ""
    """As `ip -details link` says: veth, bridge, ...; empty for hardware."""


@dataclass(slots=True)
class Changes:
    """What came and what went, in that order of doing: an interface that was renamed has gone and come."""

    went: list[Interface] = field(default_factory=list)
    came: list[Interface] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.went or self.came)


def list_interfaces() -> list[Interface]:
    """Every interface there is now."""
    skip_stats = netlink.ATTRIBUTE.pack(8, IFLA_EXT_MASK) + struct.pack("=I", RTEXT_FILTER_SKIP_STATS)
    told = netlink.dump(RTM_GETLINK, LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + skip_stats)
    return [_interface(message.body) for message in told if message.type == RTM_NEWLINK]


class Interfaces:
    """The interfaces that `patterns` choose (names or globs; none: every veth), as they come and go.

    `fd` becomes readable when there may be changes.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._patterns = tuple(patterns)
        # First the subscription, then the list: what comes between the two is told twice, and not missed.
        self._socket = netlink.open_socket(netlink.RTMGRP_LINK)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BACKLOG)
        self._known: dict[int, Interface] = {}
        self._listed = False

    @property
    def fd(self) -> int:
        """The socket, for poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Follow no longer."""
        self._socket.close()

    def chosen(self, interface: Interface) -> bool:
        """Whether the patterns choose it."""
        if not self._patterns:
            return interface.kind == "veth"
        return any(fnmatchcase(interface.name, pattern) for pattern in self._patterns)

    def changes(self) -> Changes:
        """What came and went since the last call; the first tells all that are there. Does not block."""
        changes = Changes()
        if not self._listed:
            self._list(changes)
        while True:
            try:
                datagram = self._socket.recv(netlink.RECEIVE_SIZE)
            except BlockingIOError:
                return changes
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # messages were lost
                    raise
                self._list(changes)
                continue
            for message in netlink.messages(datagram):
                if message.type == RTM_NEWLINK:
                    self._see(_interface(message.body), changes)
                elif message.type == RTM_DELLINK:
                    self._lose(_interface(message.body).index, changes)

    def _list(self, changes: Changes) -> None:
        """Compare what is known with what is there."""
        self._listed = True
        there = {interface.index: interface for interface in list_interfaces()}
        for index in self._known.keys() - there.keys():
            self._lose(index, changes)
        for interface in there.values():
            self._see(interface, changes)

    def _see(self, interface: Interface, changes: Changes) -> None:
        known = self._known.get(interface.index)
        if known is not None and known.name == interface.name:
            return
        self._lose(interface.index, changes)
        if self.chosen(interface):
            self._known[interface.index] = interface
            changes.came.append(interface)

    def _lose(self, index: int, changes: Changes) -> None:
        lost = self._known.pop(index, None)
        if lost is None:
            return
        if lost in changes.came:
            changes.came.remove(lost)  # nobody has heard of it yet
        else:
            changes.went.append(lost)


def _interface(body: bytes) -> Interface:
    """What an RTM_NEWLINK or RTM_DELLINK is about."""
    _, _, index, _, _ = LINK.unpack_from(body)
    found = netlink.attributes(body, LINK.size)
    kind = netlink.attributes(found.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_KIND, b"")
    return Interface(index, netlink.text(found.get(IFLA_IFNAME, b"")), netlink.text(kind))
