import ssl
import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.l7.conversation import LATE_HELLO_PIECES, Conversation
from observer.l7.message import Side
from observer.l7.tls import HELLO_LIMIT, RECORDS_LIMIT, Tls
from observer.losses import Losses
from observer.record import L7Kind, L7Type

CLIENT, SERVER = Side.CLIENT, Side.SERVER


def vector(width: int, content: bytes) -> bytes:
    return len(content).to_bytes(width, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return struct.pack(">H", kind) + vector(2, content)


def server_name(name: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, bytes((kind,)) + vector(2, name)))


def alpn(*names: bytes) -> bytes:
    return extension(16, vector(2, b"".join(vector(1, name) for name in names)))


def versions(*numbers: int) -> bytes:
    return extension(43, vector(1, b"".join(struct.pack(">H", number) for number in numbers)))


def hello(extensions: bytes | None = b"", version: int = 0x0303) -> bytes:
    """A handshake message."""
    body = struct.pack(">H", version) + bytes(32) + vector(1, bytes(32)) + vector(2, b"\x13\x01\x0a\x0a") + b"\1\0"
    return b"\1" + vector(3, body + (vector(2, extensions) if extensions is not None else b""))


def records(message: bytes, size: int = 1 << 14, version: int = 0x0301) -> bytes:
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(struct.pack(">BH", 22, version) + vector(2, piece) for piece in pieces)


