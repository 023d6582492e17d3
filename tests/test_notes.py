import pytest

from observer.notes import HOST_NAME


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        (b"a", True),
        (b"www.example.com", True),
        (b"xn--bcher-kva.example.", True),
        (b"_sip._tcp.example.com", True),
        (b"3com.com", True),
        (b"a" * 253, True),
        (b"a" * 254, False),
        (b"", False),
        (b".", False),
        (b"10.0.0.1", False),
        (b"10.0.0.1.", False),
        (b"fd00::1", False),
        (b"two words", False),
        (b"evil\x1b[2J", False),
        (b"line\n", False),
        (b"b\xc3\xbccher.example", False),
    ],
)
def test_what_a_hello_may_name(name: bytes, is_one: bool) -> None:
    assert bool(HOST_NAME.fullmatch(name)) is is_one
