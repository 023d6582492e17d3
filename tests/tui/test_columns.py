"""Columns: they fill the terminal exactly, and texts fill the columns."""

import pytest
from rich.cells import cell_len

from tui.columns import fit, layout


@pytest.mark.parametrize("width", [80, 100, 119, 120, 160, 200, 400])
def test_the_columns_fill_the_terminal_exactly(width):
    columns = layout(width)
    assert sum(size for _, size in columns) + len(columns) - 1 == width


@pytest.mark.parametrize(
    ("width", "hidden"),
    [(80, {"node", "type", "latency"}), (100, {"node", "type"}), (140, {"node"}), (160, set())],
)
def test_narrow_terminals_leave_columns_out(width, hidden):
    shown = {column.field for column, _ in layout(width)}
    assert {"time", "node", "source", "arrow", "destination", "type", "verdict", "latency", "summary"} - shown == hidden


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


def test_a_long_text_is_cut_before_it_is_measured():
    text = "http://" + "a" * 60_000 + "/end"
    assert fit(text, 20) == text[:19] + "…"
    assert fit(text, 20, middle=True) == text[:10] + "…" + text[-9:]