def real_hello(name: str, protocols: list[str]) -> bytes:
    """What OpenSSL sends."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(protocols)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def read(*pieces: bytes) -> tuple[list[dict[str, Any]], dict[str, int]]:
    losses = Losses()
    parser = Tls(losses)
    messages = [message for piece in pieces for message in parser.feed(CLIENT, piece, 5)]
    assert all((each.kind, each.type, each.side) == (L7Kind.TLS, L7Type.REQUEST, CLIENT) for each in messages)
    parser.close(CLIENT)
    told = [dict(message.extension or {})["tls"] for message in messages]
    return told, {reason: number for stage, reason, number in losses if stage == "tls"}


FULL = server_name(b"api.example.com") + alpn(b"h2", b"http/1.1") + versions(0x0A0A, 0x0304, 0x0303)
TOLD = {"server_name": "api.example.com", "alpn": ["h2", "http/1.1"], "version": "TLS 1.3"}


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (hello(FULL), TOLD),
        (hello(None, 0x0301), {"version": "TLS 1.0"}),
        (hello(None, 0x0300), {"version": "SSL 3.0"}),
        (hello(), {"version": "TLS 1.2"}),
        (hello(server_name(b"a.test")), {"server_name": "a.test", "version": "TLS 1.2"}),
        (hello(server_name(b"\xff\x1b[31m")), {"server_name": "\\xff\x1b[31m", "version": "TLS 1.2"}),
        (hello(server_name(b"no host", kind=1)), {"version": "TLS 1.2"}),
        (hello(extension(0, b"")), {"version": "TLS 1.2"}),
        (hello(server_name(b"a.test") + server_name(b"b.test")), {"server_name": "a.test", "version": "TLS 1.2"}),
        (hello(alpn(b"\x0a\x0a", b"h2", b"\xfa\xfa")), {"alpn": ["h2"], "version": "TLS 1.2"}),  # GREASE
        (hello(alpn(*[b"x"] * 40)), {"alpn": ["x"] * 32, "version": "TLS 1.2"}),
        (hello(extension(0x1A1A, b"\0") + FULL + extension(0xDADA, b"")), TOLD),
        (hello(versions(0x7F1C, 0x0303)), {"version": "TLS 1.2"}),
        (hello(versions(0x7F1C)), {"version": "0x7f1c"}),
        (hello(versions(0x1A1A)), {"version": "TLS 1.2"}),
        (hello(FULL + extension(0xFE0D, b"\0" + bytes(40))), TOLD | {"encrypted_client_hello": True}),
        (hello(extension(21, bytes(20_000)) + FULL), TOLD),  # padding
    ],
)  # fmt: skip
def test_hellos(message: bytes, told: dict[str, Any]) -> None:
    assert read(records(message)) == ([told], {})


def test_a_hello_of_openssl() -> None:
    told, lost = read(real_hello("www.example.org", ["h2", "http/1.1"]))
    assert (told, lost) == ([TOLD | {"server_name": "www.example.org"}], {})


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 40, 200])
def test_a_hello_over_many_records(size: int) -> None:
    message = hello(server_name(b"a.test")) if size == 1 else hello(FULL)
    data = records(message, size)
    several = -(-len(message) // size)
    told, lost = read(data)
    if several > RECORDS_LIMIT:
        assert (told, lost) == ([], {"hello in too many records": 1})
    else:
        assert (told, lost) == ([TOLD], {})
    assert read(*[data[at : at + 1] for at in range(len(data))]) == (told, lost)


@given(st.lists(st.integers(0, 400), max_size=6), st.integers(8, 300))
def test_cut_anywhere(cuts: list[int], size: int) -> None:
    data = records(hello(FULL), size)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert read(*[data[one:two] for one, two in pairwise(edges)]) == ([TOLD], {})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (records(hello(FULL))[:-1], "hello cut short"),
        (records(hello(FULL), 9)[:40], "hello cut short"),
        (records(b"\1" + (HELLO_LIMIT + 1).to_bytes(3, "big") + bytes(50)), "hello too large"),
        (records(b"\2" + vector(3, bytes(80))), "handshake without ClientHello"),
        (records(hello(FULL)[:50]) + b"\x17\3\3\0\5hello", "record of another kind within the hello"),
        (records(hello(FULL)[:50]) + b"\x16\3\1\xff\xffhello", "record of another kind within the hello"),
        (records(b"\1" + vector(3, bytes(33))), "malformed hello"),
        (records(b"\1" + vector(3, bytes(34) + b"\x21" + bytes(32))), "malformed hello"),
        (records(hello(b"\0\0\0\5abc")), "malformed hello"),
        (records(hello(extension(0, b"\0\5\0\0\3a"))), "malformed hello"),
        (records(hello(extension(16, b"\0\3\5h2"))), "malformed hello"),
        (records(hello(extension(43, b"\3\3\4\3"))), "malformed hello"),
    ],
)
def test_what_is_no_hello_is_counted(data: bytes, reason: str) -> None:
    assert read(data) == ([], {reason: 1})
    assert read(*[data[at : at + 1] for at in range(len(data))]) == ([], {reason: 1})


def test_opaque_when_both_have_spoken() -> None:
    for answer in (b"\x16\3\3\0\x7a\2", b"\x15\3\3\0\2\2\x28"):
        losses = Losses()
        parser = Tls(losses)
        assert len(parser.feed(CLIENT, records(hello(FULL)), 1)) == 1
        assert not parser.opaque
        assert parser.feed(CLIENT, records(hello(FULL)), 2) == []  # after HelloRetryRequest
        assert parser.feed(SERVER, answer, 3) == []
        assert parser.opaque
        assert parser.feed(CLIENT, b"more", 4) == parser.feed(SERVER, b"more", 4) == parser.close(CLIENT) == []
        assert losses.total() == 0


@pytest.mark.parametrize("whole", [True, False])
def test_a_server_that_speaks_http_is_read(whole: bool) -> None:
    losses = Losses()
    parser = Tls(losses)
    data = records(hello(FULL))
    parser.feed(CLIENT, data if whole else data[:40], 1)
    told = parser.feed(SERVER, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", 2)
    assert [(message.kind, message.code) for message in told] == [(L7Kind.HTTP, 400)]
    parser.close(CLIENT)
    parser.close(SERVER)
    assert losses.total() == 0


HELLO = records(hello(FULL))
GREETING = b"\x0e\0\0\0\x0a5.5.40-MariaDB"
SSL_REQUEST = b"\x20\0\0\1\x05\xae\x03\0" + bytes(28)
AGREED = {  # the server's port, and what both sides say before the hello
    "MySQL": (3306, [(SERVER, GREETING), (CLIENT, SSL_REQUEST)]),
    "PostgreSQL": (5432, [(CLIENT, b"\0\0\0\x08\x04\xd2\x16\x2f"), (SERVER, b"S")]),
    "SMTP": (
        587,
        [
            (SERVER, b"220 a ESMTP\r\n"),
            (CLIENT, b"EHLO b\r\n"),
            (SERVER, b"250-a\r\n250 STARTTLS\r\n"),
            (CLIENT, b"STARTTLS\r\n"),
            (SERVER, b"220 go ahead\r\n"),
        ],
    ),
    "LDAP": (389, [(CLIENT, b"\x30\x1d\2\1\1\x77\x18\x80\x161.3.6.1.4.1.1466.20037"), (SERVER, b"\x30\x0c\2\1\1x")]),
}


@pytest.mark.parametrize("name", AGREED)
@pytest.mark.parametrize("cut", [6, 100, len(HELLO)])
def test_a_hello_behind_words_of_another_protocol(name: str, cut: int) -> None:
    port, words = AGREED[name]
    losses = Losses()
    talked = Conversation(losses, (40000, port))
    assert [talked.feed(side, data, 1) for side, data in words] == [[]] * len(words)
    told = [*talked.feed(CLIENT, HELLO[:cut], 2), *talked.feed(CLIENT, HELLO[cut:], 3)]
    assert [dict(message.extension or {})["tls"] for message in told] == [TOLD]
    assert not talked.opaque
    assert talked.feed(SERVER, records(b"\2\0\0\0"), 4) == []
    assert talked.opaque
    assert not list(losses)


@pytest.mark.parametrize(("port", "pieces"), [(3306, LATE_HELLO_PIECES), (22, 0)])
def test_a_hello_is_looked_for_to_a_limit(port: int, pieces: int) -> None:
    talked = Conversation(Losses(), (40000, port), joined=True)
    talked.feed(SERVER, GREETING, 1)
    talked.feed(CLIENT, SSL_REQUEST, 1)
    for _ in range(pieces):
        assert not talked.opaque
        talked.feed(CLIENT, b"\xff" * 9, 1)
    assert talked.opaque


def test_lost_bytes() -> None:
    for side, reason in ((CLIENT, "hello lost bytes"), (SERVER, "hello not seen")):
        losses = Losses()
        parser = Tls(losses)
        parser.feed(CLIENT, records(hello(FULL))[:60], 1)
        parser.gap(side, 5)
        assert parser.feed(CLIENT, records(hello(FULL)), 2) == []
        assert losses.snapshot() == {("tls", reason): 1}
    parser = Tls(losses)
    parser.feed(CLIENT, records(hello(FULL)), 1)
    parser.gap(SERVER, 5)
    assert parser.opaque
    assert losses.total() == 1


@given(st.integers(0, 200), st.binary(max_size=8), st.lists(st.tuples(st.sampled_from(Side), st.binary(max_size=60))))
def test_any_bytes(at: int, patch: bytes, more: list[tuple[Side, bytes]]) -> None:
    data = records(hello(FULL), 70)
    mutated = data[:at] + patch + data[at + len(patch) :]
    losses = Losses()
    parser = Tls(losses)
    hellos = []
    for side, piece in [(CLIENT, mutated), *more]:
        hellos += [each for each in parser.feed(side, piece, 1) if each.kind is L7Kind.TLS]
    assert len(hellos) <= 1
    parser.close(CLIENT)
    assert len(hellos) + sum(number for stage, _, number in losses if stage == "tls") <= 1
