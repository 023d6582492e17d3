"""The single texts of a flow, plain and unescaped (signatures; the body follows)."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from observer.api import flow_pb2

TIME_FORMATS: dict[str, str] = {}
"""Names that --time-format takes."""


def format_time(time: Timestamp | None, time_format: str = "StampMilli") -> str:
    """The time in UTC in one of TIME_FORMATS; "N/A" where there is none."""
    raise NotImplementedError


def host_names(flow: flow_pb2.Flow, *, translate: bool = True) -> tuple[str, str]:
    """Source and destination with port: namespace/pod, service, names, address or MAC."""
    raise NotImplementedError


def identity_names(flow: flow_pb2.Flow) -> tuple[str, str]:
    """Identities of source and destination: "(world)", "(ID:1234)"."""
    raise NotImplementedError


def flow_type(flow: flow_pb2.Flow) -> str:
    """What happened: "to-endpoint", "http-request", "Policy denied"."""
    raise NotImplementedError


def verdict(flow: flow_pb2.Flow, *, policy_names: bool = False) -> str:
    """The verdict, with the policies that decided where asked for."""
    raise NotImplementedError


def summary(flow: flow_pb2.Flow) -> str:
    """The server's summary with the CLI's additions."""
    raise NotImplementedError
