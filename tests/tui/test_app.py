"""The TUI as a whole: sources and their states, filters on the server and here, sizes, and what strangers send."""

import json
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from textual.events import MouseScrollDown

from observer.client import open_capture_source, open_server, open_servers
from observer.client import server as client_server
from observer.client.capture import CaptureSource
from observer.errors import FlowscopeError
from observer.identity.endpoints import Endpoint
from observer.store import Store
from tests.service.flows import SECOND_NS, START_NS, add_flows, make_store, serving
from tests.service.foreign import answering, without_batches
from tests.tui.driving import FLOWS, PCAPS, drive, notes, screen, shown, typed, under, until, verdicts
from tests.tui.flows import add, filled
from tui.config import Config, Session


def test_it_shows_the_flows_and_says_that_it_is_a_file():
    async def steps(app, pilot):
        lines = screen(app)
        assert "shop.pcap  FILE" in lines[0]
        assert lines[2].split() == ["TIME", "SOURCE", "DESTINATION", "PROTO", "VERDICT", "LATENCY", "SUMMARY"]
        assert any("✗ DROPPED" in line for line in lines)
        assert verdicts(app) == {"FORWARDED", "DROPPED"}

    drive(steps)


def test_a_refused_filter_is_told_and_changes_nothing():
    async def steps(app, pilot):
        rows = app.flows.rows
        await pilot.press("P")
        await typed(pilot, "http")
        await pilot.press("enter")
        assert any("port" in note for note in notes(app))
        assert (app.filter.text, app.flows.rows) == ("", rows)

    drive(steps)


def test_a_mistake_has_a_caret_below_it_while_it_is_typed():
    async def steps(app, pilot):
        await pilot.press("slash")
        await typed(pilot, "dns and port=x1")
        await until(pilot, lambda: app.bar.feedback.startswith(" " * 13 + "^ "))
        lines = screen(app)
        assert lines[1].index("x1") == lines[2].index("^")

    drive(steps)


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (20, 5), (200, 50)])
def test_every_size_is_usable_and_resizing_keeps_the_cursor(size):
    async def steps(app, pilot):
        assert len(screen(app)) == size[1]
        await pilot.press("k", "k", "k")
        cursor = app.flows.table.cursor
        for width, height in ((60, 15), (130, 30), size):
            await pilot.resize_terminal(width, height)
            await pilot.pause()
            assert app.flows.table.cursor == cursor
            assert under(app).source[:8] in "\n".join(screen(app)) or height < 6
        for key in ("2", "3", "4", "1", "enter", "x", "question_mark", "escape", "c", "escape"):
            await pilot.press(key)

    drive(steps, size=size)


def test_a_click_moves_the_cursor_and_a_second_one_opens():
    async def steps(app, pilot):
        await pilot.click(app.flows.table, offset=(50, 5))
        cursor = app.flows.table.cursor
        assert not app.flows.table.following
        assert app.flows.table.column == "destination"
        await pilot.click(app.flows.table, offset=(50, 5))
        assert (app.flows.detail.display, app.flows.table.cursor) == (True, cursor)
        await pilot.press("escape")
        app.flows.table.scroll_end(animate=False)
        await until(pilot, lambda: app.flows.table.on_screen()[-1] == FLOWS - 1)

    drive(steps)


def test_the_wheel_takes_the_cursor_along_and_the_end_is_live_again():
    async def steps(app, pilot):
        table = app.flows.table
        table.pause()
        table.scroll_to(y=0, animate=False, force=True)
        await until(pilot, lambda: table.cursor == table.on_screen()[-1])
        assert not table.following
        table.scroll_to(y=table.max_scroll_y - 1, animate=False, force=True)
        await until(pilot, lambda: table.scroll_y == table.max_scroll_y - 1)
        table.post_message(MouseScrollDown(table, 5, 5, 0, 1, 0, False, False, False))
        await until(pilot, lambda: table.following)
        assert table.cursor == FLOWS - 1

    drive(steps)


def test_a_detail_opened_of_the_last_flow_holds_still():
    async def steps(app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: app.flows.detail.display)
        for size in ((80, 24), (60, 15), (120, 40)):
            await pilot.resize_terminal(*size)
            await pilot.pause(0.2)
            assert not app.flows.table.following
        await until(pilot, lambda: app.status.reading.state == "PAUSED")

    drive(steps)


