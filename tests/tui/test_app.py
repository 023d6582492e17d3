"""The TUI driven by keys over a real source: the shop's capture, run through the pipeline."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from observer.client import Source, open_capture_source
from tui.app import FlowscopeApp

PCAPS = Path(__file__).parent.parent.parent / "fixtures" / "pcaps"
Steps = Callable[[FlowscopeApp, Pilot[None]], Awaitable[None]]


def shop(*, realtime: bool = False) -> Source:
    return open_capture_source(
        PCAPS / "shop.pcap",
        identities=PCAPS / "shop.identities.yaml",
        policies=[PCAPS / "shop.policy.yaml"],
        realtime=realtime,
    )


def drive(steps: Steps, *, size: tuple[int, int] = (120, 40), source: Source | None = None) -> None:
    source = source or shop()

    async def run() -> None:
        app = FlowscopeApp(source, capacity=4096, finite=True)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app._table.cursor >= 0)
            await steps(app, pilot)

    try:
        asyncio.run(run())
    finally:
        source.close()


async def until(pilot: Pilot[None], condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Let the app run until the condition holds; it has to, within `seconds`."""
    for _ in range(int(seconds / 0.05)):
        await pilot.pause(0.05)
        if condition():
            return
    raise AssertionError("it never came")


def screen(app: FlowscopeApp) -> list[str]:
    """The lines of the screen as text."""
    return ["".join(segment.text for segment in line) for line in app.screen._compositor.render_strips()]


def verdicts(app: FlowscopeApp) -> set[str]:
    view = app._table.view
    rows = [view.row(sequence) for sequence in range(view.store.first, view.store.next)]
    return {row.verdict_name for row in rows if row is not None}


def reading(app: FlowscopeApp):
    return app._status.reading


def test_it_shows_the_flows_and_says_that_it_is_a_file():
    async def steps(app, pilot):
        await until(pilot, lambda: reading(app).state == "FILE")
        lines = screen(app)
        assert "shop.pcap" in lines[0]
        assert lines[1].split() == ["TIME", "SOURCE", "DESTINATION", "VERDICT", "LATENCY", "SUMMARY"]
        assert any("✗ DROPPED" in line for line in lines)
        assert verdicts(app) == {"FORWARDED", "DROPPED"}

    drive(steps)


def test_v_filters_by_verdict_on_the_source():
    async def steps(app, pilot):
        everything = app._store.next
        await pilot.press("v")
        await until(pilot, lambda: 0 < app._store.next < everything and reading(app).state == "FILE")
        assert verdicts(app) == {"DROPPED"}
        assert reading(app).filter == "verdict DROPPED"
        await pilot.press("F")
        await until(pilot, lambda: verdicts(app) == {"FORWARDED", "DROPPED"})
        assert reading(app).filter == "(verdict DROPPED) off"
        await pilot.press("F")
        await until(pilot, lambda: verdicts(app) == {"DROPPED"})

    drive(steps)


@pytest.mark.parametrize(
    ("key", "typed", "shown"), [("p", "payment", "shop/payment"), ("p", "shop/order", "shop/order"), ("P", "53", ":53")]
)
def test_p_and_capital_p_filter_by_pod_and_port(key, typed, shown):
    async def steps(app, pilot):
        await pilot.press(key)
        await pilot.press(*typed)
        await pilot.press("enter")
        await until(pilot, lambda: reading(app).filter.endswith(typed) and reading(app).state == "FILE")
        view = app._table.view
        rows = [view.row(sequence) for sequence in range(view.store.first, view.store.next)]
        assert rows
        assert all(shown in row.source + row.destination for row in rows)

    drive(steps)


def test_a_refused_filter_is_told_and_changes_nothing():
    async def steps(app, pilot):
        before = app._store
        await pilot.press("P", *"http", "enter")
        await pilot.pause()
        assert app._store is before
        assert any("port" in note.message for note in app._notifications)
        assert reading(app).filter == ""

    drive(steps)


def test_moving_up_pauses_and_the_end_resumes():
    async def steps(app, pilot):
        table = app._table
        assert table.following
        await pilot.press("up", "k")
        assert not table.following
        assert table.cursor == table._next - 3
        await until(pilot, lambda: reading(app).state == "PAUSED")
        await pilot.press("j", "down")
        assert table.following
        await pilot.press("space")
        assert not table.following
        await pilot.press("home")
        assert table.cursor == table._first
        await pilot.press("G")
        assert (table.following, table.cursor) == (True, table._next - 1)

    drive(steps)


def test_enter_opens_a_flow_with_the_rule_that_refused_it_and_escape_closes_it():
    async def steps(app, pilot):
        await pilot.press("v")
        await until(pilot, lambda: verdicts(app) == {"DROPPED"} and reading(app).state == "FILE")
        view = app._table.view
        await pilot.press("home")
        for _ in range(view.store.next):
            row = view.row(app._table.cursor)
            if row is not None and row.type == "http-request" and row.summary.startswith("GET"):
                break
            await pilot.press("j")
        await pilot.press("enter")
        await pilot.pause()
        assert app._detail.display
        text = "\n".join(screen(app))
        assert "POLICY_DENIED" in text
        assert "denied by" in text
        await pilot.press("escape")
        await pilot.pause()
        assert not app._detail.display

    drive(steps)


def test_the_prompt_takes_letters_that_are_keys_elsewhere_and_escape_leaves_it():
    async def steps(app, pilot):
        await pilot.press("p", "q", "v", "escape")
        await pilot.pause()
        assert app.is_running
        assert reading(app).filter == ""

    drive(steps)


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (200, 50)])
def test_every_size_is_usable(size):
    async def steps(app, pilot):
        lines = screen(app)
        assert len(lines) == size[1]
        await pilot.press("k")
        cursor = app._table.cursor
        await pilot.resize_terminal(60, 15)
        await pilot.pause()
        assert app._table.cursor == cursor

    drive(steps, size=size)


def test_q_quits():
    async def steps(app, pilot):
        await pilot.press("q")
        await pilot.pause()
        assert not app.is_running

    drive(steps)
