"""Waiting for what another thread or process does, instead of sleeping for as long as it may take."""

import time
from collections.abc import Callable

PATIENCE_S = 20


def wait_until(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds; it has to, within PATIENCE_S."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
