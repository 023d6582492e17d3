"""A local observer for `flowscope tui`: what it could capture here, by which command, and starting it as a child.

Nothing is started before the user asks for it. The child listens on a socket in a directory of its own and ends with
the TUI.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from observer.client import Source, open_server
from observer.datapath.rights import EBPF, PACKET, missing
from observer.errors import FlowscopeError

READY_S: Final = 15.0
"""How long a child may take until it answers."""
STOP_S: Final = 5.0


def offer() -> str:
    """What a local observer would get here and which capability is missing for more, in lines for the user."""
    no_ebpf, no_packet = missing(EBPF), missing(PACKET)
    lines = [f"command    {shlex.join(_command('unix:///PATH'))}"]
    if not no_ebpf:
        lines.append("tier       the best that loads: eBPF programs, else packet sockets")
    elif not no_packet:
        lines.append(f"tier       packet (sockets); eBPF needs {', '.join(one.name for one in no_ebpf)} besides")
    else:
        names = ", ".join(one.name for one in dict.fromkeys((*no_packet, *no_ebpf)))
        lines.append(f"tier       none: this user lacks {names}; start it as root, or open a capture")
    return "\n".join(lines)


def possible() -> bool:
    """Whether any tier can start with the capabilities of this process."""
    return not missing(PACKET) or not missing(EBPF)


def _command(listen: str) -> list[str]:
    return [sys.executable, "-m", "observer.cli", "serve", "--interface", "*", "--listen", listen]


class LocalObserver:
    """A child that serves this machine's flows; a context manager that ends it."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="flowscope-")
        self._words = Path(self._directory.name) / "stderr"
        self._socket = Path(self._directory.name) / "observer.sock"
        with self._words.open("wb") as words:
            self._child = subprocess.Popen(
                _command(f"unix://{self._socket}"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=words
            )

    def source(self) -> Source:
        """Its flows, once it answers; FlowscopeError with its own words where it ended."""
        end = time.monotonic() + READY_S
        source = open_server(f"unix://{self._socket}")
        while time.monotonic() < end:
            if self._child.poll() is not None:
                break
            try:
                source.status()
            except FlowscopeError:
                time.sleep(0.1)
            else:
                return source
        source.close()
        said = self._words.read_text(errors="backslashreplace").strip().splitlines()
        raise FlowscopeError(f"the local observer did not start: {said[-1] if said else 'it says nothing'}")

    def close(self) -> None:
        """End the child and take its files away."""
        self._child.terminate()
        try:
            self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._directory.cleanup()
