from pathlib import Path

import pytest

from observer.service.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address", "shown", "local"),
    [
        ("localhost:4245", Address("localhost", 4245), "localhost:4245", True),
        ("localhost", Address("localhost", 4245), "localhost:4245", True),
        ("127.9.9.9:1", Address("127.9.9.9", 1), "127.9.9.9:1", True),
        ("[::1]:80", Address("::1", 80), "[::1]:80", True),
        ("[::1]", Address("::1", 4245), "[::1]:4245", True),
        ("0.0.0.0:4245", Address("0.0.0.0", 4245), "0.0.0.0:4245", False),
        ("[::]:4245", Address("::", 4245), "[::]:4245", False),
        ("relay.example:80", Address("relay.example", 80), "relay.example:80", False),
        ("unix:///run/f.sock", Address(path=Path("/run/f.sock")), "unix:///run/f.sock", True),
        ("unix:/run/f.sock", Address(path=Path("/run/f.sock")), "unix:///run/f.sock", True),
    ],
)
def test_addresses(text, address, shown, local):
    parsed = parse_address(text)
    assert (parsed, str(parsed), parsed.local) == (address, shown, local)


def test_a_relative_socket_is_one_of_this_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_address("unix:f.sock").target == f"unix:{tmp_path}/f.sock"
