"""Draw the README's pictures, docs/tui*.svg, over the shop: `python -m tests.tui.screenshot`."""

import re
from pathlib import Path
from unittest.mock import patch

from tests.tui.driving import drive, typed, under, until
from tui.export import picture_of

DOCS = Path(__file__).parent.parent.parent / "docs"
SIZE = (130, 34)


def draw(name, steps):
    async def whole(app, pilot):
        await steps(app, pilot)
        await pilot.pause(0.3)
        picture = picture_of(app.export_screenshot(title="flowscope"))
        # Named at random each time; a picture that is drawn again is the same.
        (DOCS / name).write_text(re.sub(r"terminal-\d+", "terminal", picture))

    with patch("observer.client.capture.default_node_name", lambda: "node-1"):
        drive(whole, size=SIZE)


async def flows(app, pilot):
    await pilot.press("v", "home")
    while "DELETE" not in under(app).summary:
        await pilot.press("j")
    await pilot.press("enter")


async def typing(app, pilot):
    await pilot.press("slash")
    await typed(pilot, "verdict=DROPPED and to-pod=")
    await until(pilot, lambda: app.bar.feedback != "" and len(app.bar.completions) > 0)


async def stream(app, pilot):
    await pilot.press("slash")
    await typed(pilot, "http.method=POST and verdict=FORWARDED")
    await pilot.press("enter", "f", "right")
    await pilot.pause(0.5)


def pane(key):
    async def steps(app, pilot):
        await pilot.press(key)
        await until(pilot, lambda: app.pane.told > 0)

    return steps


if __name__ == "__main__":
    draw("tui.svg", flows)
    draw("tui-filter.svg", typing)
    draw("tui-stream.svg", stream)
    draw("tui-top.svg", pane("2"))
    draw("tui-map.svg", pane("3"))
    draw("tui-nodes.svg", pane("4"))
