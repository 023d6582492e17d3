"""The wheel in a clean environment outside the checkout: whatever is needed at run time travels in it."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a new virtual environment that holds the wheel and what it asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    run = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(run, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    scripts = folder / "venv" / "bin"
    pip = [str(scripts / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)]
    subprocess.run(pip, check=True, cwd=folder)
    return scripts


def call(scripts: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{scripts}:/usr/bin:/bin", "HOME": str(scripts)}
    return subprocess.run(arguments, capture_output=True, text=True, cwd=scripts, env=environment, timeout=60)


def test_the_demo_runs(installed):
    done = call(installed, str(installed / "flowscope"), "demo")
    assert done.returncode == 0
    assert "DROPPED" in done.stdout
    assert "flowscope tui" in done.stdout
    assert str(ROOT) not in done.stdout


def test_the_programs_for_the_kernel_travel_in_it(installed):
    code = "from observer.datapath.objects import image; print(*(image(name)[:4] for name in ('datapath', 'drops')))"
    done = call(installed, str(installed / "python"), "-c", code)
    assert (done.stdout, done.stderr) == ("b'\\x7fELF' b'\\x7fELF'\n", "")


@pytest.fixture
def server(installed, tmp_path) -> Iterator[str]:
    """`flowscope serve` over the shop that travels in the wheel."""
    where = call(
        installed, str(installed / "python"), "-c", "import observer; print(*observer.__path__)"
    ).stdout.strip()
    shop = Path(where) / "demo"
    address = f"unix://{tmp_path}/flowscope.sock"
    serve = [str(installed / "flowscope"), "serve", "--pcap", str(shop / "shop.pcap"), "--listen", address]
    serve += ["--identities", str(shop / "shop.identities.yaml"), "--policy", str(shop / "shop.policy.yaml")]
    with subprocess.Popen(serve, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr is not None
        assert "serving" in process.stderr.readline()
        yield address
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_serve_observe_and_status_run(installed, server):
    done = call(installed, str(installed / "observe"), "--server", server, "--verdict", "DROPPED", "--last", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert " DROPPED (" in done.stdout
    status = call(installed, str(installed / "flowscope"), "status", "--server", server)
    assert status.returncode == 0
    assert "pcap" in status.stdout


def test_the_tui_runs_in_a_terminal(installed, server):
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update({"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"})
        os.execv(installed / "flowscope", ["flowscope", "tui", "--server", server])
    seen = read_until(terminal, b"DROPPED")
    os.write(terminal, b"q")
    while read_some(terminal):
        pass
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert b"DROPPED" in seen
    assert os.waitstatus_to_exitcode(status) == 0


def read_some(terminal: int) -> bytes:
    """What the program writes next; empty at its end, or when it is silent for ten seconds."""
    if not select.select([terminal], [], [], 10)[0]:
        return b""
    try:
        return os.read(terminal, 65_536)
    except OSError:  # Linux's way to say that nobody holds the other end
        return b""


def read_until(terminal: int, wanted: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + 30
    while wanted not in seen and time.monotonic() < deadline and (more := read_some(terminal)):
        seen += more
    return seen
