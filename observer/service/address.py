"""Addresses as users write them: host:port, unix:///path, unix:path. Text enters, what gRPC and sockets take leaves."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from observer.errors import ConfigError

DEFAULT_PORT: Final = 4245
MAX_PATH: Final = 107
"""Bytes in sockaddr_un.sun_path, without the final zero (unix(7))."""


@dataclass(frozen=True, slots=True)
class Address:
    """A place to listen on or to dial: a unix socket if it has a path, else TCP."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix://{self.path.absolute()}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def target(self) -> str:
        """What gRPC takes."""
        return str(self) if self.path is None else f"unix:{self.path.absolute()}"

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """Read an address; ConfigError if it is none."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        path = path[2:] if path.startswith("//") else path
        if not path or "\0" in path:
            raise ConfigError(f"{text!r} names no socket; write unix:///path/to/socket")
        if len(os.fsencode(Path(path).absolute())) > MAX_PATH:
            raise ConfigError(f"the path of the socket {path!r} is longer than {MAX_PATH} bytes; choose a shorter one")
        return Address(path=Path(path))
    if "://" in text:
        raise ConfigError(f"{text!r} is no address that flowscope knows; write host:port or unix:///path (no TLS yet)")
    host, port = _host_and_port(text)
    if not host:
        raise ConfigError(f"{text!r} names no host; write localhost{text}, or 0.0.0.0{text} for every interface")
    if not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ConfigError(f"{text!r} has no port from 0 to 65535; write host:port, such as localhost:{DEFAULT_PORT}")
    return Address(host=host, port=int(port))


def _host_and_port(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigError(f"{text!r} is no address; write an IPv6 address as [::1]:{DEFAULT_PORT}")
        return host, rest[1:] if rest else str(DEFAULT_PORT)
    if text.count(":") > 1:
        raise ConfigError(f"{text!r} is no address; write an IPv6 address as [::1]:{DEFAULT_PORT}")
    host, colon, port = text.partition(":")
    return host, port if colon else str(DEFAULT_PORT)


def check_free(address: Address) -> None:
    """Make sure that one may listen there, and take away the socket file of a server that is gone.

    ConfigError says what is in the way. gRPC itself would say only that it failed.
    """
    if address.path is not None:
        _clear_socket(address.path)
        return
    try:
        places = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"cannot listen on {address}: {error.strerror}; choose another with --listen") from error
    failures = []
    for family, kind, protocol, _, place in places:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
        except OSError as error:
            # A machine without IPv6 still knows localhost as ::1.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) or len(places) == 1:
                failures.append(error)
    if failures:
        reason = (failures[0].strerror or str(failures[0])).lower()
        raise ConfigError(f"cannot listen on {address}: {reason}; choose another with --listen") from failures[0]


def _clear_socket(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"cannot listen on {path}: a file is there that is no socket; choose another path")
    except FileNotFoundError:
        if not path.absolute().parent.is_dir():
            raise ConfigError(f"cannot listen on {path}: no such directory; make it first") from None
        return
    except OSError as error:
        raise ConfigError(f"cannot listen on {path}: {error.strerror}; choose another path") from error
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)  # left behind by a server that was killed
            return
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(f"cannot listen on {path}: {error.strerror or error}; choose another path") from error
    raise ConfigError(f"cannot listen on {path}: a server is listening there already; choose another path")
