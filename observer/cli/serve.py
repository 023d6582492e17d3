"""`flowscope serve`: capture from interfaces, or run a capture file through the pipeline, and serve the flows."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from observer.cli.capture_options import capture_options
from observer.cli.command import Command, say_losses, warn

if TYPE_CHECKING:
    from observer.client.capture import Judged
    from observer.service.address import Address
    from observer.service.answers import About
    from observer.service.server import Server

DATAPATHS: Final = ("auto", "ebpf", "user")
DEFAULT_LISTEN: Final = "localhost:4245"
MAX_RING: Final = 1 << 22
HEAD_START_S: Final = 2.0
"""How long the first caller may wait for a capture to be read, so that a short one is whole for everybody."""


def serve(
    *,
    interface: tuple[str, ...],
    datapath: str | None,
    pcap: Path | None,
    realtime: bool,
    identities: Path | None,
    policy: tuple[Path, ...],
    policy_mode: str | None,
    listen: tuple[str, ...],
    ring: int,
    node_name: str | None,
    ignore_field_mask: bool,
) -> None:
    """Capture from interfaces, or read a capture with --pcap, and serve the flows over Hubble's Observer API.

    Says on stderr when it is ready; stops on SIGTERM and SIGINT.
    """
    if pcap is None and realtime:
        raise click.UsageError("--realtime is for a capture: give it with --pcap")
    if pcap is not None and (interface or datapath):
        raise click.UsageError("--pcap reads a file: --interface and --datapath are for live capture")
    from observer.client.capture import Judged
    from observer.service.address import parse_address

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    addresses = [parse_address(text) for text in listen or (DEFAULT_LISTEN,)]
    judged = Judged.load(
        identities=identities,
        policies=policy,
        policy_mode=policy_mode or ("audit" if pcap is None else "enforce"),
        capacity=ring,
        node_name=node_name,
    )
    for warning in judged.warnings:
        warn(warning)
    open_server = _Opening(judged, addresses, ignore_field_mask)
    if pcap is None:
        _serve_live(judged, interface, datapath or "auto", open_server, stop)
    else:
        _serve_capture(judged, pcap, realtime, open_server, stop)


class _Opening:
    """What a server needs beside what it tells of itself."""

    def __init__(self, judged: Judged, addresses: list[Address], ignore_field_mask: bool) -> None:
        self._judged = judged
        self.addresses = addresses
        self._ignore_field_mask = ignore_field_mask

    def __call__(self, about: About) -> tuple[Server, str]:
        """A server that listens and does not answer yet, and the names of where it listens."""
        from observer.service.answers import Answers
        from observer.service.server import Server

        answers = Answers(self._judged.store, about, ignore_field_mask=self._ignore_field_mask)
        server = Server(answers, node_name=self._judged.node_name)
        try:
            bound = [server.listen(address) for address in self.addresses]
        except BaseException:
            server.stop()
            raise
        for address in bound:
            if not address.local:
                warn(f"{address} is not encrypted, and whoever reaches it can read every flow")
        return server, " and ".join(map(str, bound))


def _serve_live(
    judged: Judged, patterns: tuple[str, ...], datapath: str, open_server: _Opening, stop: threading.Event
) -> None:
    from observer.datapath.interfaces import Interfaces
    from observer.errors import FlowscopeError
    from observer.judging import Watch, read_judging
    from observer.live.loop import Live
    from observer.live.tier import Judges, give_up_rights, open_tier
    from observer.service.answers import About, Condition
    from observer.tag import PolicyMode

    mode = PolicyMode(judged.policy_mode or "audit")
    judges = Judges(judged.store, judged.judging.endpoints, judged.judging.policy, mode, judged.node_name)
    tier = open_tier(datapath, judges, say=warn)
    watch = Watch(judged.files)

    def read_again() -> None:
        if not watch.changed():
            return
        try:
            judging = read_judging(judged.files, judged.store.endpoints, judged.store.policies)
            tier.capture.judge_by(judging.endpoints, judging.policy)
        except FlowscopeError as error:
            warn(f"{error}; what was read before still holds")
            return
        for warning in judging.warnings:
            warn(warning)
        _say("read identities and policies again: they hold from now on")

    live = Live(tier.capture, Interfaces(patterns), stop, read_again)
    try:
        # Before any other thread is there: rights belong to threads.
        give_up_rights(tier.capture, [(address.port, address.path) for address in open_server.addresses])
        about = About(
            judged.node_name,
            tier=tier.name,
            tier_reason=tier.reason,
            policy_mode=judged.policy_mode,
            condition=lambda: Condition(tier.capture.attached, tier.capture.pressures),
        )
        server, where = open_server(about)
        try:
            live.start()
            server.start()
            server.ready()
            number = len(tier.capture.attached)
            if not number:
                warn("there is no such interface yet" if patterns else "there is no veth yet; see --interface")
            why = f" ({tier.reason})" if tier.reason else ""
            _say(f"serving the flows of {number} interface{'s' * (number != 1)} on {where}, tier {tier.name}{why}")
            stop.wait()
        finally:
            stop.set()
            server.stop()
    finally:
        live.stop()
    if live.failure is not None:
        raise live.failure
    say_losses(judged.store.losses, of="the live capture")


def _serve_capture(judged: Judged, pcap: Path, realtime: bool, open_server: _Opening, stop: threading.Event) -> None:
    from observer.client.capture import check_capture
    from observer.service.answers import About

    check_capture(pcap)  # what is wrong with the file is told before anything listens
    about = About(judged.node_name, tier="pcap", tier_reason="asked for with --pcap", policy_mode=judged.policy_mode)
    server, where = open_server(about)
    try:
        replaying = _Replay(judged, pcap, realtime=realtime, stop=stop)
        if not realtime:
            replaying.wait(HEAD_START_S)
        server.start()
        if realtime:
            server.ready()
            _say(f"serving {pcap.name} in real time on {where}")
        replaying.wait()
        if not stop.is_set() and not realtime:
            server.ready()
            _say(f"serving {judged.store.next} flows of {pcap.name} on {where}")
        elif not stop.is_set():
            _say(f"{pcap.name} is at its end after {judged.store.next} flows")
        say_losses(judged.store.losses, of=str(pcap))
        told = judged.store.losses.total()
        stop.wait()
    finally:
        stop.set()
        server.stop()
    if judged.store.losses.total() > told:
        say_losses(judged.store.losses, of=f"{pcap} and by its readers")


class _Replay:
    """The replay in a thread of its own; `wait` gives its failure to the main thread."""

    def __init__(self, judged: Any, path: Path, *, realtime: bool, stop: threading.Event) -> None:
        self._failure: BaseException | None = None
        self._arguments = (judged, path, realtime, stop)
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)
        self._thread.start()

    def wait(self, timeout: float | None = None) -> None:
        """Until the capture is read, `stop` is set, or the timeout."""
        self._thread.join(timeout)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        from observer.pipeline import replay

        judged, path, realtime, stop = self._arguments
        try:
            replay(path, judged.pipeline, realtime=realtime, stop=stop)
        except BaseException as error:  # noqa: BLE001  the main thread raises it
            self._failure = error


def _say(message: str) -> None:
    from observer.printer import escape

    click.echo(f"flowscope: {escape(message)}", err=True)


command = Command(
    "serve",
    callback=serve,
    help=serve.__doc__,
    params=[
        click.Option(
            ["--interface", "-i"],
            multiple=True,
            metavar="NAME|GLOB",
            help="Capture from these interfaces, as they come and go; several are allowed.  [default: every veth]",
        ),
        click.Option(
            ["--datapath"],
            type=click.Choice(DATAPATHS),
            help="Where packets are read: in the kernel, in user space, or in the best that loads.  [default: auto]",
        ),
        *capture_options(live=True),
        click.Option(["--realtime"], is_flag=True, help="A capture at the pace at which it was captured."),
        click.Option(
            ["--listen"],
            multiple=True,
            metavar="ADDRESS",
            help=f"host:port or unix:///path; several are allowed.  [default: {DEFAULT_LISTEN}]",
        ),
        click.Option(
            ["--ring"],
            type=click.IntRange(1, MAX_RING),
            default=131_072,
            show_default=True,
            metavar="N",
            help="How many flows are held.",
        ),
        click.Option(["--node-name"], metavar="NAME", help="The name of this node.  [default: the host's]"),
        click.Option(
            ["--ignore-field-mask"],
            is_flag=True,
            help="Send whole flows: the field mask of `hubble` 1.19 leaves out names, directions and policies.",
        ),
    ],
)
