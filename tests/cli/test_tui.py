"""`flowscope tui` before it takes the screen: options, what is wrong in one line, what it offers without a server."""

import shlex
import sys

import pytest
from click.testing import CliRunner

from observer.cli import local
from observer.cli.main import flowscope
from observer.cli.tui import web_command
from observer.datapath.rights import EBPF, PACKET


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--server", "127.0.0.1:1"], "cannot reach flowscope at 127.0.0.1:1: connection refused"),
        (["--realtime"], "--identities, --policy and --realtime need --pcap"),
        (["--theme", "pink", "--server", "127.0.0.1:1"], "theme: 'pink' is none of ansi-dark"),
        (["--config", "/", "--server", "127.0.0.1:1"], "/: [Errno 21] Is a directory"),
        (["--ring", "0"], "0 is not in the range 1<=x<=1000000"),
        (["port=x1"], "port"),
        (["--pcap", "/no/such.pcap"], "/no/such.pcap: no such file"),
    ],
)
def test_what_is_wrong_is_told_before_the_screen_is_taken(args, words, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    result = CliRunner().invoke(flowscope, ["tui", *args])
    assert result.exit_code == 1 or "range" in words
    assert words in str(result.exception) + result.output


@pytest.mark.parametrize(
    ("missing", "words", "possible"),
    [
        ((), "the best that loads: eBPF programs", True),
        (EBPF, "packet (sockets); eBPF needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON besides", True),
        ((*EBPF, *PACKET), "none: this user lacks CAP_NET_RAW, CAP_BPF", False),
    ],
)
def test_the_offer_says_what_a_local_observer_would_get(missing, words, possible, monkeypatch):
    monkeypatch.setattr(local, "missing", lambda needed: tuple(one for one in needed if one in missing))
    assert words in local.offer()
    assert "serve --interface" in local.offer()
    assert local.possible() is possible


def test_a_local_observer_that_does_not_start_says_why(monkeypatch):
    monkeypatch.setattr(local, "_command", lambda listen: ["sh", "-c", "echo a line >&2; echo no rights >&2; exit 1"])
    observer = local.LocalObserver()
    try:
        with pytest.raises(Exception, match="the local observer did not start: no rights"):
            observer.source()
    finally:
        observer.close()


def test_a_local_observer_answers_and_ends_with_its_owner(monkeypatch):
    from tests.tui.driving import PCAPS

    serve = [sys.executable, "-m", "observer.cli", "serve", "--pcap", str(PCAPS / "dns-basic.pcap"), "--listen"]
    monkeypatch.setattr(local, "_command", lambda listen: [*serve, listen])
    observer = local.LocalObserver()
    try:
        source = observer.source()
        assert source.status().server.num_flows > 0
        source.close()
    finally:
        observer.close()
    assert observer._child.poll() is not None
    assert not observer._socket.parent.exists()


@pytest.mark.parametrize(
    ("args", "kept"),
    [
        (["tui", "--web", "8000", "--pcap", "a b.pcap"], ["tui", "--pcap", "a b.pcap"]),
        (["tui", "--web=8000", "verdict=DROPPED; reboot"], ["tui", "verdict=DROPPED; reboot"]),
        (["tui", "x", "--web", "--web"], ["tui", "x"]),
    ],
)
def test_browsers_get_the_same_command_without_the_option(args, kept):
    assert shlex.split(web_command(args)) == [sys.executable, "-m", "observer.cli", *kept]


def test_without_the_extra_the_option_says_which_one_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "textual_serve.server", None)
    result = CliRunner().invoke(flowscope, ["tui", "--web", "8000"])
    assert "pip install 'flowscope[web]'" in str(result.exception)