def test_a_long_line_of_a_conversation_is_wrapped():
    async def steps(app, pilot):
        await pilot.press("slash")
        await typed(pilot, "http.method=POST and verdict=FORWARDED")
        await pilot.press("enter", "f", "right")
        await until(pilot, lambda: any('{"order":1042,"amount":1299,' in line for line in screen(app)))
        await until(pilot, lambda: any('"EUR"}' in line for line in screen(app)))

    drive(steps, size=(40, 24))


def test_save_writes_flows_and_pictures_and_never_over_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def steps(app, pilot):
        await pilot.press("v", "w")
        await typed(pilot, "drops.jsonl")
        await pilot.press("enter")
        await until(pilot, lambda: any("wrote 50 flows to drops.jsonl" in note for note in notes(app)))
        assert {
            json.loads(line)["flow"]["verdict"] for line in (tmp_path / "drops.jsonl").read_text().splitlines()
        } == {"DROPPED"}
        await pilot.press("w")
        await typed(pilot, "drops.jsonl")
        await pilot.press("enter")
        await until(pilot, lambda: any("is there already" in line for line in screen(app)))
        for _ in "drops.jsonl":
            await pilot.press("backspace")
        await typed(pilot, "now.svg")
        await pilot.press("enter")
        await until(pilot, lambda: (tmp_path / "now.svg").exists())
        assert "DROPPED" in (tmp_path / "now.svg").read_text()

    drive(steps)


def test_open_reads_another_capture_and_says_what_is_wrong():
    async def steps(app, pilot):
        await pilot.press("v", "o")
        await typed(pilot, "/no/such.pcap")
        await pilot.press("enter")
        await until(pilot, lambda: any("/no/such.pcap: no such file" in line for line in screen(app)))
        await pilot.press("escape", "o")
        await typed(pilot, str(PCAPS / "dns-basic.pcap"))
        await pilot.press("enter")
        await until(pilot, lambda: app.feed.source.name == "dns-basic.pcap" and app.feed.told().word == "FILE")
        await until(pilot, lambda: len(app.flows.rows) > 0)
        assert app.filter.text == ""

    drive(steps)


def test_columns_time_and_sort_are_remembered(tmp_path):
    async def steps(app, pilot):
        await pilot.press("t", "c", "space", "enter", "2", "s")

    state = tmp_path / "state" / "tui.json"
    drive(steps, state=state)
    session = Session.load(state)
    assert (session.time, session.sort, session.columns[0]) == ("local", "bytes", "node")


def test_the_capture_is_read_by_one_at_a_time_and_the_last_one_asked_for_is_shown(monkeypatch):
    running, most = [], []
    read = CaptureSource.packets

    def slowly(*args, **options):
        running.append(1)
        most.append(len(running))
        time.sleep(0.2)
        running.pop()
        return read(*args, **options)

    monkeypatch.setattr(CaptureSource, "packets", slowly)

    async def steps(app, pilot):
        await pilot.press("x", *["k"] * 12)
        await until(pilot, lambda: any("frame " in line for line in screen(app)))
        shown = [line for line in screen(app) if "frame " in line]
        await pilot.press("escape", "x")
        await until(pilot, lambda: any("frame " in line for line in screen(app)))
        assert [line for line in screen(app) if "frame " in line] == shown
        assert max(most) == 1

    drive(steps)


def test_a_capture_that_is_gone_when_its_bytes_are_asked_for_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a short name, which is not wrapped
    path = Path("a.pcap")
    path.write_bytes((PCAPS / "shop.pcap").read_bytes())

    async def steps(app, pilot):
        await until(pilot, lambda: app.feed.told().word == "FILE" and len(app.flows.rows) > 0)
        path.unlink()
        await pilot.press("x")
        await until(pilot, lambda: any("a.pcap: no such file" in line for line in screen(app)))
        path.write_bytes((PCAPS / "shop.pcap").read_bytes())
        await pilot.press("k")
        await until(pilot, lambda: any("frame " in line for line in screen(app)))
        path.unlink()
        await pilot.press("escape", "escape", "f")
        await until(pilot, lambda: any("a.pcap: no such file" in line for line in screen(app)))

    drive(steps, size=(200, 40), source=open_capture_source(path))


def test_a_conversation_that_is_closed_while_its_bytes_are_read(monkeypatch):
    monkeypatch.setattr(CaptureSource, "packets", lambda *_: time.sleep(0.3) or done.append(1) or [])
    done = []

    async def steps(app, pilot):
        await pilot.press("f")
        await until(pilot, lambda: app.screen.id != "_default")
        await pilot.press("escape")
        await until(pilot, lambda: done != [])
        await pilot.pause(0.1)
        assert verdicts(app) == {"FORWARDED", "DROPPED"}

    drive(steps)


