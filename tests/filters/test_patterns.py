"""Expressions, globs and URL paths as Hubble's users know them from Go."""

import pytest

from observer.errors import FilterError
from observer.filters import patterns


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("b", "abc", True),  # unanchored
        ("^b", "abc", False),
        ("c$", "abc\n", False),  # $ is the very end, unlike Python's
        (r"\d", "\u0663", False),  # ASCII only, unlike Python's
        (r"\w+$", "caf\u00e9", False),
        (r"\pL", "\u00e9", True),
        ("[[:alpha:]]", "1a", True),
        (r"a\z", "a", True),
        (r"\Q.*\E", "x.*", True),
        ("(?U)a+", "a", True),
        ("(?i)GET", "get", True),
        ("a{1000}", "a" * 1000, True),
        (".", "\n", False),
        ("^$", "", True),
    ],
)
def test_expressions_are_re2(pattern, text, found):
    assert patterns.expression(pattern)(text) is found


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(foo", "error parsing regexp: missing closing ): `(foo`"),
        ("a)", "error parsing regexp: unexpected ): `a)`"),
        ("[a", "error parsing regexp: missing closing ]: `[a`"),
        ("[z-a]", "error parsing regexp: invalid character class range: `z-a`"),
        ("*", "error parsing regexp: missing argument to repetition operator: `*`"),
        ("a**", "error parsing regexp: invalid nested repetition operator: `**`"),
        ("a{1001}", "error parsing regexp: invalid repeat count: `{1001}`"),
        ("(?=x)", "error parsing regexp: invalid or unsupported Perl syntax: `(?=`"),
        ("(?<!x)y", "error parsing regexp: invalid or unsupported Perl syntax: `(?<!`"),
        (r"(a)\1", "error parsing regexp: invalid escape sequence: `\\1`"),
        ("a++", "error parsing regexp: invalid nested repetition operator: `++`"),
        ("\\", "error parsing regexp: trailing backslash at end of expression"),
    ],
)
def test_what_is_no_re2_is_refused_in_the_words_of_go(pattern, message, capfd):
    with pytest.raises(FilterError) as refused:
        patterns.expression(pattern)
    assert str(refused.value).startswith(message)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("api.github.com", "api.github.com", True),
        ("api.github.com", "apixgithub.com", False),
        ("api.github.com", "api.github.com.", False),  # names of flows are taken as they are
        ("api.github.com", "API.github.com", False),
        (" API.GitHub.com. ", "api.github.com", True),
        ("*.github.com", "a.b.github.com", True),
        ("*.github.com", ".github.com", True),
        ("*.github.com", "github.com", False),
        ("*", "a_b", False),  # a star stands for no underscore
        ("a_*", "a_b", True),
        ("*", "", True),
        ("a*", "a\n", False),
    ],
)
def test_fqdn_globs(pattern, name, matches):
    assert patterns.fqdn([pattern])(name) is matches
    assert patterns.fqdn(["other.example", pattern])(name) is matches


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "empty pattern"),
        (" . ", "empty pattern"),
        ("a..", "multiple trailing dots in pattern"),
        ("a?b", "'?': invalid rune in pattern"),
        ("a b", "' ': invalid rune in pattern"),
        ("b\u00fccher.example", "'\u00fc': invalid rune in pattern"),
    ],
)
def test_fqdn_globs_that_are_refused(pattern, message):
    with pytest.raises(FilterError) as refused:
        patterns.fqdn([pattern])
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("node-1", "node-1", True),
        ("node-1", "default/node-1", True),
        ("node-1", "east/node-1", True),  # without a slash: any cluster
        ("default/node-1", "node-1", True),
        ("east/node-1", "node-1", False),
        ("east/", "east/node-1", True),
        ("/node-1", "west/node-1", True),
        ("/", "x", True),
        ("e*/n*", "east/n.b", True),
        ("Node-1", "node-1", True),
        ("node-1", "Node-1", False),  # the node's name is not lower-cased
        ("node-1", "", False),
        ("*", "node_1", False),
    ],
)
def test_node_name_globs(pattern, name, matches):
    assert patterns.node_name([pattern])(name) is matches


@pytest.mark.parametrize(("pattern", "message"), [("", "empty pattern"), ("a/b/c", "too many slashes in pattern")])
def test_node_name_globs_that_are_refused(pattern, message):
    with pytest.raises(FilterError) as refused:
        patterns.node_name([pattern])
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://host/a/b?c=d", "/a/b"),
        ("/a/b?c=d", "/a/b"),
        ("/a#b", "/a#b"),  # no fragment in a request
        ("/a%20b%2Fc", "/a b/c"),
        ("/a+b", "/a+b"),
        ("/caf%C3%A9", "/caf\u00e9"),
        ("/%ff%fe", "/\ufffd\ufffd"),
        ("*", "*"),
        ("http://host", ""),
        ("http://host?x", ""),
        ("http://user:p%40ss@host:80/x", "/x"),
        ("http://[::1]:80/x", "/x"),
        ("http://[fe80::1%25eth0]/x", "/x"),
        ("http://host:/x", "/x"),
        ("//host/path", "//host/path"),
        ("mailto:x", ""),  # opaque
        ("host:80", ""),
        ("/a b", "/a b"),
        ("", None),
        ("a/b", None),  # relative
        ("?x", None),
        (":80", None),
        ("1http://host/", None),
        ("/a%zz", None),
        ("/a%2", None),
        ("/a\x00", None),
        ("/a\x7f", None),
        ("http://ho st/", None),
        ("http://host:80a/", None),
        ("http://[::1/", None),
        ("http://ho%41st/", None),
        ("http://us er@host/", None),
    ],
)
def test_the_path_of_a_request_uri(url, path):
    assert patterns.request_path(url) == path


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a", '"a"'),
        ('"', '"\\""'),
        ("\n\x00", '"\\n\\x00"'),
        ("\u00e9\u200b", '"\u00e9\\u200b"'),
        ("\x1b[31m", '"\\x1b[31m"'),
    ],
)
def test_quoted(text, shown):
    assert patterns.quoted(text) == shown
