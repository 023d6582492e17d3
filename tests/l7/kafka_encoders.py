"""Kafka messages as two others write them: kafka-python from Apache's schemas, kio by classes generated from them.

Every (API key, version) that an encoder can write becomes a sample, all its fields filled, two elements in every
array. What a sample is about (topics, error codes) is noted while it is filled, by the schema's own entity types.
"""

import dataclasses
import datetime
import importlib
import io
import pkgutil
import types
import typing
import uuid
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

from kio.schema.errors import ErrorCode
from kio.schema.index import api_key_map
from kio.schema.types import TopicName
from kio.serial import entity_writer

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # kafka-python reads its schemas by importlib's older way
    for part in ("admin", "consumer", "metadata", "producer", "sasl"):
        importlib.import_module(f"kafka.protocol.{part}")  # defines its messages
    ApiMessage = importlib.import_module("kafka.protocol.api_message").ApiMessage

CLIENT_ID = "samples-1"
CORRELATION = 1_234_567
RESOURCES = (32, 33, 44)
TOPIC_RESOURCE = 2
ERRORS = (0, 3, 5)  # UNKNOWN_TOPIC_OR_PARTITION comes second

# Topics that a message names but is not about: what a fetch session shall forget, where a listing goes on.
ASIDE = ("forgotten_topics_data", "cursor")


class Sample(NamedTuple):
    """One message and what it says."""

    encoder: str
    key: int
    version: int
    frame: bytes
    topics: tuple[str | uuid.UUID, ...]
    error: int | None  # the first that is not 0

    def __str__(self) -> str:
        return f"{self.encoder}-{self.key}-v{self.version}"


class Notes:
    """What is noted while a message is filled."""

    def __init__(self, key: int) -> None:
        self.key = key
        self.topics: list[str | uuid.UUID] = []
        self.errors: list[int] = []
        self.kinds = 0
        self.aside = 0

    def topic(self) -> str:
        name = f"topic-{len(self.topics)}"
        if not self.aside:
            self.topics.append(name)
        return name

    def topic_id(self) -> uuid.UUID:
        number = uuid.UUID(int=(0xABCDEF << 100) + len(self.topics) + 1)
        if not self.aside:
            self.topics.append(number)
        return number

    def kind(self) -> int:
        self.kinds += 1
        return TOPIC_RESOURCE if self.kinds % 2 else 4  # a topic, a broker

    def resource(self) -> str:
        return self.topic() if self.kinds % 2 else "4"

    def error(self) -> int:
        self.errors.append(ERRORS[min(len(self.errors), 2)])
        return self.errors[-1]

    def first_error(self) -> int | None:
        return next((error for error in self.errors if error), 0 if self.errors else None)


def sample(encoder: str, version: int, frame: bytes, notes: Notes) -> Sample:
    return Sample(encoder, notes.key, version, frame, tuple(dict.fromkeys(notes.topics)), notes.first_error())


# kafka-python


def kafka_python(wanted: str) -> Iterator[Sample]:
    """Every message of a type, "request" or "response", in every version."""
    classes = {cls.name: cls for cls in _subclasses(ApiMessage) if cls._json is not None and cls.type == wanted}
    for cls in sorted(classes.values(), key=lambda cls: cls.API_KEY):
        for version in range(cls.max_version + 1):
            notes = Notes(cls.API_KEY)
            message = cls(version=version, **_values(cls._struct._fields, version, notes))
            if wanted == "request":
                message.with_header(correlation_id=CORRELATION, client_id=CLIENT_ID)
            else:
                message.with_header(correlation_id=CORRELATION)
            yield sample("kafka-python", version, bytes(message.encode(header=True, framed=True)), notes)


def _subclasses(cls: Any) -> set[Any]:
    out = set()
    for each in type.__subclasses__(cls):
        if each._class_version is None:
            out |= {each} | _subclasses(each)
    return out


def _values(fields: Any, version: int, notes: Notes) -> dict[str, Any]:
    present = [field for field in fields if field.for_version_q(version)]
    either = {"name", "topic_id"} <= {field.name for field in present} and notes.key in (3, 20)
    values = {}
    for field in present:
        notes.aside += field.name in ASIDE
        value = _value(field, version, notes) if not either or field.name not in ("name", "topic_id") else None
        notes.aside -= field.name in ASIDE
        values[field.name] = value
    if either:
        values |= _either(notes, nullable=True)
    return values


