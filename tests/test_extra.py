"""Header sections are split only when somebody reads them."""

import pytest

from observer.extra import header_fields


@pytest.mark.parametrize(
    ("head", "fields"),
    [
        (b"", []),
        (b"Host: a\r\nX-Empty:\r\n", [("Host", "a"), ("X-Empty", "")]),
        (b"host:a:8080\nB:  two  words \t\r\n", [("host", "a:8080"), ("B", "two  words")]),
        (b"A: one\r\n two\r\n\tthree\r\n", [("A", "one two three")]),  # RFC 9112, 5.2: obsolete line folding
        (b" folded before any field\r\nA: b\r\n", [("A", "b")]),
        (b"no colon here\r\n: no name\r\nA: b", [("A", "b")]),
        (b"A: \xff\x1b[31m\r\n", [("A", "\\xff\x1b[31m")]),  # escaped for the terminal by the printer, not here
        (b"A: \xc3\xa9\r\nA: again\r\n", [("A", "é"), ("A", "again")]),
    ],
)
def test_header_fields(head, fields):
    assert header_fields(head) == fields
