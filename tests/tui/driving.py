"""Driving the TUI by keys, over the shop's capture run through the pipeline."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from textual.pilot import Pilot

from observer.client import Source, open_capture_source
from tui.app import FlowscopeApp
from tui.config import Config

PCAPS = Path(__file__).parent.parent.parent / "fixtures" / "pcaps"
FLOWS = 239
"""Flows that the shop's capture makes."""
Steps = Callable[[FlowscopeApp, Pilot[None]], Awaitable[None]]


def shop(*, realtime: bool = False) -> Source:
    return open_capture_source(
        PCAPS / "shop.pcap",
        identities=PCAPS / "shop.identities.yaml",
        policies=[PCAPS / "shop.policy.yaml"],
        realtime=realtime,
    )


def drive(
    steps: Steps, *, size: tuple[int, int] = (120, 40), source: Source | None = None, finite: bool = True, **options
):
    """Run the app until `steps` are done; with the shop, once it is read."""
    given = source
    source = source or shop()
    options.setdefault("config", Config(ring=4096))

    async def run() -> None:
        app = FlowscopeApp(source, finite=finite, **options)
        async with app.run_test(size=size) as pilot:
            if given is None:
                await until(pilot, lambda: len(app.flows.rows) == FLOWS and app.feed.told().word == "FILE")
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


async def typed(pilot: Pilot[None], text: str) -> None:
    """Type a text, letter by letter."""
    await pilot.press(*("space" if letter == " " else letter for letter in text))


def screen(app: FlowscopeApp) -> list[str]:
    """The lines of the screen as text."""
    return ["".join(segment.text for segment in line) for line in app.screen._compositor.render_strips()]


def shown(app: FlowscopeApp) -> list:
    """The rows of the table, all of them."""
    rows = app.flows.rows
    return [row for place in range(len(rows)) if (row := app.flows.view.row(rows.at(place))) is not None]


def verdicts(app: FlowscopeApp) -> set[str]:
    return {row.verdict for row in shown(app)}


def under(app: FlowscopeApp):
    """The row under the cursor."""
    return app.flows.view.row(app.flows.table.cursor)


def notes(app: FlowscopeApp) -> list[str]:
    return [note.message for note in app._notifications]
