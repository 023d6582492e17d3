"""Route netlink, as little as following interfaces and finding filters needs: requests out, messages and attributes in.

The kernel is the only peer. Format: RFC 3549 and linux/rtnetlink.h; alignment is four bytes throughout.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from observer.errors import DatapathError

HEADER: Final = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, port."""
ATTRIBUTE: Final = struct.Struct("=HH")
"""rtattr: length, type."""
NESTED: Final = 0x8000
"""A bit of an attribute's type."""

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
RTMGRP_LINK: Final = 1
RECEIVE_SIZE: Final = 1 << 17
"""More than the kernel puts into one datagram."""


class Message(NamedTuple):
    """A netlink message without its header."""

    type: int
    body: bytes


def open_socket(groups: int = 0) -> socket.socket:
    """A route netlink socket, member of these multicast groups, of this thread's network namespace."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    made.bind((0, groups))
    return made


def dump(type: int, body: bytes) -> list[Message]:
    """Everything that the kernel says to a dump request; OSError where it refuses."""
    with open_socket() as asked:
        asked.send(HEADER.pack(HEADER.size + len(body), type, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body)
        answers: list[Message] = []
        while True:
            for message in messages(asked.recv(RECEIVE_SIZE)):
                if message.type == NLMSG_DONE:
                    return answers
                if message.type == NLMSG_ERROR:
                    number = -int(struct.unpack_from("=i", message.body)[0])
                    raise OSError(number, os.strerror(number))
                answers.append(message)


def messages(datagram: bytes) -> Iterator[Message]:
    """The messages in what was received."""
    at = 0
    while at + HEADER.size <= len(datagram):
        length, type, _, _, _ = HEADER.unpack_from(datagram, at)
        if length < HEADER.size:
            raise DatapathError("netlink: a message is shorter than its header")
        yield Message(type, datagram[at + HEADER.size : at + length])
        at += length + 3 & ~3


def attributes(body: bytes, at: int = 0) -> dict[int, bytes]:
    """The attributes that follow a fixed header of `at` bytes."""
    found = {}
    while at + ATTRIBUTE.size <= len(body):
        length, type = ATTRIBUTE.unpack_from(body, at)
        if length < ATTRIBUTE.size:
            break
        found[type & ~NESTED] = body[at + ATTRIBUTE.size : at + length]
        at += length + 3 & ~3
    return found


def text(value: bytes) -> str:
    """A string attribute; names may hold any byte."""
    return value.rstrip(b"\0").decode("utf-8", "surrogateescape")
