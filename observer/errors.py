"""What can go wrong because of the user's input, each told as one line that says what to do.

Peers never raise these: bytes from the network are counted (losses.py), not thrown.
"""

from __future__ import annotations


class FlowscopeError(Exception):
    """An error whose message is complete for the user: one line, no traceback, exit code 1."""


class CaptureError(FlowscopeError):
    """A capture file cannot be opened or is no capture."""


class DecodeError(FlowscopeError):
    """Recorded flows or batches from a server cannot be decoded."""


class FilterError(FlowscopeError):
    """A filter value is refused; `position` is the character offset in the filter text, if there is one."""

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class ConfigError(FlowscopeError):
    """An identities file, an option or an environment variable is wrong."""


class PolicyError(FlowscopeError):
    """A policy document is refused; the message names file, document and field."""


class DatapathError(FlowscopeError):
    """The kernel or a library refuses what live capture needs: with its errno, and the verifier's log, if there is."""

    def __init__(self, message: str, *, number: int = 0, log: str = "") -> None:
        super().__init__(message)
        self.number = number
        self.log = log
