"""Lays flows out on a stream, one response at a time (signatures; the body follows)."""

from __future__ import annotations

import enum
from typing import TextIO

from observer.api import observer_pb2
from observer.printer.terminal import Colour


class Output(enum.StrEnum):
    """The formats of -o."""

    COMPACT = "compact"
    DICT = "dict"
    TABLE = "table"
    JSON = "json"  # jsonpb: one GetFlowsResponse a line


class Printer:
    """Prints responses in the order they come; `close` prints what a table holds back."""

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        *,
        output: Output = Output.COMPACT,
        colour: Colour = Colour.AUTO,
        time_format: str = "StampMilli",
        node_name: bool = False,
        policy_names: bool = False,
        ip_translation: bool = True,
        debug: bool = False,
        silent: bool = False,
        legacy_json: bool | None = None,  # None: as HUBBLE_COMPAT says
    ) -> None:
        raise NotImplementedError

    def response(self, response: observer_pb2.GetFlowsResponse) -> None:
        """Print a flow, lost events, or the status of nodes (that on `err`)."""
        raise NotImplementedError

    def close(self) -> None:
        """Print what was held back and flush."""
        raise NotImplementedError
