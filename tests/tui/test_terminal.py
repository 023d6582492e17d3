"""What reaches a real terminal (a pty): colours only where they are wanted, and then the sixteen; ASCII where asked."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

import pytest

from tests.tui.driving import PCAPS

STYLE = re.compile(rb"\x1b\[([0-9;]*)m")
"""SGR."""
ESCAPE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
SIXTEEN = {*range(30, 38), *range(40, 48), *range(90, 98), *range(100, 108)}
KEY_S = 0.7
"""Between two keys."""
DEFAULT = {39, 49}
PLAIN = {0, 1, 2, 3, 4, 7, 22, 23, 24, 27}


def written(*args, env=(), seconds=30.0):
    """All that the TUI writes from its start until the flows are there, and its end by q."""
    pid, handle = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm-256color", "COLORTERM": "", "COLUMNS": "80", "LINES": "24", **dict(env)}
        shop = [str(PCAPS / f"shop.{end}") for end in ("pcap", "identities.yaml", "policy.yaml")]
        command = [sys.executable, "-m", "observer.cli", "tui", "--pcap", shop[0], "--identities", shop[1]]
        os.execv(sys.executable, [*command, "--policy", shop[2], *args])
    fcntl.ioctl(handle, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    out = bytearray()
    keys = [b"E", b":", b"\x1b", b"?", b"q", b"3", b"q", b"q"]
    pressed = time.monotonic()
    end = pressed + seconds
    try:
        while time.monotonic() < end:
            if select.select([handle], [], [], 0.1)[0]:
                try:
                    out += os.read(handle, 1 << 16)
                except OSError:  # it has ended
                    return bytes(out)
            if keys and b"FILE" in out and time.monotonic() > pressed + KEY_S:
                os.write(handle, keys.pop(0))
                pressed = time.monotonic()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(handle)
    raise AssertionError("it did not end")


def styles(out):
    return [[int(number or 0) for number in found.split(b";")] for found in STYLE.findall(out)]


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_no_color_writes_none(home):
    out = written(env={"NO_COLOR": "1"})
    assert {number for style in styles(out) for number in style} <= PLAIN | DEFAULT
    assert "✗ DROPPED".encode() in out


@pytest.mark.parametrize("theme", ["ansi-dark", "ansi-light", "colour-blind"])
def test_themes_have_the_terminals_own_sixteen_colours(home, theme):
    used = {number for style in styles(written("--theme", theme)) for number in style}
    assert used <= PLAIN | DEFAULT | SIXTEEN
    assert used & SIXTEEN


def test_ascii_writes_nothing_else(home):
    out = written("--ascii")
    assert ESCAPE.sub(b"", out).isascii()
    assert b"x DROPPED" in out
