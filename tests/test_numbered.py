"""Numbers are given once and never another time."""

from observer.numbered import Numbered


def test_the_same_item_keeps_its_number_and_zero_is_none():
    table: Numbered[str] = Numbered("")
    assert [table.intern(item) for item in ("", "a", "b", "a", "")] == [0, 1, 2, 1, 0]
    assert [table[number] for number in range(len(table))] == ["", "a", "b"]


def test_from_number_gives_what_is_new():
    table: Numbered[str] = Numbered("")
    table.intern("a")
    known = len(table)
    table.intern("b")
    table.intern("c")
    assert table.from_number(known) == ["b", "c"]
    assert table.from_number(len(table)) == []
