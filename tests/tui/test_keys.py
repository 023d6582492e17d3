"""Every key of the table, pressed: what it does is seen on the app. A key without a test fails."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from observer.errors import ConfigError
from tests.tui.driving import FLOWS, drive, notes, screen, shown, typed, under, until, verdicts
from tui.config import Config
from tui.keys import BY_ID, KEYS, PLACES, check_keymap, markdown, with_keymap
from tui.screens.choice import Choice
from tui.screens.columns import ColumnChooser
from tui.screens.export import Export
from tui.screens.fields import FieldChooser
from tui.screens.help import Help
from tui.screens.open import Open
from tui.screens.saved import SavedFilters
from tui.screens.stream import StreamWindow

TESTS = {}


def key(*ids):
    def take(steps):
        for one in ids:
            assert one not in TESTS
            TESTS[one] = steps
        return steps

    return take


def keys_of(one):
    return [name.strip() for name in BY_ID[one].keys.split(",")]


async def open_top(app, pilot):
    await pilot.press("2")
    await until(pilot, lambda: app.top.told > 0)


@key("app.filter", "filter.enter")
async def slash_filters_by_any_text(app, pilot):
    await pilot.press("slash")
    await typed(pilot, "http.status=201 and dns")
    await until(pilot, lambda: "0 of 239" in app.bar.feedback)
    for _ in " and dns":
        await pilot.press("backspace")
    await until(pilot, lambda: "of 239 flows held" in app.bar.feedback)
    await pilot.press("enter")
    await until(pilot, lambda: app.filter.text == "http.status=201" and 0 < len(shown(app)) < FLOWS)
    assert all(row.summary.startswith("201") for row in shown(app))
    assert app.flows.table.has_focus


@key("app.filter_off")
async def capital_f_sets_the_filter_aside_and_keeps_the_place(app, pilot):
    await pilot.press("v", "k", "k")
    place = app.flows.table.cursor
    await pilot.press("F")
    assert (len(shown(app)), app.flows.table.cursor) == (FLOWS, place)
    assert "(verdict=DROPPED) off" in screen(app)[1]
    await pilot.press("F")
    assert (verdicts(app), app.flows.table.cursor) == ({"DROPPED"}, place)


@key("app.filter_back", "app.filter_forward")
async def brackets_go_through_the_filters_used(app, pilot):
    await pilot.press("v", "v")
    assert app.filter.text == "verdict=FORWARDED"
    await pilot.press("left_square_bracket")
    assert app.filter.text == "verdict=DROPPED"
    await pilot.press("right_square_bracket")
    assert app.filter.text == "verdict=FORWARDED"
    await pilot.press("right_square_bracket")
    assert app.filter.text == ""


@key("app.save_filter", "app.saved", "saved.forget")
async def a_filter_is_saved_used_and_forgotten_by_its_name(app, pilot):
    await pilot.press("S")
    assert any("there is no filter to save" in note for note in notes(app))
    await pilot.press("v", "S")
    assert app.bar.text == "drops"
    await typed(pilot, "re fused")
    await until(pilot, lambda: "a name is of letters" in app.bar.feedback)
    await pilot.press("enter")
    assert any("a name is of letters" in note for note in notes(app))
    await pilot.press("v", "v", "v", "v", "p")
    await typed(pilot, "shop/pay")
    await pilot.press("enter", "S")
    await typed(pilot, "slow")
    await until(pilot, lambda: app.bar.feedback == "replaces `slow`: latency>100ms")
    await pilot.press("escape", "S")
    await typed(pilot, "pay")
    await until(pilot, lambda: app.bar.feedback == "`pay`: pod=shop/pay")
    await pilot.press("enter")
    await until(pilot, lambda: "saved: pay" in screen(app)[1])
    await pilot.press("L")
    assert isinstance(app.screen, SavedFilters)
    await until(pilot, lambda: any("pay" in line and "yours  pod=shop/pay" in line for line in screen(app)))
    await pilot.press("g", "d")
    await until(pilot, lambda: any("`drops` ships with flowscope" in line for line in screen(app)))
    await pilot.press("enter")
    assert app.filter.text == "verdict=DROPPED"
    await pilot.press("slash", *["backspace"] * len("verdict=DROPPED"))
    await typed(pilot, "pa")
    await pilot.press("tab")
    assert app.bar.text == "pod=shop/pay"
    await pilot.press("escape", "L", "G", "d", "k", "j", "d")
    await until(pilot, lambda: any("d again forgets `pay`" in line for line in screen(app)))
    await pilot.press("d")
    await until(pilot, lambda: not any("pod=shop/pay" in line for line in screen(app)))
    await pilot.press("escape")
    assert "pay" not in app.named.filters


@key("app.pod")
async def p_filters_by_pod(app, pilot):
    await pilot.press("p")
    await typed(pilot, "payment")
    await pilot.press("enter")
    assert app.filter.text == "pod=/payment"
    assert all("shop/payment" in row.source + row.destination for row in shown(app))
    assert shown(app)


@key("app.verdict")
async def v_steps_through_the_verdicts(app, pilot):
    await pilot.press("v")
    assert verdicts(app) == {"DROPPED"}
    await pilot.press("v")
    assert verdicts(app) == {"FORWARDED"}
    await pilot.press("v", "v", "v")
    assert len(shown(app)) == FLOWS


@key("app.port")
async def capital_p_filters_by_port(app, pilot):
    await pilot.press("P")
    await typed(pilot, "53")
    await pilot.press("enter")
    assert shown(app)
    assert all(":53" in row.destination for row in shown(app))


@key("app.flows", "app.top", "app.map", "app.nodes")
async def numbers_show_the_screens(app, pilot):
    for number, name in (("2", "top"), ("3", "map"), ("4", "nodes"), ("1", "flows")):
        await pilot.press(number)
        assert app.pane is app.panes[name]
        if name != "flows":
            await until(pilot, lambda name=name: app.panes[name].told > 0)
            assert app.pane.outline.items


@key("app.export")
async def w_saves(app, pilot):
    await pilot.press("w")
    assert isinstance(app.screen, Export)


@key("app.open")
async def o_opens_a_capture(app, pilot):
    await pilot.press("o")
    assert isinstance(app.screen, Open)


@key("app.palette")
async def colon_finds_commands_by_name(app, pilot):
    await pilot.press("colon")
    await typed(pilot, "only marked")
    await until(pilot, lambda: any("Only marked (M)" in line for line in screen(app)))
    await pilot.press("down", "enter")
    await until(pilot, lambda: any("no flow is marked" in note for note in notes(app)))
    await pilot.press("ctrl+p")
    await until(pilot, lambda: type(app.screen).__name__ == "CommandPalette")


@key("app.help")
async def question_mark_helps(app, pilot):
    await pilot.press("question_mark")
    assert isinstance(app.screen, Help)
    console = Console(file=StringIO(), width=160)
    console.print(*app.screen.parts(), sep="\n")
    text = console.file.getvalue()
    assert all(one.help in text and one.id in text for one in KEYS)


@key("app.back")
async def escape_closes_the_last_thing_first(app, pilot):
    await pilot.press("enter", "x")
    assert app.flows.detail.bytes.display
    await pilot.press("escape")
    assert (app.flows.detail.bytes.display, app.flows.detail.display) == (False, True)
    await pilot.press("escape")
    assert not app.flows.detail.display
    await pilot.press("3", "escape")
    assert app.pane is app.flows
    await pilot.press("escape")
    assert app.is_running


@key("app.quit")
async def q_closes_and_then_quits(app, pilot):
    await pilot.press("enter", "q")
    assert not app.flows.detail.display
    await pilot.press("q")
    await pilot.pause()
    assert not app.is_running


@key("app.quit_now")
async def control_c_quits_from_anywhere(app, pilot):
    await pilot.press("question_mark", "ctrl+c")
    await pilot.pause()
    assert not app.is_running


@key("flows.up", "flows.down", "flows.live", "flows.oldest", "flows.pause")
async def moving_up_pauses_and_the_end_resumes(app, pilot):
    table = app.flows.table
    assert table.following
    await pilot.press("up", "k")
    assert (table.following, table.cursor) == (False, FLOWS - 3)
    await until(pilot, lambda: app.status.reading.state == "PAUSED")
    await pilot.press("j", "down")
    assert table.following
    await pilot.press("space")
    assert not table.following
    await pilot.press("g")
    assert table.cursor == 0
    await pilot.press("G")
    assert (table.following, table.cursor) == (True, FLOWS - 1)
    await pilot.press("home")
    assert table.cursor == 0
    await pilot.press("end", "space", "space")
    assert table.following


@key("flows.page_up", "flows.page_down")
async def pages(app, pilot):
    await pilot.press("pageup", "pageup")
    assert app.flows.table.cursor == FLOWS - 1 - 2 * (app.flows.table.size.height - 2)
    await pilot.press("pagedown", "pagedown")
    assert app.flows.table.following


@key("flows.column_left", "flows.column_right")
async def h_and_l_move_the_column_cursor(app, pilot):
    await pilot.press("l", "right")
    assert app.flows.table.column == "destination"
    await pilot.press("h", "left", "h", "h")
    assert app.flows.table.column == "time"


@key("flows.scroll_left", "flows.scroll_right")
async def shift_and_arrows_scroll_sideways(app, pilot):
    before = screen(app)[5]
    await pilot.press("shift+right", "shift+right")
    assert screen(app)[5] != before
    assert not screen(app)[5].startswith(" 13:47")
    await pilot.press("shift+left", "shift+left")
    assert screen(app)[5] == before


@key("flows.detail")
async def enter_opens_a_flow_with_the_rule_that_refused_it(app, pilot):
    await pilot.press("slash")
    await typed(pilot, "verdict=DROPPED and http.method=DELETE")
    await pilot.press("enter", "home", "enter")
    await until(pilot, lambda: app.flows.detail.fields.items != [])
    text = "\n".join(screen(app))
    assert "✗ DROPPED  POLICY_DENIED" in text
    assert "denied by" in text
    assert "CiliumNetworkPolicy" in text or "default deny" in text


@key("flows.panes")
async def tab_goes_from_part_to_part(app, pilot):
    await pilot.press("enter", "x", "tab")
    assert app.flows.detail.fields.has_focus
    await pilot.press("tab")
    assert app.flows.detail.bytes.has_focus
    await pilot.press("tab")
    assert app.flows.table.has_focus


@key("flows.hex")
async def x_shows_the_packet(app, pilot):
    await pilot.press("g", "x")
    await until(pilot, lambda: any("frame " in line for line in screen(app)))
    assert any("0000  " in line for line in screen(app))
    await pilot.press("x")
    assert not app.flows.detail.bytes.display


@key("flows.stream")
async def f_shows_the_conversation(app, pilot):
    await pilot.press("slash")
    await typed(pilot, "http and verdict=FORWARDED")
    await pilot.press("enter", "f")
    assert isinstance(app.screen, StreamWindow)
    await until(
        pilot, lambda: any("-->" in line for line in screen(app)) and any("<--" in line for line in screen(app))
    )
    await pilot.press("home", "right")
    await until(pilot, lambda: any("HTTP/1.1" in line for line in screen(app)))


@key("flows.related")
async def r_shows_the_connection_and_escape_all(app, pilot):
    await pilot.press("k", "k", "k", "r")
    place = app.flows.table.cursor
    ends = {(row.source, row.destination) for row in shown(app)}
    assert len(ends) == 1
    assert 1 < len(shown(app)) < FLOWS
    await pilot.press("escape")
    assert (len(shown(app)), app.flows.table.cursor) == (FLOWS, place)
    await pilot.press("r", "r")
    assert len(shown(app)) == FLOWS


@key("flows.include")
async def plus_keeps_what_has_the_value(app, pilot):
    source = under(app).source.rpartition(":")[0]
    await pilot.press("plus")
    assert app.filter.text == f"pod={source}"
    assert all(source in row.source + row.destination for row in shown(app))


@key("flows.exclude")
async def minus_hides_what_has_the_value(app, pilot):
    while app.flows.table.column != "verdict":
        await pilot.press("l")
    await pilot.press("minus")
    assert app.filter.text == "not verdict=FORWARDED"
    assert verdicts(app) == {"DROPPED"}
    await pilot.press("h", "h", "h", "h", "h", "h", "h", "plus")
    assert any("nothing to filter by in TIME" in note for note in notes(app))


@key("flows.next_trouble", "flows.previous_trouble")
async def e_goes_from_drop_to_drop(app, pilot):
    await pilot.press("g", "e")
    first = app.flows.table.cursor
    assert under(app).verdict == "DROPPED"
    await pilot.press("e", "E")
    assert app.flows.table.cursor == first
    await pilot.press("E")
    assert any("no drop or error" in note for note in notes(app))


@key("flows.search", "flows.next_match", "flows.previous_match")
async def star_finds_and_highlights_without_hiding(app, pilot):
    await pilot.press("asterisk")
    await typed(pilot, "charge")
    await pilot.press("enter")
    assert len(shown(app)) == FLOWS
    last = app.flows.table.cursor
    assert "charge" in under(app).summary
    await pilot.press("N")
    assert app.flows.table.cursor < last
    await pilot.press("n")
    assert app.flows.table.cursor == last
    await pilot.press("n")
    assert any("looks" in note and "has" in note for note in notes(app))
    await pilot.press("escape")
    assert app.flows.needle == ""


@key("flows.mark", "flows.next_mark", "flows.only_marked")
async def marks(app, pilot):
    await pilot.press("apostrophe")
    assert any("no marked flow" in note for note in notes(app))
    await pilot.press("k", "m", "k", "k", "m")
    assert app.flows.table.marks == {FLOWS - 2, FLOWS - 4}
    await pilot.press("G", "apostrophe")
    assert app.flows.table.cursor == FLOWS - 4
    await pilot.press("apostrophe")
    assert app.flows.table.cursor == FLOWS - 2
    await pilot.press("M")
    assert len(shown(app)) == 2
    await pilot.press("M")
    assert len(shown(app)) == FLOWS
    await pilot.press("m")
    assert app.flows.table.marks == {FLOWS - 4}


@key("flows.time")
async def t_changes_how_times_are_written(app, pilot):
    assert "13:47:44" in screen(app)[-3]
    await pilot.press("t", "t")
    assert " +0." in screen(app)[-3]
    await pilot.press("t")
    assert "13:47:44" in screen(app)[-3]


@key("flows.columns")
async def c_chooses_columns(app, pilot):
    await pilot.press("c")
    assert isinstance(app.screen, ColumnChooser)


@key("columns.toggle", "columns.earlier", "columns.later")
async def the_chooser_takes_and_moves_columns(app, pilot):
    await pilot.press("c", "space", "down", "down", "K", "enter")
    assert [column.field for column, _ in app.flows.table.shown_columns()][:3] == ["source", "node", "arrow"]
    assert app.session.columns[0] == "source"
    await pilot.press("c", "J", "enter")
    assert app.session.columns[:2] == ["node", "source"]


@key("columns.default")
async def d_forgets_the_choice(app, pilot):
    await pilot.press("c", "space", "enter", "c", "d")
    assert app.session.columns == []
    assert app.flows.table.shown_columns()[0][0].field == "time"


@key("flows.copy")
async def y_copies_the_line(app, pilot):
    row = under(app)
    await pilot.press("y")
    assert row.source in app.clipboard
    assert row.summary in app.clipboard


@key("flows.copy_as")
async def capital_y_copies_as_filter_json_and_curl(app, pilot):
    await pilot.press("slash")
    await typed(pilot, "http.method=DELETE and reply=false")
    await pilot.press("enter", "Y")
    assert isinstance(app.screen, Choice)
    await pilot.press("f")
    assert app.clipboard.endswith("and port=8080 and http and verdict=DROPPED")
    await pilot.press("Y", "j")
    assert app.clipboard.startswith('{"flow":')
    await pilot.press("Y", "c")
    assert app.clipboard.startswith("curl -i -X DELETE")
    await pilot.press("escape", "v", "v", "v", "v", "v")


@key("list.up", "list.down", "list.page_up", "list.page_down", "list.first", "list.last")
async def lists_move(app, pilot):
    await open_top(app, pilot)
    outline = app.top.outline
    keys = [item.key for item in outline.items]
    await pilot.press("j", "down", "k")
    assert outline.cursor == keys[1]
    await pilot.press("up")
    assert outline.cursor == keys[0]
    await pilot.press("G")
    assert outline.cursor == keys[-1]
    await pilot.press("g", "pagedown")
    assert outline.cursor == keys[min(len(keys) - 1, outline.size.height - 2)]
    await pilot.press("pageup")
    assert outline.cursor == keys[0]
    await pilot.press("end", "home")
    assert outline.cursor == keys[0]


@key("list.close", "list.open")
async def branches_open_and_close(app, pilot):
    await pilot.press("3")
    await until(pilot, lambda: app.panes["map"].told > 0)
    outline = app.panes["map"].outline
    whole = len(outline.items)
    await pilot.press("h")
    assert len(outline.items) < whole
    await pilot.press("right")
    assert len(outline.items) == whole
    await pilot.press("j", "j", "left")
    assert outline.cursor == outline.items[1].key


@key("list.choose")
async def enter_shows_the_flows_behind_a_sum(app, pilot):
    await open_top(app, pilot)
    group = app.top.groups[0]
    await pilot.press("enter")
    assert app.pane is app.flows
    assert app.filter.text == group.test
    assert len(shown(app)) == group.flows
    await pilot.press("enter", "tab", "G")
    assert app.flows.detail.fields.has_focus


@key("top.sort")
async def s_sorts(app, pilot):
    await open_top(app, pilot)
    told = app.top.told
    await pilot.press("s")
    await until(pilot, lambda: app.top.told > told)
    assert app.top.sort == "bytes"
    sizes = [group.bytes for group in app.top.groups]
    assert sizes == sorted(sizes, reverse=True)


@key("top.group")
async def b_groups_by_other_fields(app, pilot):
    await open_top(app, pilot)
    await pilot.press("b")
    assert isinstance(app.screen, FieldChooser)
    await pilot.press("space", "down", "space", *["down"] * 6, "space", "enter")
    await until(pilot, lambda: len(app.top.groups[0].names) == 2)
    assert app.session.group == app.top.fields == ["port", "protocol"]


@key("filter.complete")
async def tab_takes_the_completion(app, pilot):
    await pilot.press("slash")
    await typed(pilot, "verd")
    await pilot.press("tab")
    assert app.bar.text.startswith("verdict")
    for _ in app.bar.text[len("verdict") :]:
        await pilot.press("backspace")
    await typed(pilot, "=")
    assert app.bar.completions[0].note.startswith("189 flows")
    await pilot.press("tab")
    assert app.bar.text == "verdict=FORWARDED"


@key("filter.older", "filter.newer")
async def up_and_down_go_through_history_and_completions(app, pilot):
    await pilot.press("v", "v", "slash")
    await pilot.press("up")
    assert app.bar.text == "verdict=FORWARDED"
    await pilot.press("up")
    assert app.bar.text == "verdict=DROPPED"
    await pilot.press("down", "down")
    assert app.bar.text == "verdict=FORWARDED"
    for _ in app.bar.text:
        await pilot.press("backspace")
    await pilot.press("down", "enter")
    assert app.bar.text == "verdict=DROPPED"  # the first of the named filters


@key("filter.leave")
async def escape_leaves_the_filter_as_it_was(app, pilot):
    await pilot.press("p", "q", "v", "escape")
    assert app.is_running
    assert app.filter.text == ""
    assert app.flows.table.has_focus


@key("modal.close")
async def escape_and_q_close_windows(app, pilot):
    for opened in ("question_mark", "c", "f"):
        for closed in ("escape", "q"):
            await pilot.press(opened)
            assert len(app.screen_stack) == 2
            await pilot.press(closed)
            assert len(app.screen_stack) == 1
    assert app.is_running


@pytest.mark.parametrize("one", [one.id for one in KEYS])
def test_every_key_has_a_test(one):
    assert one in TESTS


def test_no_test_is_of_a_key_that_is_gone():
    assert set(TESTS) == set(BY_ID)


@pytest.mark.parametrize("steps", dict.fromkeys(TESTS.values()), ids=lambda steps: steps.__name__)
def test_key(steps):
    drive(steps)


# -- the table itself


def test_ids_say_where_and_are_unique():
    assert len(BY_ID) == len(KEYS)
    assert {one.where for one in KEYS} <= set(PLACES)


def test_no_key_does_two_things_in_one_place():
    for place in ("flows", "list", "top", "filter", "modal", "columns", "saved"):
        taken = [name for one in KEYS for name in one.keys.split(",") if one.where in (place, "app")]
        if place in ("filter", "modal", "columns", "saved"):
            taken = [name for one in KEYS for name in one.keys.split(",") if one.where == place]
        assert len(taken) == len(set(taken)), place


@pytest.mark.parametrize(
    ("keymap", "words"),
    [
        ({"flows.nothing": "s"}, "there is no key called 'flows.nothing'"),
        ({"flows.pause": "k"}, "'k' would be both flows.up and flows.pause"),
        ({"app.help": "f"}, "'f' would be both app.help and flows.stream"),
    ],
)
def test_a_wrong_keymap_is_one_line(keymap, words):
    with pytest.raises(ConfigError, match=words):
        check_keymap(keymap)


def test_a_key_can_be_given_another_place():
    async def steps(app, pilot):
        await pilot.press("s")
        assert not app.flows.table.following
        await pilot.press("s", "space")
        assert app.flows.table.following

    check_keymap({"flows.pause": "s"})
    drive(steps, config=Config(ring=4096, keys={"flows.pause": "s"}))
    assert next(one for one in with_keymap({"flows.pause": "s"}) if one.id == "flows.pause").shown == "s"


def test_the_readme_has_the_table():
    readme = Path(__file__).parent.parent.parent / "README.md"
    assert markdown() in readme.read_text(), "python -m tests.tui.readme_keys writes it"
