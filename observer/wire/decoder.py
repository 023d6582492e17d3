"""flow.Flow of a real Hubble server or a file to record and extra (signatures; the body follows)."""

from __future__ import annotations

from collections.abc import Iterable

from observer.api import flow_pb2
from observer.extra import Extra
from observer.identity.endpoints import EndpointTable
from observer.policy.model import PolicyTable
from observer.record import Records


class FlowDecoder:
    """Reads flows into records of one store, whose tables it fills."""

    def __init__(self, endpoints: EndpointTable, policies: PolicyTable) -> None:
        raise NotImplementedError

    def add(self, flow: flow_pb2.Flow) -> tuple[Records, Extra]:
        """One flow as an array of one record and its extra, which keeps the flow whole (Extra.imported)."""
        raise NotImplementedError

    def add_many(self, flows: Iterable[flow_pb2.Flow]) -> tuple[Records, list[tuple[int, Extra]]]:
        """Flows as what Store.append takes."""
        raise NotImplementedError
