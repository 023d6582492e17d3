"""The commands as processes: exit codes, what goes to stdout and what to stderr, signals, and the demo."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PCAPS = ROOT / "fixtures" / "pcaps"
SHOP = ["--pcap", str(PCAPS / "shop.pcap")]
JUDGED = [*SHOP, "--identities", str(PCAPS / "shop.identities.yaml"), "--policy", str(PCAPS / "shop.policy.yaml")]
PATIENCE_S = 60
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("HUBBLE_", "NO_COLOR"))}


def start(*words, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT} | options
    return subprocess.Popen([sys.executable, "-m", "observer.cli", *words], env=ENVIRONMENT, **options)


def run(*words):
    with start(*words) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


@contextmanager
def serving(*words):
    """`flowscope serve` until the block ends; gives the process once it says that it is ready."""
    process = start("serve", *words, stdout=subprocess.DEVNULL)
    try:
        lines = []
        while not lines or not lines[-1].startswith("flowscope: serving "):
            line = process.stderr.readline()
            assert line, f"the server ended: {lines}"
            lines.append(line)
        process.said = lines
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    address = f"unix://{tmp_path_factory.mktemp('s')}/f.sock"
    with serving(*JUDGED, "--listen", address):
        yield address


def test_a_capture_and_a_server_tell_the_same_flows(server):
    code, from_capture, err = run("observe", *JUDGED, "--verdict", "DROPPED", "-o", "json")
    assert code == 0
    code, from_server, _ = run("observe", "--server", server, "--all", "--verdict", "DROPPED", "-o", "json")
    assert code == 0

    def told(text):
        flows = [json.loads(line)["flow"] for line in text.splitlines()]
        for flow in flows:
            del flow["uuid"]  # a new replay is a new store
        return flows

    assert told(from_capture) == told(from_server)
    request = next(flow for flow in told(from_capture) if flow["Type"] == "L7")
    assert (request["verdict"], request["drop_reason_desc"]) == ("DROPPED", "POLICY_DENIED")
    for end in ("source", "destination"):
        assert request[end]["identity"] >= 256
        assert request[end]["namespace"]
        assert request[end]["pod_name"]
        assert request[end]["labels"]
    assert request["l7"]["http"]["method"]
    assert request["l7"]["http"]["url"].startswith("http://")
    assert err == ""  # the shop's ARP makes no flows and is no loss


@pytest.mark.parametrize(
    ("flags", "count"),
    [
        ([], 20),
        (["--last", "3"], 3),
        (["--first", "2"], 2),
        (["--pod", "nobody"], 0),
        (["--last", "1", "--until", "2001-01-01"], 0),
    ],
)
def test_how_many_flows_a_server_is_asked_for(server, flags, count):
    code, out, err = run("observe", "--server", server, *flags)
    assert (code, len(out.splitlines()), err) == (0, count, "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["observe", "--pcap", "no-such.pcap"], "no-such.pcap: no such file"),
        (["observe", "--pcap", "pyproject.toml"], "pyproject.toml: is no pcap or pcapng capture"),
        (["observe", *SHOP, "--identities", "no-such.yaml"], "no-such.yaml"),
        (["observe", *SHOP, "--policy", "no-such.yaml"], "no-such.yaml"),
        (["observe", *SHOP, "--policy", "pyproject.toml"], "pyproject.toml"),
        (["observe", *SHOP, "--server", "localhost:1"], "--pcap and --server cannot be combined"),
        (["observe", "--identities", "x"], "--identities needs --pcap"),
        (["observe", "--policy-mode", "audit"], "--policy-mode needs --pcap"),
        (["observe", *SHOP, "--verdict", "dropped"], "invalid --verdict value: dropped"),
        (["observe", *SHOP, "--port", "http"], "http"),
        (["observe", *SHOP, "--http-path", "("], "("),
        (["observe", *SHOP, "--since", "13:00"], "failed to parse the since time: failed to convert 13:00 to time"),
        (["observe", *SHOP, "--first", "1", "--last", "1"], "cannot set both --first and --last"),
        (["observe", *SHOP, "--first", "1", "-f"], "cannot set both --first and --follow"),
        (["observe", *SHOP, "-o", "table", "-f"], "table output format is not compatible with follow mode"),
        (["observe", *SHOP, "--field-mask", "verdict"], "compact output format is not compatible"),
        (["observe", *SHOP, "-o", "xml"], "'xml' is not one of"),
        (["observe", *SHOP, "--time-format", "xml"], "unknown --time-format 'xml'; one of StampMilli"),
        (["observe", "--nonsense"], "No such option '--nonsense'"),
        (["observe", "--server", "127.0.0.1:1"], "cannot reach flowscope at 127.0.0.1:1: connection refused"),
        (["observe", "--server", "tls://x:1"], "no TLS yet"),
        (["status", "--server", "unix:///no/such"], "cannot reach flowscope at unix:///no/such"),
        (["serve", "--realtime"], "--realtime is for a capture: give it with --pcap"),
        (["serve", *SHOP, "--interface", "eth0"], "--interface and --datapath are for live capture"),
        (["serve", *SHOP, "--datapath", "user"], "--interface and --datapath are for live capture"),
        (["serve", "--datapath", "nonsense"], "'nonsense' is not one of 'auto', "),
        (["serve", "--pcap", "no-such.pcap"], "no-such.pcap: no such file"),
        (["serve", *SHOP, "--ring", "0"], "'--ring'"),
        (["serve", *SHOP, "--listen", "unix:///no/such/dir/s"], "no such directory"),
        (["serve", *SHOP, "--listen", ":4245"], "0.0.0.0:4245 for every interface"),
        (["tui", "--server", "127.0.0.1:1"], "cannot reach flowscope at 127.0.0.1:1: connection refused"),
        (["tui", "--pcap", "no-such.pcap"], "no-such.pcap: no such file"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_mistakes_are_one_line_on_stderr_and_exit_code_1(words, message):
    code, out, err = run(*words)
    assert code == 1
    assert out == ""
    (line,) = err.splitlines()
    assert not line.startswith("Error")  # as the stock CLI: the message alone
    assert message in line


def test_what_is_wrong_in_a_policy_is_told_with_its_line(tmp_path):
    policy = tmp_path / "p.yaml"
    policy.write_text(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: shop}\n"
        "spec:\n  endpointSelector: {}\n  nonsense: 1\n"
    )
    code, _, err = run("observe", *SHOP, "--policy", str(policy))
    assert code == 1
    assert err.startswith(f"{policy}:6: ")
    assert "nonsense" in err


def test_a_policy_that_selects_nobody_is_warned_about(tmp_path):
    policy = tmp_path / "p.yaml"
    policy.write_text(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: lonely, namespace: shop}\n"
        "spec:\n  endpointSelector: {matchLabels: {app: nobody}}\n  ingress: [{}]\n"
    )
    words = [
        "observe",
        *SHOP,
        "--identities",
        str(PCAPS / "shop.identities.yaml"),
        "--policy",
        str(policy),
        "--last",
        "1",
    ]
    code, out, err = run(*words)
    assert (code, len(out.splitlines())) == (0, 1)
    assert err.startswith("warning: ")
    assert "lonely" in err.splitlines()[0]
    code, _, err = run(*words, "-s")
    assert (code, err) == (0, "")


def test_a_cut_capture_is_read_as_far_as_it_goes(tmp_path):
    whole = (PCAPS / "http1-basic.pcap").read_bytes()
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(whole[: len(whole) - 20])
    code, out, err = run("observe", "--pcap", str(cut))
    assert code == 0
    assert out
    assert err.splitlines() == [f"not read or lost in {cut}:", "  pcap: cut in mid-packet: 1"]


def test_a_capture_may_come_through_a_pipe():
    _, from_file, _ = run("observe", *SHOP)
    with (
        (PCAPS / "shop.pcap").open("rb") as capture,
        subprocess.Popen(["cat"], stdin=capture, stdout=subprocess.PIPE) as cat,
        start("observe", "--pcap", "/dev/stdin", stdin=cat.stdout) as process,
    ):
        cat.stdout.close()
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert out == from_file


def test_interrupting_a_follower_is_no_error(server):
    with start("observe", "--server", server, "--follow", "--last", "2") as process:
        assert process.stdout.readline()
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize("source", ["pcap", "server"])
def test_a_reader_that_goes_away_is_no_error(server, source):
    words = SHOP if source == "pcap" else ["--server", server, "--all"]
    with start("observe", *words, "-o", "json", "-s") as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize("words", [["observe", *SHOP], ["observe", *SHOP, "-o", "table"], ["observe", "--help"]])
def test_a_full_disk_is_one_line_on_stderr_and_exit_code_1(words):
    with open("/dev/full", "w") as full, start(*words, stdout=full) as process:
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert err == "cannot write the output: No space left on device; choose another place for it\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_error(closed):
    words = [sys.executable, "-m", "observer.cli", "observe", *SHOP]
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *words]
    done = subprocess.run(shell, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) is not closed.startswith(">")


def test_the_server_may_come_from_the_environment(server, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "HUBBLE_SERVER", server)
    assert run("observe", "--last", "1")[0] == 0
    # It names no source of a capture.
    assert run("observe", *SHOP, "--last", "1")[0] == 0


def test_status(server):
    code, out, err = run("status", "--server", server)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"Healthcheck (via {server}): Ok"
    assert lines[1].startswith("Current/Max Flows: ")
    assert lines[1].endswith(f"/131,072 ({int(lines[1].split()[2].split('/')[0]) / 131_072:.2%})")
    assert lines[2].startswith("Flows/s: ")
    assert "Tier: pcap (asked for with --pcap)" in lines
    assert "Policy mode: enforce" in lines
    code, out, _ = run("status", "--server", server, "-o", "json")
    told = json.loads(out)
    assert told["max_flows"] == "131072"
    assert told["tier"] == "pcap"


def test_serve_says_when_it_is_ready_and_stops_on_a_signal(tmp_path):
    for number in (signal.SIGTERM, signal.SIGINT):
        path = tmp_path / "s.sock"
        with serving(*SHOP, "--listen", f"unix://{path}", "--listen", "127.0.0.1:0", "--node-name", "n7") as process:
            assert f" flows of shop.pcap on unix://{path} and 127.0.0.1:" in process.said[-1]
            assert len(process.said) == 1
            code, out, _ = run("observe", "--server", f"unix://{path}", "--last", "1", "--print-node-name")
            assert code == 0
            assert " [n7]: " in out
            process.send_signal(number)
            assert process.wait(PATIENCE_S) == 0
            assert "Traceback" not in process.stderr.read()
        assert not path.exists()


def test_serve_says_that_a_foreign_address_is_not_encrypted():
    with serving(*SHOP, "--listen", "0.0.0.0:0") as process:
        assert process.said[0].startswith("warning: 0.0.0.0:")
        assert "not encrypted" in process.said[0]


def test_serve_in_real_time_is_ready_before_the_capture_is_at_its_end(tmp_path):
    address = f"unix://{tmp_path}/s.sock"
    with serving(*SHOP, "--realtime", "--listen", address) as process:
        assert "in real time" in process.said[-1]
        with start("observe", "--server", address, "--follow", "--last", "1") as follower:
            timer = threading.Timer(PATIENCE_S, follower.kill)
            timer.start()
            assert follower.stdout.readline()
            timer.cancel()
            process.send_signal(signal.SIGTERM)
            assert follower.wait(PATIENCE_S) == 1  # the server has gone
            assert "cannot reach flowscope" in follower.stderr.read()


def test_demo_ends_with_refused_requests_and_what_to_type_next():
    code, out, err = run("demo")
    assert code == 0, err
    shown, _, after = out.partition("What to type next:")
    refused = [line for line in shown.splitlines() if " http-request DROPPED " in line]
    assert len(refused) >= 3
    assert "flowscope tui --pcap " in after
    assert "observe --pcap " in after
    assert "Traceback" not in err


def test_help_and_version():
    code, out, _ = run()
    assert code == 0
    assert all(f"\n  {name} " in out for name in ("observe", "serve", "status", "tui", "demo"))
    code, out, _ = run("observe", "--help")
    assert code == 0
    assert "--print-raw-filters" in out
    assert run("--version")[1].startswith("flowscope, version ")
