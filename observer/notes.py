"""What is known of a connection beyond its packets: names of its ends, what its hello said, the tunnel around it.

The pipeline writes notes while a connection lasts; the extras of its flows are made of them here. A flow of the reply
direction has the same names swapped. Knows no records.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from observer.conntrack import Half
from observer.extra import Extra
from observer.l7.message import Message

HOST_NAME: Final = re.compile(rb"(?!.*\.[0-9]+\.?\Z)[A-Za-z0-9_*]([A-Za-z0-9_.\-]{0,252})")
"""What of a hello counts as a name: what DNS could hold, no address literal (RFC 6066, 3)."""


@dataclass(slots=True)
class Notes:
    """Notes of one connection, by its roles."""

    client_names: tuple[str, ...] = ()
    server_names: tuple[str, ...] = ()
    extension: Mapping[str, Any] | None = None


def greet(half: Half, hello: Message) -> None:
    """Note what the client's hello says: who it wants to talk to, and how."""
    connection = half.connection
    notes: Notes = connection.notes or Notes()
    connection.notes = notes
    notes.extension = hello.extension
    if HOST_NAME.fullmatch(hello.texts[0]):
        name = hello.texts[0].decode("ascii").removesuffix(".").lower()
        notes.server_names = tuple(dict.fromkeys((*notes.server_names, name)))


def annotate(extra: Extra, half: Half) -> Extra:
    """Add to a flow's extra what is noted of its connection."""
    notes: Notes | None = half.connection.notes
    extension: dict[str, Any] = {}
    if notes is not None:
        ends = (notes.client_names, notes.server_names)
        extra.source_names, extra.destination_names = ends[::-1] if half.is_reply else ends
        extension |= notes.extension or {}
    if half.outer is not None:
        extra.tunnel, around = half.outer.told()
        if around is not None:
            extension["tunnel"] = around
    if extension:
        extra.extension = {**(extra.extension or {}), **extension}
    return extra