def _either(notes: Notes, *, nullable: bool) -> dict[str, Any]:
    """A topic's name or its id, by turns."""
    if len(notes.topics) % 2 and nullable:
        return {"name": None, "topic_id": notes.topic_id()}
    return {"name": notes.topic(), "topic_id": uuid.UUID(int=0)}


def _value(field: Any, version: int, notes: Notes) -> Any:
    if field.is_struct_array():
        return [field.data_class(version=version, **_values(field.fields.values(), version, notes)) for _ in range(2)]
    if field.is_struct():
        return field.data_class(version=version, **_values(field.fields.values(), version, notes))
    if field.is_array():
        return [_plain(field, field.array_of.type_str, notes) for _ in range(2)]
    return _plain(field, field.type_str, notes)


def _plain(field: Any, kind: str, notes: Notes) -> Any:
    if field.name in ("error_code", "partition_error_code"):
        return notes.error()
    if field._entity_type == "topicName" and kind == "string" and not field.tag:
        return notes.topic()
    if notes.key in RESOURCES and field.name in ("resource_type", "resource_name"):
        return notes.kind() if field.name == "resource_type" else notes.resource()
    if field.name == "topic_id":
        return notes.topic_id()
    if kind == "bitfield":
        return []
    return {"string": "text", "bool": True, "uuid": uuid.UUID(int=7), "bytes": b"\1" * 37, "records": b"\2" * 300}.get(
        kind, 1
    )


# kio


def kio_samples(wanted: str) -> Iterator[Sample]:
    """The same by kio."""
    for key, name in api_key_map.items():
        package = importlib.import_module(f"kio.schema.{name}")
        for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda found: int(found.name[1:])):
            module = importlib.import_module(f"kio.schema.{name}.{found.name}.{wanted}")
            cls = next(cls for cls in vars(module).values() if _is_message(cls, name, wanted))
            notes = Notes(key)
            message = _entity(cls, notes)
            header_class = cls.__header_schema__
            with io.BytesIO() as out:
                if wanted == "request":
                    header = header_class(
                        request_api_key=key,
                        request_api_version=cls.__version__,
                        correlation_id=CORRELATION,
                        client_id=CLIENT_ID,
                    )
                else:
                    header = header_class(correlation_id=CORRELATION)
                entity_writer(header_class)(out, header)
                entity_writer(cls)(out, message)
                body = out.getvalue()
            yield sample("kio", cls.__version__, len(body).to_bytes(4, "big") + body, notes)


def _is_message(cls: Any, name: str, wanted: str) -> bool:
    return dataclasses.is_dataclass(cls) and cls.__name__.lower() == name.replace("_", "") + wanted


def _entity(cls: Any, notes: Notes) -> Any:
    hints = typing.get_type_hints(cls)
    fields = [
        field
        for field in dataclasses.fields(cls)
        if "tag" not in field.metadata or field.default is dataclasses.MISSING
    ]
    either = {"name", "topic_id"} <= {field.name for field in fields} and notes.key in (3, 20)
    values = {}
    for field in fields:
        hint = hints[field.name]
        notes.aside += field.name in ASIDE
        if not either or field.name not in ("name", "topic_id"):
            values[field.name] = _kio_value(field, hint, notes)
        notes.aside -= field.name in ASIDE
    if either:
        values |= _either(notes, nullable=type(None) in typing.get_args(hints["name"]))
    return cls(**values)


def _kio_value(field: Any, hint: Any, notes: Notes) -> Any:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(each for each in typing.get_args(hint) if each is not type(None))
    if typing.get_origin(hint) is tuple:
        element = typing.get_args(hint)[0]
        return tuple(_kio_plain(field, element, notes) for _ in range(2))
    return _kio_plain(field, hint, notes)


def _kio_plain(field: Any, hint: Any, notes: Notes) -> Any:
    kind = field.metadata.get("kafka_type")
    if kind is None:
        return _entity(hint, notes)
    if hint is TopicName or field.name == "subscribed_topic_names":
        return notes.topic()
    if notes.key in RESOURCES and field.name in ("resource_type", "resource_name"):
        return notes.kind() if field.name == "resource_type" else notes.resource()
    if field.name == "topic_id" and kind == "uuid":
        return notes.topic_id()
    match kind:
        case "error_code":
            return ErrorCode(notes.error())
        case "string":
            return "text"
        case "bytes":
            return b"\1" * 37
        case "records":
            return b"\2" * 300
        case "uuid":
            return uuid.UUID(int=7)
        case "bool":
            return True
        case "timedelta_i32" | "timedelta_i64":
            return datetime.timedelta(milliseconds=1)
        case "datetime_i64":
            return datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return 1
