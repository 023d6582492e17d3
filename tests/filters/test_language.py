"""The grammar: trees, texts, positions of mistakes, bounds, and bytes that nobody would type."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from observer.errors import FilterError
from observer.filters import language
from observer.filters.fields import FIELDS, TABLE, whole
from observer.filters.language import IncompleteError, joined, parse
from observer.filters.tree import EVERYTHING, And, Condition, Not, Or, Pattern, Value, Word, term, text_of
from tests.filters.trees import some_tree


def condition(name, operator, *texts, glob=False):
    return Condition(name, operator, tuple(Value(text, glob) for text in texts))


A, B, C = Word("a"), Word("b"), Word("c")
DNS = condition("protocol", "=", "dns")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", EVERYTHING),
        (" \t\n", EVERYTHING),
        ("a", A),
        ("a b", And((A, B))),
        ("a and b && c", And((A, B, C))),
        ("a or b || c", Or((A, B, C))),
        ("a b or c", Or((And((A, B)), C))),
        ("a (b or c)", And((A, Or((B, C))))),
        ("a||b&&c", Or((A, And((B, C))))),
        ("not a b", And((Not(A), B))),
        ("!a !(b)", And((Not(A), Not(B)))),
        ("NOT a AND b OR c", Or((And((Not(A), B)), C))),
        ("not not a", Not(Not(A))),
        ("dns", DNS),
        ("DNS", DNS),
        ('"dns"', Word("dns")),
        ("dnsx", Word("dnsx")),
        ("shop/cart-0:80", Word("shop/cart-0:80")),
        (r'"a \"b\" \\ \d \x1b\u202e\U0001f600"', Word('a "b" \\ \\d \x1b\u202e\U0001f600')),
        (r"/^a\/b\.\\ c/", Pattern(r"^a/b\.\\ c")),
        ("//", Pattern("")),
        ("to-pod=x", condition("to-pod", "=", "x")),
        ("TO-POD == x", condition("to-pod", "=", "x")),
        ("to-pod != x", condition("to-pod", "!=", "x")),
        ("to-pod!~x", condition("to-pod", "!~", "x")),
        ("latency>=20ms", condition("latency", ">=", "20ms")),
        ("port<1024", condition("port", "<", "1024")),
        ("label=k8s:app=cart,tier!=x", condition("label", "=", "k8s:app=cart,tier!=x")),
        ('label="app in (a, b)"', condition("label", "=", "app in (a, b)")),
        ("http.path=^/v(1|2)$", condition("http.path", "=", "^/v(1|2)$")),
        ("(http.path=^/v(1|2)$)", condition("http.path", "=", "^/v(1|2)$")),
        ("http.path=a* dns", And((condition("http.path", "=", "a*"), DNS))),  # an expression
        ("pod=a*", condition("pod", "=", "a*", glob=True)),
        ('pod="a*"', condition("pod", "=", "a*")),
        ("pod~a*", condition("pod", "~", "a*")),
        ("fqdn=*.org", condition("fqdn", "=", "*.org")),  # Hubble's own glob
        ("verdict in (DROPPED,ERROR)", condition("verdict", "in", "DROPPED", "ERROR")),
        ('verdict IN ( "DROPPED" , ERROR )', condition("verdict", "in", "DROPPED", "ERROR")),
        ("pod=and", condition("pod", "=", "and")),
        ("pod in (in, or)", condition("pod", "in", "in", "or")),
        ('pod=""', condition("pod", "=", "")),
        ("pod=a||b", Or((condition("pod", "=", "a"), B))),
        ("http-status=5+", condition("http-status", "=", "5+")),
        ("from-port=80", condition("from-port", "=", "80")),
    ],
)
def test_what_a_text_means(text, tree):
    assert parse(text) == tree
    assert parse(text_of(tree)) == tree


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("to-pod", 6, "expected =, !=, ~, !~, in after `to-pod`"),
        ("to-pod x", 7, 'expected =, !=, ~, !~, in after `to-pod`; for the text, quote it: "to-pod"'),
        ("to-pod>x", 6, "expected =, !=, ~, !~, in after `to-pod`, not `>`"),
        ("latency~x", 7, "expected =, !=, <, <=, >, >=, in after `latency`, not `~`"),
        ("to-pod=", 7, "expected a value after `to-pod=`"),
        ("to-pod= )", 8, "expected a value after `to-pod=`"),
        ("verdict in", 10, "expected `(` after `in`"),
        ("verdict in DROPPED", 11, "expected `(` after `in`"),
        ("verdict in (", 12, "expected a value after `(`"),
        ("verdict in (DROPPED", 19, "expected `,` or `)`"),
        ("verdict in (DROPPED ERROR)", 20, "expected `,` or `)`"),
        ("verdict in (DROPPED,)", 20, "expected a value after `,`"),
        ("a and", 5, "expected a test after `and`"),
        ("a or ", 5, "expected a test after `or`"),
        ("not", 3, "expected a test after `not`"),
        ("or a", 0, "expected a test, not `or`"),
        ("a in", 2, "expected a test, not `in`"),
        ("(", 1, "expected a test after `(`"),
        ("(a", 2, "expected `)`, and, or"),
        ("()", 1, "unexpected `)`"),
        ("a)", 1, "unexpected `)`"),
        ("a,b", 1, "unexpected `,`"),
        ("=x", 0, "expected a field before `=`"),
        ("a &b", 4, None),
        ("nope=x", 0, "unknown field `nope`; did you mean `node`?"),
        ("zzzzzz=x", 0, "unknown field `zzzzzz`; to find a text with `=`, quote it"),
        ("a to-pdo=x", 2, "unknown field `to-pdo`; did you mean `to-pod`?"),
        ('"abc', 4, 'expected `"` at the end of the quoted text'),
        ('pod="abc', 8, 'expected `"` at the end of the quoted text'),
        (r'"\x1"', 1, r"expected 2 hexadecimal digits of a character after `\x`; for a backslash write `\\`"),
        (r'"\ud800"', 1, r"expected 4 hexadecimal digits of a character after `\u`; for a backslash write `\\`"),
        (r'"\U00110000"', 1, r"expected 8 hexadecimal digits of a character after `\U`; for a backslash write `\\`"),
        ("/abc", 4, "expected `/` at the end of the regular expression"),
        ("/abc\\", 5, "expected `/` at the end of the regular expression"),
        ("a\x1b[31m", 1, r"the character U+001B cannot stand in a filter; in quotes write \x1b"),
        ('"\x00"', 1, r"the character U+0000 cannot stand in a filter; in quotes write \x00"),
        ("a\udc80", 1, r"the character U+DC80 cannot stand in a filter; in quotes write \udc80"),
        ("\u202eabc", 0, r"the character U+202E cannot stand in a filter; in quotes write \u202e"),
    ],
)
def test_what_is_wrong_and_where(text, position, message):
    if message is None:
        parse(text)
        return
    with pytest.raises(FilterError) as refused:
        parse(text)
    assert (str(refused.value), refused.value.position) == (message, position)
    assert isinstance(refused.value, IncompleteError) == (position == len(text))


@pytest.mark.parametrize("opening", ["(", "not ", "!", "!(", "not("])
def test_nesting_is_bounded(opening):
    most = language.MAX_DEPTH // len(opening.replace("not", "!").strip())
    closing = ")" * (most if "(" in opening else 0)
    tree = parse(opening * most + "a" + closing)
    assert parse(text_of(tree)) == tree
    with pytest.raises(FilterError, match="nests at most 32 deep") as refused:
        parse(opening * (most + 1) + "a" + closing + ")")
    assert refused.value.position == len(opening) * most


@pytest.mark.parametrize("text", ["a " * 256, "pod in (" + "a," * 254 + "a)"])
def test_tests_are_bounded(text):
    tree = parse(text)
    assert parse(text_of(tree)) == tree
    with pytest.raises(FilterError, match="at most 256 tests and values"):
        parse(text + " a")


@pytest.mark.parametrize(
    "text", ["(" * 100_000, "!" * 100_000, "a" * 100_000, '"' * 100_000, "\\" * 100_000, "or " * 40_000]
)
def test_length_is_bounded(text):
    with pytest.raises(FilterError, match="at most 4096 characters") as refused:
        parse(text)
    assert refused.value.position == language.MAX_LENGTH
    with pytest.raises(FilterError):
        parse("=" + text[: language.MAX_LENGTH - 1])


@given(st.text(max_size=60) | st.text('a="\\/()!&|~<> ,*', max_size=60))
@example('"\\')
@example("/\\")
@example("pod= =x*")
@example("pod= ~x*")
@example("pod=a*,b")
def test_any_text_is_read_or_refused_with_a_position(text):
    refused = None
    try:
        tree = parse(text)
    except FilterError as error:
        refused = error
    if refused is None:
        assert parse(text_of(tree)) == tree
    else:
        assert refused.position in range(len(text) + 1)
        assert str(refused).isprintable()


@given(st.randoms(use_true_random=False))
def test_a_tree_survives_its_text(random):
    tree = some_tree(random, depth=5)
    assert parse(text_of(tree)) == tree


@given(st.sampled_from([field.name for field in TABLE]), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_term_survives_its_text(name, value):
    text = term(name, value)
    assert text.isprintable()
    known, _ = FIELDS[name]
    literal = known.literal(value)
    expected = ("=", literal) if literal is not None else ("~", whole(value))
    assert parse(text) == condition(name, *expected)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("to-pod", "shop/cart-0", "to-pod=shop/cart-0"),
        ("pod", "a*", 'pod="a*"'),
        ("pod", "=a", 'pod="=a"'),
        ("label", "k8s:app=cart", "label=k8s:app=cart"),
        ("http.path", "/v1/charge", "http.path=^/v1/charge$"),
        ("http.path", "/a b.c?", 'http.path="^/a b\\\\.c\\\\?$"'),
        ("protocol", "dns", "dns"),
        ("protocol", "VRRP", "protocol=VRRP"),
        ("http.header", 'a:"\x1b', r'http.header="a:\"\x1b"'),
        ("cluster", "", 'cluster=""'),
        ("node", "Node3", "node~^Node3$"),
        ("fqdn", "a.org.", r"fqdn~^a\.org\.$"),
        ("label", "k8s:app=a b", 'label~"^k8s:app=a b$"'),
    ],
)
def test_terms_are_quoted_as_they_need_to_be(name, value, text):
    assert term(name, value) == text


def test_texts_are_joined_by_and():
    assert joined([]) == joined(["", " "]) == ""
    assert joined(["", "a or b"]) == "a or b"
    assert joined(["a or b", "not dns"]) == "(a or b) and not dns"
