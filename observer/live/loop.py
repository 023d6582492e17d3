"""Live capture: one thread that follows the interfaces, takes what a capture tier has seen, and lets time pass.

A tier (`Capture`) puts flows into a store; here is when it is asked to. Knows no tier, no command line and no server.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from observer.datapath.interfaces import Changes, Interfaces
from observer.datapath.rights import Capability
from observer.identity.endpoints import IpCache
from observer.policy.engine import Engine

PAUSE_S: Final = 0.005
"""How long what comes is let gather: one round of work for all of it."""
IDLE_S: Final = 0.02
"""How long a round may wait for payload, which wakes it. Records do not, that would cost the kernel's programs more."""
TICK_S: Final = 1.0
"""How often time passes for idle connections, and losses are read."""

Pressures = Sequence[tuple[str, int, int]]
"""How full the tables are: name, entries, most entries."""


class Capture(Protocol):
    """A tier at work; used by one thread, but for `attached` and `pressures`."""

    @property
    def descriptors(self) -> Sequence[int]:
        """They become readable when `drain` has something to do."""
        ...

    @property
    def attached(self) -> Sequence[str]:
        """What is captured from, and how."""
        ...

    @property
    def pressures(self) -> Pressures:
        """How full the tables of the kernel are."""
        ...

    @property
    def needs(self) -> Collection[Capability]:
        """What it cannot do without from now on."""
        ...

    def take(self, changes: Changes) -> None:
        """Capture from what came; let go what went."""
        ...

    def judge_by(self, endpoints: IpCache, policy: Engine | None) -> None:
        """Judge flows by these from now on; PolicyError where it cannot, and then nothing changes."""
        ...

    def drain(self) -> None:
        """Put what was seen into the store."""
        ...

    def tick(self, time_ns: int) -> None:
        """Count losses and end what was silent for too long, at this wall time."""
        ...

    def close(self) -> None:
        """Let go everything."""
        ...


class Live:
    """A capture at work in a thread of its own, from `start` until `stop` is called or set, or it fails and sets it."""

    def __init__(
        self,
        capture: Capture,
        interfaces: Interfaces,
        stop: threading.Event,
        each_tick: Callable[[], None] = lambda: None,
    ) -> None:
        """`each_tick` is called by the thread about once a second."""
        self._capture = capture
        self._each_tick = each_tick
        self._interfaces = interfaces
        self._stopping = stop
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self.failure: BaseException | None = None
        """Why it ended by itself."""
        # What is there already is attached to before anybody is told that we are ready.
        capture.take(interfaces.changes())

    def start(self) -> None:
        """Begin to take what is seen."""
        self._thread.start()

    def stop(self) -> None:
        """Take what has come until now, and let go everything."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._interfaces.close()
        self._capture.close()

    def _run(self) -> None:
        try:
            self._rounds()
        except BaseException as error:  # noqa: BLE001  who waits for the thread raises it
            self.failure = error
            self._stopping.set()

    def _rounds(self) -> None:
        capture, interfaces = self._capture, self._interfaces
        poll = select.poll()
        for descriptor in (interfaces.fd, *capture.descriptors):
            poll.register(descriptor, select.POLLIN)
        ticked = time.monotonic()
        while not self._stopping.wait(PAUSE_S):
            if any(descriptor == interfaces.fd for descriptor, _ in poll.poll(IDLE_S * 1000)):
                capture.take(interfaces.changes())
            capture.drain()
            if time.monotonic() >= ticked + TICK_S:
                ticked = time.monotonic()
                capture.tick(time.time_ns())
                self._each_tick()
        capture.drain()
        capture.tick(time.time_ns())
