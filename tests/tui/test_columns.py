"""Columns: they fill the terminal exactly, and texts fill the columns."""

import pytest
from rich.cells import cell_len

from tui.columns import COLUMNS, GUTTER, NEVER, fit, layout, wrapped

ALWAYS = {"time", "source", "arrow", "destination", "verdict", "summary"}


@pytest.mark.parametrize("width", [80, 100, 119, 120, 160, 200, 400])
def test_the_columns_fill_the_terminal_exactly(width):
    columns = layout(width)
    assert GUTTER + sum(size for _, size in columns) + len(columns) - 1 == width


@pytest.mark.parametrize(
    ("width", "more"),
    [
        (40, set()),
        (80, set()),
        (100, {"latency"}),
        (120, {"latency", "protocol"}),
        (150, {"latency", "protocol", "type"}),
        (160, {"latency", "protocol", "type", "node"}),
    ],
)
def test_narrow_terminals_leave_columns_out(width, more):
    assert {column.field for column, _ in layout(width)} == ALWAYS | more


def test_chosen_columns_are_shown_in_their_order_as_many_as_fit():
    chosen = ["summary", "policy", "verdict", "time"]
    assert [column.field for column, _ in layout(120, chosen)] == chosen
    assert [column.field for column, _ in layout(40, chosen)] == ["summary", "policy"]
    assert [column.field for column, _ in layout(1, chosen)] == ["summary"]
    assert sum(size for _, size in layout(120, chosen)) + 3 + GUTTER == 120
    assert [size for _, size in layout(200, ["time", "verdict"])] == [12, 11]  # nothing to share the room


def test_some_columns_are_only_shown_where_chosen():
    assert {column.field for column in COLUMNS if column.from_width == NEVER} == {"policy", "direction", "identity"}


@pytest.mark.parametrize(
    ("text", "width", "middle", "fitted"),
    [
        ("abc", 5, False, "abc  "),
        ("abcdef", 5, False, "abcd…"),
        ("shop/payment-gateway-5c4d:8080", 20, True, "shop/payme…5c4d:8080"),
        ("日本語", 6, False, "日本語"),
        ("日本語", 5, False, "日本…"),
        ("日本語日本語", 8, True, "日本 …語"),
        ("abc", 1, True, "a"),
        ("", 3, False, "   "),
    ],
)
def test_fit_gives_exactly_the_width(text, width, middle, fitted):
    got = fit(text, width, middle=middle)
    assert cell_len(got) == width
    assert got == fitted


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("aa bb cc", 5, ["aa bb", "cc"]),
        ("aa bb cc", 8, ["aa bb cc"]),
        ("aa  bbbb", 4, ["aa", "bbbb"]),
        ("aaaaaaaa", 3, ["aaa", "aaa", "aa"]),
        ("日本語テキスト", 5, ["日本", "語テ", "キス", "ト"]),
        ("", 4, [""]),
    ],
)
def test_wrapping_loses_nothing(text, width, lines):
    got = wrapped(text, width)
    assert got == lines
    assert "".join(got).replace(" ", "") == text.replace(" ", "")
    assert max(map(cell_len, got)) <= width


@pytest.mark.parametrize("text", ["\u0301" * 200, "a" + "\u0301" * 200, "日" * 9, "日\u0301" * 50, "a b" * 9])
@pytest.mark.parametrize("width", [-1, 0, 1, 2, 24])
def test_wrapping_ends_whatever_strangers_send_and_however_narrow_it_is(text, width):
    assert "".join(wrapped(text, width)).replace(" ", "") == text.replace(" ", "")


def test_a_long_text_is_cut_before_it_is_measured():
    text = "http://" + "a" * 60_000 + "/end"
    assert fit(text, 20) == text[:19] + "…"
    assert fit(text, 20, middle=True) == text[:10] + "…" + text[-9:]
