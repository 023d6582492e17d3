"""Text snapshots of every screen over the shop, at three sizes: `python -m tests.tui.snapshots` writes them anew.

What a machine has to do with (how long it has been up, how fast it read) is blanked.
"""

import re
from pathlib import Path
from unittest.mock import patch

from tests.tui.driving import drive, screen, typed, until

PLACE = Path(__file__).parent / "snapshots"
SIZES = ((80, 24), (120, 40), (200, 50))
SCENES = {
    "flows": [],
    "drops": ["v", "k", "k"],
    "detail": ["v", "E", "enter"],
    "bytes": ["v", "E", "enter", "x"],
    "filter": ["slash", "text:pod=shop/pay"],
    "mistake": ["slash", "text:dns and port=x1"],
    "completion": ["slash", "text:verdict="],
    "related": ["E", "r"],
    "search": ["asterisk", "text:charge", "enter"],
    "stream": ["E", "E", "E", "f", "right"],
    "top": ["2"],
    "map": ["3"],
    "nodes": ["4"],
    "name": ["v", "S", "text:refused"],
    "saved": ["v", "L"],
    "help": ["question_mark"],
    "columns": ["c"],
    "save": ["w"],
    "open": ["o"],
    "copy": ["Y"],
    "group": ["2", "b"],
}


async def play(app, pilot, keys):
    """Press the keys, and wait until what they ask for is there."""
    for key in keys:
        if key.startswith("text:"):
            await typed(pilot, key[5:])
        else:
            await pilot.press(key)
    pane = app.pane
    await until(pilot, lambda: pane is app.flows or pane.told > 0)
    if app.bar.question is not None:
        await until(pilot, lambda: app.bar.feedback != "")
        await pilot.pause(0.3)
    if app.flows.detail.bytes.display:
        await until(pilot, lambda: any("frame " in line for line in screen(app)))
    if "f" in keys:
        await until(pilot, lambda: any(re.search(r"[A-Z] /\S* HTTP/1.1", line) for line in screen(app)))
    await pilot.pause(0.2)


def picture(app):
    """The screen as text, without what differs from machine to machine."""
    # The ends of scroll bars are drawn a frame later, or not.
    lines = [re.sub(r"[▁▂▃▄▅▆▇](| │ *)$", r" \1", line).rstrip() for line in screen(app)]
    lines[0] = re.sub(r"[\d,]+ fl/s [ ▁▂▃▄▅▆▇█]*", "N fl/s  ", lines[0])
    out = []
    for line in lines:
        line = re.sub(r"^(    up {11}).*", r"\1TIME", line)
        line = re.sub(r"^(    flows here .* of the last ).*", r"\1TIME", line)
        line = re.sub(r"^(    version {6}).*", r"\1VERSION", line)
        out.append(line.rstrip())
    return "\n".join(out) + "\n"


def path(scene, size):
    return PLACE / f"{scene}-{size[0]}x{size[1]}.txt"


def take(scene, size):
    """The picture of one scene."""
    out = []

    async def steps(app, pilot):
        await play(app, pilot, SCENES[scene])
        out.append(picture(app))

    with patch("observer.client.capture.default_node_name", lambda: "node-1"):  # not this machine's
        drive(steps, size=size)
    return out[0]


if __name__ == "__main__":
    PLACE.mkdir(exist_ok=True)
    for size in SIZES:
        for scene in SCENES:
            path(scene, size).write_text(take(scene, size))
