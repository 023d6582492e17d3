from observer.api import flow_pb2 as _flow_pb2
from observer.api import observer_pb2 as _observer_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BatchResponse(_message.Message):
    __slots__ = ("layout", "records", "count", "sequences", "endpoints", "policies", "extras", "node_names", "nodes", "lost_events", "caught_up")
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    EXTRAS_FIELD_NUMBER: _ClassVar[int]
    NODE_NAMES_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    LOST_EVENTS_FIELD_NUMBER: _ClassVar[int]
    CAUGHT_UP_FIELD_NUMBER: _ClassVar[int]
    layout: int
    records: bytes
    count: int
    sequences: _containers.RepeatedScalarFieldContainer[int]
    endpoints: _containers.RepeatedCompositeFieldContainer[NumberedEndpoint]
    policies: _containers.RepeatedCompositeFieldContainer[NumberedPolicy]
    extras: _containers.RepeatedCompositeFieldContainer[RecordExtra]
    node_names: _containers.RepeatedScalarFieldContainer[str]
    nodes: bytes
    lost_events: _containers.RepeatedCompositeFieldContainer[_flow_pb2.LostEvent]
    caught_up: bool
    def __init__(self, layout: _Optional[int] = ..., records: _Optional[bytes] = ..., count: _Optional[int] = ..., sequences: _Optional[_Iterable[int]] = ..., endpoints: _Optional[_Iterable[_Union[NumberedEndpoint, _Mapping]]] = ..., policies: _Optional[_Iterable[_Union[NumberedPolicy, _Mapping]]] = ..., extras: _Optional[_Iterable[_Union[RecordExtra, _Mapping]]] = ..., node_names: _Optional[_Iterable[str]] = ..., nodes: _Optional[bytes] = ..., lost_events: _Optional[_Iterable[_Union[_flow_pb2.LostEvent, _Mapping]]] = ..., caught_up: _Optional[bool] = ...) -> None: ...

class NumberedEndpoint(_message.Message):
    __slots__ = ("number", "endpoint", "names", "service")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    number: int
    endpoint: _flow_pb2.Endpoint
    names: _containers.RepeatedScalarFieldContainer[str]
    service: _flow_pb2.Service
    def __init__(self, number: _Optional[int] = ..., endpoint: _Optional[_Union[_flow_pb2.Endpoint, _Mapping]] = ..., names: _Optional[_Iterable[str]] = ..., service: _Optional[_Union[_flow_pb2.Service, _Mapping]] = ...) -> None: ...

class NumberedPolicy(_message.Message):
    __slots__ = ("number", "policy")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    number: int
    policy: _flow_pb2.Policy
    def __init__(self, number: _Optional[int] = ..., policy: _Optional[_Union[_flow_pb2.Policy, _Mapping]] = ...) -> None: ...

class RecordExtra(_message.Message):
    __slots__ = ("index", "texts", "head", "dns", "source_names", "destination_names", "tunnel", "trace_id", "extension", "imported")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    DNS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_NAMES_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_NAMES_FIELD_NUMBER: _ClassVar[int]
    TUNNEL_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    EXTENSION_FIELD_NUMBER: _ClassVar[int]
    IMPORTED_FIELD_NUMBER: _ClassVar[int]
    index: int
    texts: _containers.RepeatedScalarFieldContainer[bytes]
    head: bytes
    dns: _flow_pb2.DNS
    source_names: _containers.RepeatedScalarFieldContainer[str]
    destination_names: _containers.RepeatedScalarFieldContainer[str]
    tunnel: _flow_pb2.Tunnel
    trace_id: str
    extension: bytes
    imported: bytes
    def __init__(self, index: _Optional[int] = ..., texts: _Optional[_Iterable[bytes]] = ..., head: _Optional[bytes] = ..., dns: _Optional[_Union[_flow_pb2.DNS, _Mapping]] = ..., source_names: _Optional[_Iterable[str]] = ..., destination_names: _Optional[_Iterable[str]] = ..., tunnel: _Optional[_Union[_flow_pb2.Tunnel, _Mapping]] = ..., trace_id: _Optional[str] = ..., extension: _Optional[bytes] = ..., imported: _Optional[bytes] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("server", "node_name", "tier", "tier_reason", "losses", "policy_mode", "record_layout", "attached", "pressures")
    SERVER_FIELD_NUMBER: _ClassVar[int]
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    TIER_REASON_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    POLICY_MODE_FIELD_NUMBER: _ClassVar[int]
    RECORD_LAYOUT_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    PRESSURES_FIELD_NUMBER: _ClassVar[int]
    server: _observer_pb2.ServerStatusResponse
    node_name: str
    tier: str
    tier_reason: str
    losses: _containers.RepeatedCompositeFieldContainer[LossCount]
    policy_mode: str
    record_layout: int
    attached: _containers.RepeatedScalarFieldContainer[str]
    pressures: _containers.RepeatedCompositeFieldContainer[Pressure]
    def __init__(self, server: _Optional[_Union[_observer_pb2.ServerStatusResponse, _Mapping]] = ..., node_name: _Optional[str] = ..., tier: _Optional[str] = ..., tier_reason: _Optional[str] = ..., losses: _Optional[_Iterable[_Union[LossCount, _Mapping]]] = ..., policy_mode: _Optional[str] = ..., record_layout: _Optional[int] = ..., attached: _Optional[_Iterable[str]] = ..., pressures: _Optional[_Iterable[_Union[Pressure, _Mapping]]] = ...) -> None: ...

class Pressure(_message.Message):
    __slots__ = ("table", "entries", "most")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    table: str
    entries: int
    most: int
    def __init__(self, table: _Optional[str] = ..., entries: _Optional[int] = ..., most: _Optional[int] = ...) -> None: ...

class LossCount(_message.Message):
    __slots__ = ("stage", "reason", "number")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    stage: str
    reason: str
    number: int
    def __init__(self, stage: _Optional[str] = ..., reason: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...
