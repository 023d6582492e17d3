"""The loop of live capture: interfaces are followed, what comes is taken, and a failure ends it and is kept."""

import threading
import time

import pytest

from observer.datapath.interfaces import Changes, Interfaces
from observer.identity.endpoints import IpCache
from observer.live import loop
from observer.live.loop import Live
from observer.policy.engine import Engine
from tests.waiting import wait_until

PATIENCE_S = 10


class Recorder:
    """A tier that writes down what it is asked to do."""

    def __init__(self, failing: str = "") -> None:
        self.calls: list[str] = []
        self.descriptors: list[int] = []
        self.attached = self.pressures = self.needs = ()
        self._failing = failing

    def _note(self, what: str) -> None:
        self.calls.append(what)
        if what == self._failing and threading.current_thread() is not threading.main_thread():
            raise LookupError(what)

    def take(self, changes: Changes) -> None:
        self._note("take")

    def judge_by(self, endpoints: IpCache, policy: Engine | None) -> None:
        self._note("judge_by")

    def drain(self) -> None:
        self._note("drain")

    def tick(self, time_ns: int) -> None:
        assert abs(time_ns - time.time_ns()) < PATIENCE_S * 10**9
        self._note("tick")

    def close(self) -> None:
        self._note("close")


@pytest.fixture
def recorder():
    return Recorder()


def test_it_attaches_before_it_starts_and_drains_once_more_when_it_is_stopped(recorder, monkeypatch):
    monkeypatch.setattr(loop, "TICK_S", 0.0)
    stop = threading.Event()
    live = Live(recorder, Interfaces(["none-such"]), stop)
    assert recorder.calls == ["take"]
    live.start()
    wait_until(lambda: recorder.calls.count("tick") > 2)
    live.stop()
    assert stop.is_set()
    assert recorder.calls[-3:] == ["drain", "tick", "close"]
    assert live.failure is None


@pytest.mark.parametrize("failing", ["drain", "tick"])
def test_a_failure_ends_it_is_kept_and_everything_is_let_go(failing):
    recorder, stop = Recorder(failing), threading.Event()
    live = Live(recorder, Interfaces(["none-such"]), stop)
    live.start()
    assert stop.wait(PATIENCE_S)
    live.stop()
    assert isinstance(live.failure, LookupError)
    assert recorder.calls[-1] == "close"


def test_it_may_be_let_go_without_having_been_started(recorder):
    live = Live(recorder, Interfaces(["none-such"]), threading.Event())
    live.stop()
    assert recorder.calls == ["take", "close"]