@pytest.mark.parametrize("theme", ["ansi-dark", "ansi-light", "colour-blind"])
@pytest.mark.parametrize("ascii", [False, True])
def test_themes_and_signs(theme, ascii):
    async def steps(app, pilot):
        lines = "\n".join(screen(app))
        assert ("x DROPPED" in lines, "✗ DROPPED" in lines) == (ascii, not ascii)
        if ascii:
            await pilot.press("2", "3", "1")
            assert "\n".join(screen(app)).isascii()

    drive(steps, config=Config(ring=4096, theme=theme, ascii=ascii))


def test_ascii_is_ascii_in_every_window():
    async def steps(app, pilot):
        await pilot.press("v", "k", "enter", "x")
        await until(pilot, lambda: any("frame " in line for line in screen(app)))
        assert "\n".join(screen(app)).isascii()
        await pilot.press("escape", "escape")
        windows = ("f", "c", "w", "o", "Y", "L", "question_mark", "colon")
        for name in windows:
            await pilot.press(name)
            await until(pilot, lambda: len(app.screen_stack) == 2)
            await pilot.pause(0.5)
            assert "\n".join(screen(app)).isascii(), name
            await pilot.press("escape")
            await until(pilot, lambda: len(app.screen_stack) == 1)
        for keys in (("S",), ("escape", "slash", "a", "n", "d", "x"), ("escape", "2", "b")):
            await pilot.press(*keys)
            await pilot.pause(0.3)
            assert "\n".join(screen(app)).isascii(), keys

    drive(steps, config=Config(ring=4096, ascii=True), size=(80, 24))


def test_no_color_leaves_the_words(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")

    async def steps(app, pilot):
        assert any("✗ DROPPED" in line for line in screen(app))
        assert app.no_color

    drive(steps)


def test_an_empty_screen_says_why(tmp_path):
    empty = tmp_path / "empty.pcap"
    empty.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))

    async def steps(app, pilot):
        await until(pilot, lambda: any("the capture makes no flows" in line for line in screen(app)))

    drive(steps, source=open_capture_source(empty))

    async def hidden(app, pilot):
        await pilot.press("slash")
        await typed(pilot, "no-such-name")
        await pilot.press("enter")
        await until(pilot, lambda: any("the filter hides all 239 flows held" in line for line in screen(app)))

    drive(hidden)


# -- servers


def test_a_server_is_live_and_does_what_it_can_of_a_filter():
    served = make_store(10)
    with serving(served, "127.0.0.1:0") as (_, bound):

        async def steps(app, pilot):
            await until(pilot, lambda: app.feed.told().word == "LIVE" and len(app.flows.rows) == 10)
            await pilot.press("v")
            assert verdicts(app) == {"DROPPED"}  # at once, of what is held
            await until(pilot, lambda: app.flows.store is not app.feed.base)
            assert app.bar.shown.where == "pushed to server"
            add_flows(served, 4, START_NS + 60 * SECOND_NS)
            await until(pilot, lambda: len(shown(app)) == 7)
            assert verdicts(app) == {"DROPPED"}
            assert len(app.feed.base) == 10  # rests meanwhile
            await pilot.press("k", "k")
            place = under(app).time_ns
            await pilot.press("F")
            await until(pilot, lambda: len(shown(app)) == 14)  # what was missed came, once
            assert under(app).time_ns == place
            await pilot.press("F")
            await until(pilot, lambda: app.flows.store is not app.feed.base and len(shown(app)) == 7)
            assert under(app).time_ns == place

        drive(steps, source=open_server(bound), finite=False)


def test_a_part_that_no_server_can_do_is_judged_here():
    with serving(filled(400), "127.0.0.1:0") as (_, bound):

        async def steps(app, pilot):
            await until(pilot, lambda: app.feed.told().word == "LIVE")
            app.use_filter("verdict=FORWARDED and latency>300us")
            await until(pilot, lambda: app.flows.store is not app.feed.base)
            assert app.bar.shown.where == "pushed to server in part, rest local"
            await until(pilot, lambda: app.flows.rows.complete)
            assert len(shown(app)) == sum(n % 4 >= 2 and n > 300 and n % 10 != 0 for n in range(400))

        drive(steps, source=open_server(bound), finite=False)


