"""A field mask over flow.Flow, as GetFlowsRequest carries it: proto names, `source.pod_name`, as Hubble applies it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message

from observer.api import flow_pb2
from observer.errors import FilterError

Tree = dict[str, "Tree"]


class FieldMask:
    """Copies the named fields of a flow and nothing else."""

    def __init__(self, paths: Iterable[str]) -> None:
        """Read the paths; FilterError "invalid fieldmask" if one does not exist."""
        self._tree: Tree = {}
        for path in paths:
            _check(path)
            node = self._tree
            for name in path.split("."):
                node = node.setdefault(name, {})

    def apply(self, flow: flow_pb2.Flow) -> flow_pb2.Flow:
        """A new flow with the fields of the mask; messages on the way to a field are always there."""
        masked = flow_pb2.Flow()
        _copy(self._tree, flow, masked)
        return masked


def _check(path: str) -> None:
    *parents, last = path.split(".")
    here: Any = flow_pb2.Flow.DESCRIPTOR
    for name in parents:
        field = here.fields_by_name.get(name) if here is not None else None
        # A path leads through messages only, and not through lists of them.
        here = field.message_type if field is not None and not field.is_repeated else None
    if here is None or last not in here.fields_by_name:
        raise FilterError(f"invalid fieldmask: {path}")


def _copy(tree: Tree, source: Message, target: Message) -> None:
    for name, below in tree.items():
        field = source.DESCRIPTOR.fields_by_name[name]
        value: Any = getattr(source, name)
        if below:
            if field.containing_oneof is None or source.HasField(name):  # no TCP made up beside the UDP that is there
                getattr(target, name).SetInParent()
                _copy(below, value, getattr(target, name))
        elif field.is_repeated:
            getattr(target, name).MergeFrom(value)
        elif field.message_type is not None:
            if source.HasField(name):
                getattr(target, name).CopyFrom(value)
        else:
            setattr(target, name, value)
