"""Protobuf messages to JSON as Hubble's Go prints them (signatures; the body follows)."""

from __future__ import annotations

from google.protobuf.message import Message


def to_json(message: Message) -> str:
    """One line of JSON, without the newline: proto field names in declaration order, defaults left out."""
    raise NotImplementedError
