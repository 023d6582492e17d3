"""A progress bar on a terminal: how much of a capture was read. Bytes enter; nothing is said where nobody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Final, TextIO, TypeVar

T = TypeVar("T")

WIDTH: Final = 30
PERIOD_S: Final = 0.1
"""Between two paintings; a short capture shows no bar at all."""


class Progress:
    """One line on `stream`, painted over itself and wiped away before anything else is written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.shown = stream.isatty()
        self._shares_terminal = self.shown and sys.stdout.isatty()
        self._next_s = time.monotonic() + PERIOD_S
        self._painted = False

    def update(self, done: int, size: int) -> None:
        """Paint, if it is time to."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + PERIOD_S
        share = min(1.0, done / size) if size else 1.0
        bar = ("#" * int(share * WIDTH)).ljust(WIDTH, ".")
        self._stream.write(f"\r[{bar}] {share:4.0%} of {size / 1e6:.1f} MB")
        self._stream.flush()
        self._painted = True

    def wipe(self) -> None:
        """Take the bar away."""
        if self._painted:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._painted = False

    def around(self, items: Iterator[T]) -> Iterator[T]:
        """Pass `items` on; where they are printed on the same terminal, the bar makes room first."""
        try:
            for item in items:
                if self._shares_terminal:
                    self.wipe()
                yield item
        finally:
            self.wipe()