def test_a_plain_hubble_node_works(monkeypatch):
    without_batches(monkeypatch)
    served = make_store(10)
    with serving(served, "127.0.0.1:0") as (_, bound):

        async def steps(app, pilot):
            await until(pilot, lambda: len(app.flows.rows) == 10)
            await pilot.press("v")
            await until(pilot, lambda: app.flows.store is not app.feed.base and len(shown(app)) == 5)
            await pilot.press("enter", "x", "f", "escape", "r", "escape", "escape", "escape")
            for key in "234":
                await pilot.press(key)
                await until(pilot, lambda: app.pane.told > 0 and app.pane.outline.items)
            assert any(bound in line for line in screen(app))

        drive(steps, source=open_server(bound), finite=False)


def test_a_server_that_goes_away_freezes_the_data_and_comes_back_without_doubles(monkeypatch, tmp_path):
    monkeypatch.setattr(client_server, "RECONNECT_S", 0.05)
    address = f"unix://{tmp_path}/s.sock"

    with ExitStack() as first:
        first.enter_context(serving(make_store(5), address))

        async def steps(app, pilot):
            await until(pilot, lambda: app.feed.told().word == "LIVE" and len(app.flows.rows) == 5)
            first.close()
            await until(pilot, lambda: "RECONNECTING" in screen(app)[0])
            assert "data frozen since " in screen(app)[0]
            assert len(shown(app)) == 5
            with serving(make_store(7), address):  # another life of the server: the same five flows and two more
                await until(pilot, lambda: app.feed.told().word == "LIVE" and len(app.flows.rows) == 7)

        drive(steps, source=open_server(address), finite=False)


def test_a_server_that_is_not_there_is_told():
    async def steps(app, pilot):
        await until(pilot, lambda: "FAILED" in screen(app)[0])
        assert "connection refused" in screen(app)[0]
        assert any("not connected" in line for line in screen(app))
        await pilot.press("4")
        await until(pilot, lambda: any("cannot reach" in line for line in screen(app)))

    drive(steps, source=open_server("127.0.0.1:1"), finite=False)


