"""Automata of HTTP patterns match what google-re2 matches, byte for byte."""

import re

import pytest
import re2
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from observer.policy import automaton as automaton_module
from observer.policy.automaton import (
    MASK_BITS,
    PARTS_LIMIT,
    STATES_LIMIT,
    WORK_LIMIT,
    Automaton,
    TooLargeError,
    from_target,
    union,
)
from observer.policy.regex import DEPTH_LIMIT, parse
from observer.tag import path_of

OPTIONS = re2.Options()
OPTIONS.log_errors = False


def mask(automaton: Automaton, text: bytes) -> int:
    state = automaton.start
    for byte in text:
        state = automaton.step(state, byte)
    return automaton.masks[state]


def matches(pattern: str, text: bytes) -> bool:
    return bool(mask(union([parse(pattern)]), text))


CLASSES = [
    ".",
    r"\d",
    r"\D",
    r"\w",
    r"\W",
    r"\s",
    r"\S",
    "[a-c]",
    "[^a]",
    "[^é]",
    "[é-€]",
    "[[:alpha:]]",
    "[[:^digit:]]",
]
CLASSES += [
    r"[\w/]",
    r"[^\w]",
    r"[^\W]",
    "[]a]",
    "[a-]",
    r"[\d-z]",
    "[k-s]",
    r"[\x{80}-\x{10ffff}]",
    r"[\x{800}-\x{ffff}]",
]
LITERALS = [
    "a",
    "b",
    "/",
    "k",
    "S",
    "é",
    "€",
    "\U0001f600",
    r"\.",
    r"\x41",
    r"\x{e9}",
    r"\101",
    r"\n",
    r"\Qa.b\E",
    r"\-",
    "{",
]
LITERALS += ["a{,2}", "-", r"\x{212a}", "", r"\Q\E", "ß", "\\*"]
ANCHORS = ["^", "$", r"\A", r"\z"]
FLAGS = ["(?s)", "(?i)", "(?-i)", "(?U)", "(?is-U)"]
GROUPS = ["({})", "(?:{})", "(?i:{})", "(?s:{})", "(?P<name>{})", "(?<name>{})"]
REPEATS = ["*", "+", "?", "*?", "+?", "??", "{2}", "{1,3}", "{0,2}?", "{2,}", "{0}"]

atoms = st.sampled_from(CLASSES) | st.sampled_from(LITERALS) | st.sampled_from(ANCHORS) | st.sampled_from(FLAGS)
patterns = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map("|".join),
        st.builds(str.format, st.sampled_from(GROUPS), inner),
        st.builds("(?:{}){}".format, inner, st.sampled_from(REPEATS)),
    ),
    max_leaves=8,
)
PIECES = [
    b"a",
    b"b",
    b"/",
    b"k",
    b"K",
    b"s",
    b"S",
    b"\n",
    b"9",
    b"_",
    b" ",
    b"-",
    b"{",
    b"}",
    b"A",
    b"z",
    b".",
    b"\x00",
    b"*",
]
PIECES += [text.encode() for text in ("é", "É", "€", "\U0001f600", "\u212a", "\u017f", "\ufffd", "ß")]
NO_UTF8 = [
    b"\x80",
    b"\xff",
    b"\xc0\x80",
    b"\xe0\x80\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xc2",
]
NO_UTF8 += [b"\xf0\x80\x80\x80", b"\xe2\x82"]
texts = st.lists(st.sampled_from(PIECES) | st.sampled_from(NO_UTF8), max_size=6).map(b"".join) | st.binary(max_size=6)


@settings(max_examples=1000, deadline=None)
@given(patterns, st.lists(texts, min_size=1, max_size=12))
def test_a_pattern_matches_what_re2_matches(pattern, some):
    try:
        oracle = re2.compile(pattern, OPTIONS)
    except re2.error:
        assume(False)
    try:
        automaton = union([parse(pattern)])
    except (ValueError, TooLargeError):
        return  # refused by name: no verdict, so no wrong one
    for text in [b"", *some]:
        assert bool(mask(automaton, text)) == (oracle.fullmatch(text) is not None), (pattern, text)


# pattern, texts that match, texts that do not
EXAMPLES = [
    (
        "/api/v[0-9]+/.*",
        ["/api/v1/", "/api/v23/x y"],
        ["/api/v/", "/api/v1", "x/api/v1/", "/api/v1/\n", b"/api/v1/\xff"],
    ),
    ("GET|HEAD", ["GET", "HEAD"], ["GETHEAD", "", "get", "GE"]),
    ("^/a$", ["/a"], ["/a\n", "a", "/ab"]),
    ("(^a|b)c", ["ac", "bc"], ["aac", "c"]),
    ("a^b", [], ["ab", "a^b", ""]),
    ("(?i)Kelvin", ["kelvin", "KELVIN", "\u212aelvin"], ["elvin"]),
    (r"\Qa.b*\E+", ["a.b*", "a.b**"], ["axb*", "a.b"]),
    ("(?s).", ["\n", "é"], ["", "ab", b"\x80"]),
    (r"\x{1F600}|[^a]", ["\U0001f600", "b"], ["a", "bb", b"\xed"]),
    ("", [""], ["a"]),
    ("[^\\x00-\\x{10FFFF}]", [], ["", "a", b"\xff"]),
    ("(a|b|)*?c{0,2}", ["", "abbacc", "c"], ["ccc", "ca"]),
]


