"""Draw docs/tui.svg, the README's picture: `python -m tests.tui.screenshot` (what the shop refused)."""

import asyncio
from pathlib import Path

from tests.tui.test_app import reading, shop, until
from tui.app import FlowscopeApp

PICTURE = Path(__file__).parent.parent.parent / "docs" / "tui.svg"


async def draw() -> None:
    app = FlowscopeApp(shop(), finite=True)
    async with app.run_test(size=(130, 34)) as pilot:
        await pilot.press("v")
        await until(pilot, lambda: app._store.next > 0 and reading(app).state == "FILE")
        table = app._table
        await pilot.press("home")
        while (row := table.view.row(table.cursor)) is None or "DELETE" not in row.summary:
            await pilot.press("j")
        await pilot.press("enter")
        await until(pilot, lambda: reading(app).state == "PAUSED")
        PICTURE.write_text(app.export_screenshot(title="flowscope"))


if __name__ == "__main__":
    asyncio.run(draw())
