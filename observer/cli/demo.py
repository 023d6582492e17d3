"""`flowscope demo`: the main job on a capture that travels with the program, by the commands a user would type."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import click

from observer.cli.command import Command
from observer.errors import ConfigError, FlowscopeError

NAMES: Final = ("shop.pcap", "shop.identities.yaml", "shop.policy.yaml")
READY: Final = "flowscope: serving "
READY_S: Final = 60
STOP_S: Final = 10
PROGRAM: Final = (sys.executable, "-m", "observer.cli")


def demo() -> None:
    """Show the main job: captured traffic of a small shop, its policies, a server, and what was refused."""
    capture, identities, policy = map(_short, find_files())
    judged = ["--pcap", str(capture), "--identities", str(identities), "--policy", str(policy)]
    with tempfile.TemporaryDirectory(prefix="flowscope-") as folder:
        address = f"unix://{folder}/demo.sock"
        with _server(["serve", *judged, "--listen", address]):
            refused = _output(["observe", "--server", address, "--verdict", "DROPPED", "--type", "l7", "--all"])
            click.echo(refused, nl=False)
            if not refused:
                raise FlowscopeError("the demo's server gave no refused flows; that is a bug")
    click.echo("\nThose requests were refused by policy. What to type next:\n")
    for told, words in (
        ("the same on the whole screen (q quits)", ["flowscope", "tui", *judged]),
        ("every request with its verdict", ["observe", *judged, "--type", "l7"]),
        (
            "one refused request with all that is known",
            ["observe", *judged, "--verdict", "DROPPED", "--http-path", "/v1", "--first", "1", "-o", "json"],
        ),
        ("a server for `observe`, `flowscope tui` and Hubble's own CLI", ["flowscope", "serve", *judged]),
    ):
        click.echo(f"  # {told}\n  {shlex.join([_program(words[0]), *words[1:]])}")


def _short(path: Path) -> Path:
    """The path from here, if it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _program(name: str) -> str:
    """How to call one of our programs from here: by name, or by the path of this environment's."""
    beside = Path(sys.executable).absolute().parent / name
    return name if shutil.which(name) or not beside.is_file() else str(_short(beside))


def find_files() -> tuple[Path, Path, Path]:
    """The demo's capture, identities and policy: in the installed package, or in a checkout."""
    package = Path(__file__).parent.parent
    for folder in (package / "demo", package.parent / "fixtures" / "pcaps"):
        if all((folder / name).is_file() for name in NAMES):
            capture, identities, policy = (folder / name for name in NAMES)
            return capture, identities, policy
    raise ConfigError("the demo's files are missing; install flowscope again, or run it from a checkout")


@contextmanager
def _server(words: list[str]) -> Iterator[None]:
    """Run `flowscope serve` as a process of its own, from when it is ready until the block ends."""
    _show(["flowscope", *words])
    with subprocess.Popen([*PROGRAM, *words], stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        ready = threading.Event()
        reader = threading.Thread(target=_pass_on, args=(child.stderr, ready), daemon=True)
        reader.start()
        try:
            if not ready.wait(READY_S) or child.poll() is not None:
                raise FlowscopeError("the demo's server did not start; what it said stands above")
            yield
        finally:
            child.terminate()
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
            reader.join()


def _pass_on(lines: IO[str], ready: threading.Event) -> None:
    for line in lines:
        click.echo(line, nl=False, err=True)
        if line.startswith(READY):
            ready.set()
    ready.set()  # it has ended: nobody has to wait any longer


def _output(words: list[str]) -> str:
    _show(words)
    done = subprocess.run([*PROGRAM, *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise FlowscopeError("the demo's `observe` failed; what it said stands above")
    return done.stdout


def _show(words: list[str]) -> None:
    click.echo(f"$ {shlex.join(words)}")


command = Command("demo", callback=demo, help=demo.__doc__, params=[])
