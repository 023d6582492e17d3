"""A node under observation: hosts around a switch, and `flowscope serve` where the switch is, as on a real node.

The lab is that of the recordings (fixtures/record/netns.py): a namespace for every workload, all of it gone afterwards.
Real programs make the traffic; what the observer says is read by `observe`, as a user would.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from fixtures.record.netns import Lab, Namespace

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20
VETHS = "to-*"  # the switch's ends of the pairs
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("HUBBLE_", "NO_COLOR"))}
ENVIRONMENT["PYTHONPATH"] = str(ROOT)
COMMAND = (sys.executable, "-m", "observer.cli")

Flow = dict[str, Any]


class Followed:
    """What a follower has printed so far, flow by flow."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.flows: list[Flow] = []
        self.position = 0

    def read(self) -> int:
        """Take the lines that are whole by now; how many flows they told."""
        before = len(self.flows)
        text = os.pread(self.fd, 1 << 26, self.position)
        text = text[: text.rfind(b"\n") + 1]
        self.position += len(text)
        self.flows += [json.loads(line)["flow"] for line in text.splitlines() if b'"flow"' in line]
        return len(self.flows) - before

    def until(self, enough: Callable[[list[Flow]], bool]) -> None:
        """Wait until it is enough, or for so long that it will never be."""
        end = time.monotonic() + PATIENCE_S
        while not enough(self.flows) and time.monotonic() < end:
            time.sleep(0.05)
            self.read()

    def settle(self) -> None:
        """Wait until nothing has come for a second: what would be told twice has been by then."""
        quiet = time.monotonic()
        while time.monotonic() < quiet + 1:
            time.sleep(0.05)
            if self.read():
                quiet = time.monotonic()


class Node:
    """A running observer in a namespace."""

    def __init__(self, process: subprocess.Popen[str], address: str, said: list[str]) -> None:
        self.process = process
        self.address = address
        self.said = said
        """What it wrote to stderr until it was ready, line by line."""

    def says(self) -> str:
        """The next line that it writes to stderr."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().rstrip("\n")

    def observe(self, *words: str) -> list[Flow]:
        """Every flow that `observe` gives of what the server holds."""
        line = [*COMMAND, "observe", "--server", self.address, "--all", "-o", "json", *words]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=ENVIRONMENT, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return [json.loads(text)["flow"] for text in done.stdout.splitlines() if '"flow"' in text]

    def until(self, enough: Callable[[list[Flow]], bool], *words: str) -> list[Flow]:
        """What `observe` gives as soon as it is enough; or, when that never comes, what there is."""
        end = time.monotonic() + PATIENCE_S
        while True:
            flows = self.observe(*words)
            if enough(flows) or time.monotonic() > end:
                return flows
            time.sleep(0.2)

    @contextmanager
    def follow(self, *words: str) -> Iterator[Followed]:
        """`observe --follow`, from the first flow that the server holds, until nothing more comes after the block."""
        line = [*COMMAND, "observe", "--server", self.address, "--all", "--follow", "-o", "json", *words]
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(line, stdout=out, stderr=errors, env=ENVIRONMENT, cwd=ROOT)
            try:
                followed = Followed(out.fileno())
                yield followed
                followed.settle()
                process.send_signal(signal.SIGTERM)  # not SIGINT: where the tests run in the background it is ignored
                assert process.wait(10) == -signal.SIGTERM
                followed.read()
                errors.seek(0)
                assert not errors.read()
            finally:
                process.kill()
                process.wait()

    def status(self) -> dict[str, Any]:
        """`flowscope status -o json`."""
        line = [*COMMAND, "status", "--server", self.address, "-o", "json"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=ENVIRONMENT, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told


@contextmanager
def watched(lab: Lab, at: Namespace, *words: object) -> Iterator[Node]:
    """`flowscope serve` in a namespace, on its ends of the pairs; gives it once it says that it is ready."""
    address = f"unix://{lab.folder}/flowscope.sock"
    inside = ["ip", "netns", "exec", at.netns]
    line = [*inside, *COMMAND, "serve", "--interface", VETHS, "--listen", address, "--node-name", "node-1"]
    process = subprocess.Popen(
        [*line, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stderr is not None
    try:
        said: list[str] = []
        while not said or not said[-1].startswith("flowscope: serving "):
            text = process.stderr.readline()
            assert text, f"the server ended: {said}"
            said.append(text.rstrip("\n"))
        try:
            yield Node(process, address, said)
        except BaseException as error:
            ended = process.poll()
            process.kill()
            error.add_note(f"the server {'ran on' if ended is None else f'had ended with {ended}'}")
            error.add_note(f"it wrote: {process.stderr.read()}")
            raise
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        rest = process.stderr.read()
        assert process.returncode == 0, rest
        assert "Traceback" not in rest, rest
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def identities(path: Path, pods: dict[str, tuple[str, ...]]) -> Path:
    """Write identities.yaml of pods (namespace/name) and their addresses, each with the label app of its name."""
    endpoints = [
        {"pod": pod, "ips": list(addresses), "labels": {"app": pod.split("/")[1]}} for pod, addresses in pods.items()
    ]
    path.write_text(yaml.safe_dump({"cluster": "default", "endpoints": endpoints}))
    return path


def pods(flow: Flow) -> tuple[str, str]:
    """Source and destination as namespace/name; empty where it is no pod."""

    def pod(end: dict[str, Any]) -> str:
        return f"{end['namespace']}/{end['pod_name']}" if end.get("pod_name") else ""

    return pod(flow.get("source", {})), pod(flow.get("destination", {}))


def is_request(flow: Flow) -> bool:
    """Whether it tells an L7 request."""
    return bool(flow.get("l7", {}).get("type") == "REQUEST")