@pytest.mark.parametrize(("pattern", "matching", "others"), EXAMPLES)
def test_what_patterns_match(pattern, matching, others):
    def raw(text):
        return text if isinstance(text, bytes) else text.encode()

    assert all(matches(pattern, raw(text)) for text in matching)
    assert not any(matches(pattern, raw(text)) for text in others)


REFUSED = [
    (r"\bword", r"\b"),
    (r"\Bword", r"\B"),
    (r"\pL+", r"\p"),
    (r"\C", r"\C"),
    ("(?m)^a", "the flag m"),
    ("(?i)é", "the flag i with characters beyond ASCII"),
    ("[^é]|a", "alternatives beside a class of many, not all, characters beyond ASCII"),
    ("(" * (DEPTH_LIMIT + 1) + "a" + ")" * (DEPTH_LIMIT + 1), f"more than {DEPTH_LIMIT} parentheses inside each other"),
]


@pytest.mark.parametrize(("pattern", "why"), REFUSED)
def test_what_is_not_held_is_refused_with_the_reason(pattern, why):
    re2.compile(pattern, OPTIONS)
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        parse(pattern)


def test_as_many_parentheses_as_may_be():
    assert matches("(" * DEPTH_LIMIT + "a" + ")" * DEPTH_LIMIT, b"a")


BOMBS = [
    "(?:.*a.{20})",  # 2^20 states
    "(a?){1000}",
    "([^/]{1,255}/){3}",
    "(?:.*x){500}",
    "(.*){1000}",
    "((a|b)*a(a|b){15})",
    "(a{0,30}){30}",
]


@pytest.mark.parametrize("pattern", BOMBS)
def test_patterns_that_need_too_much_are_refused_after_bounded_work(pattern):
    re2.compile(pattern, OPTIONS)
    with pytest.raises(TooLargeError):
        union([parse(pattern)])


def test_as_many_states_as_may_be():
    long = "a{1000}" * 4
    assert len(union([parse(long + "a" * (STATES_LIMIT - 4002))]).masks) == STATES_LIMIT
    with pytest.raises(TooLargeError):
        union([parse(long + "a" * (STATES_LIMIT - 4001))])


def test_as_many_parts_as_may_be():
    with pytest.raises(TooLargeError):
        union([parse("|".join(["a"] * (PARTS_LIMIT // 2)))])
    assert len(union([parse("|".join(["a"] * (PARTS_LIMIT // 2 - 1)))]).masks) == 3


def test_as_much_work_as_may_be(monkeypatch):
    many_ways = [parse("(a?){800}")]
    with pytest.raises(TooLargeError):
        union(many_ways)
    monkeypatch.setattr(automaton_module, "WORK_LIMIT", 4 * WORK_LIMIT)
    assert len(union(many_ways).masks) == 802


def test_a_union_says_which_patterns_match():
    rules = ["/a/.*", None, "/a/[0-9]+", "/b"] + [f"/x{number}" for number in range(MASK_BITS - 4)]
    automaton = union([None if rule is None else parse(rule) for rule in rules])
    assert mask(automaton, b"/a/7") == 0b0111
    assert mask(automaton, b"/a/seven") == 0b0011
    assert mask(automaton, b"/b") == 0b1010
    assert mask(automaton, b"\xff") == 0b0010
    assert mask(automaton, b"/x59") == 0b0010 | 1 << 63


SCHEMES = [b"http", b"HTTP", b"h", b"a+b-c.d", b"1x", b"", b"h_p"]
PARTS = [b":", b"/", b"//", b"://", b"?", b"#", b"host", b"host:80", b"a", b"x/y", b"http", b"\xff", b"@", b" "]
targets = st.builds(
    lambda scheme, rest: scheme + b"".join(rest), st.sampled_from(SCHEMES), st.lists(st.sampled_from(PARTS), max_size=6)
)
PATHS = ["/.*", "/", "/x/y", ".*", "[^/]*", "http.*", "/[?#].*", "(?s).*a", "", "(^http|/a).*", "h://host", "a$"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PATHS), min_size=1, max_size=4), st.lists(targets, min_size=1, max_size=20))
def test_a_target_is_judged_by_its_path(rules, some):
    paths = union([parse(rule) for rule in rules])
    automaton = from_target(paths)
    for target in [b"", *some]:
        assert mask(automaton, target) == mask(paths, path_of(target)), target