def test_several_servers_are_one_list_in_order_of_time():
    one, two = make_store(5), make_store(0)
    two.nodes[:] = ["", "node-2"]
    add_flows(two, 5, START_NS + SECOND_NS // 2)
    with serving(one, "127.0.0.1:0") as (_, first), serving(two, "127.0.0.1:0", node_name="node-2") as (_, second):

        async def steps(app, pilot):
            await until(pilot, lambda: len(app.flows.rows) == 10)
            rows = shown(app)
            assert [row.time_ns for row in rows] == sorted(row.time_ns for row in rows)
            assert [row.node for row in rows] == ["node-1", "node-2"] * 5
            await pilot.press("4")
            await until(pilot, lambda: app.pane.told > 0 and len(app.pane.outline.items) > 4)
            text = "\n".join(screen(app))
            assert "node-1" in text
            assert "node-2" in text

        drive(steps, source=open_servers([first, second]), finite=False, size=(180, 40))


def store_with(source: Endpoint, node: str) -> Store:
    """Three flows, and the same three from another source."""
    store = Store(64)
    store.nodes.append(node)
    add_flows(store, 3)
    records, _, _, _ = store.take(np.arange(3))
    records["source_endpoint"] = store.endpoints.intern(source)
    store.append(records, node=1)
    return store


def test_names_of_a_hostile_server_never_reach_the_terminal_raw():
    evil = Endpoint(
        identity=300,
        namespace="\x1b]0;pwn\x07",
        pod="\u202eexe.tni",
        labels=("k8s:a=\x9b31m",),
        workloads=(("日本\x1b[31m", "\r\n"),),
    )
    store = store_with(evil, node="node-\x1b[2J")
    with serving(store, "127.0.0.1:0") as (_, bound):

        async def steps(app, pilot):
            await until(pilot, lambda: len(app.flows.rows) == 6)
            for keys in (
                ["enter"],
                ["x"],
                ["f"],
                ["escape", "y"],
                ["Y", "f"],
                ["plus"],
                ["2"],
                ["3"],
                ["4"],
                ["1", "colon"],
            ):
                await pilot.press(*keys)
                await pilot.pause(0.3)
                text = "".join(screen(app))
                assert not set(text) & set("\x1b\x07\x9b\u202e\r\n"), keys
            assert all(len(line) <= 100 for line in screen(app))

        drive(steps, source=open_server(bound), finite=False, size=(100, 30))


def test_a_flood_is_sampled_and_what_is_left_out_is_counted(monkeypatch):
    without_batches(monkeypatch)
    served = filled(0, capacity=1 << 16)
    with serving(served, "127.0.0.1:0") as (_, bound):

        async def steps(app, pilot):
            await until(pilot, lambda: app.feed.told().word == "LIVE")
            sent = 0
            while app.feed.lost + app.feed.skipped == 0:
                add(served, 20_000)
                sent += 20_000
                await pilot.pause(0.02)
                assert sent < 20_000_000
            await pilot.press("k")
            assert not app.flows.table.following
            await until(pilot, lambda: "lost" in screen(app)[0] and not screen(app)[0].endswith("lost 0"))

        drive(steps, source=open_server(bound), finite=False)


def test_unreadable_messages_end_in_words_not_in_a_traceback():
    with answering(GetFlows=[b"\xff\xff\xff"], ServerStatus=b"") as bound:

        async def steps(app, pilot):
            await until(pilot, lambda: "FAILED" in screen(app)[0])
            assert "sent a flow that cannot be read" in screen(app)[0]

        drive(steps, source=open_server(bound), finite=False)


# -- no server


class Offering:
    """An offer that starts a capture as if it were a local observer, or fails as it does."""

    text = "nobody answers\x1b[2J\n\ntier       packet"

    def __init__(self, source, *, possible=True):
        self.possible = possible
        self._source = source

    def start(self):
        if self._source is None:
            raise FlowscopeError("the local observer did not start: no rights")
        return self._source


def test_without_a_server_a_local_observer_is_offered_and_started():
    with serving(make_store(10), "127.0.0.1:0") as (_, bound):
        local = open_server(bound)

        async def steps(app, pilot):
            text = "\n".join(screen(app))
            assert "No server answers" in text
            assert "nobody answers^[[2J" in text
            assert "tier       packet" in text
            await pilot.press("s")
            await until(pilot, lambda: app.feed.told().word == "LIVE" and verdicts(app) == {"DROPPED"})
            assert len(app.screen_stack) == 1

        drive(steps, source=open_server("127.0.0.1:1"), finite=False, offer=Offering(local), filter="verdict=DROPPED")
        local.close()


def test_a_local_observer_that_does_not_start_is_told_and_offered_again():
    async def steps(app, pilot):
        await pilot.press("s")
        await until(pilot, lambda: any("did not start: no rights" in line for line in screen(app)))
        await pilot.press("r")
        await until(pilot, lambda: len(app.screen_stack) == 1 and "FAILED" in screen(app)[0])

    drive(steps, source=open_server("127.0.0.1:1"), finite=False, offer=Offering(None))


def test_without_rights_nothing_is_started_but_a_capture_can_be_opened():
    async def steps(app, pilot):
        assert not any("a local observer, until" in line for line in screen(app))
        await pilot.press("o")
        await until(pilot, lambda: any("Open a capture" in line for line in screen(app)))
        await typed(pilot, str(PCAPS / "dns-basic.pcap"))
        await pilot.press("enter")
        await until(pilot, lambda: app.feed.told().word == "FILE" and len(app.flows.rows) > 0)

    drive(steps, source=open_server("127.0.0.1:1"), finite=False, offer=Offering(None, possible=False))


def test_wide_characters_keep_the_columns_straight():
    wide = Endpoint(identity=300, namespace="店", pod="支払いゲートウェイ-é-🛒-0")
    store = store_with(wide, node="node-1")
    with serving(store, "127.0.0.1:0") as (_, bound):

        async def steps(app, pilot):
            await until(pilot, lambda: len(app.flows.rows) == 6)
            for width in (80, 100, 121, 160):
                await pilot.resize_terminal(width, 20)
                await pilot.pause(0.2)
                lines = screen(app)[3:9]
                assert {cell_len(line) for line in lines} == {width}
                places = {cell_len(line[: line.index("->")]) for line in lines}
                assert len(places) == 1
            for key in ("2", "3"):
                await pilot.press(key)
                await until(pilot, lambda: app.pane.told > 0)
                assert {cell_len(line) for line in screen(app)} == {160}

        drive(steps, source=open_server(bound), finite=False, size=(80, 20))


def test_drawn_lines_that_are_kept_have_a_bound(monkeypatch):
    monkeypatch.setattr("tui.widgets.flow_table.STRIPS_KEPT", 10)

    async def steps(app, pilot):
        for _ in range(6):
            await pilot.press("pageup")
            assert len(app.flows.table._strips) <= 10

    drive(steps)
