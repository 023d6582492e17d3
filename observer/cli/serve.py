"""`flowscope serve`: run a capture through the pipeline and serve its flows until told to stop."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any, Final

import click

from observer.cli.capture_options import capture_options
from observer.cli.command import Command, say_losses, warn

DEFAULT_LISTEN: Final = "localhost:4245"
MAX_RING: Final = 1 << 22
HEAD_START_S: Final = 2.0
"""How long the first caller may wait for a capture to be read, so that a short one is whole for everybody."""


def serve(
    *,
    pcap: Path,
    realtime: bool,
    identities: Path | None,
    policy: tuple[Path, ...],
    policy_mode: str,
    listen: tuple[str, ...],
    ring: int,
    node_name: str | None,
    ignore_field_mask: bool,
) -> None:
    """Serve the flows of a capture over Hubble's Observer API, and over flowscope's own batch service.

    Says on stderr when it is ready; stops on SIGTERM and SIGINT.
    """
    from observer.client.capture import Judged, check_capture
    from observer.service.address import parse_address
    from observer.service.answers import About, Answers
    from observer.service.server import Server

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    addresses = [parse_address(text) for text in listen or (DEFAULT_LISTEN,)]
    judged = Judged.load(
        identities=identities, policies=policy, policy_mode=policy_mode, capacity=ring, node_name=node_name
    )
    for warning in judged.warnings:
        warn(warning)
    check_capture(pcap)  # what is wrong with the file is told before anything listens
    about = About(judged.node_name, tier="pcap", tier_reason="asked for with --pcap", policy_mode=judged.policy_mode)
    server = Server(Answers(judged.store, about, ignore_field_mask=ignore_field_mask), node_name=judged.node_name)
    try:
        bound = [server.listen(address) for address in addresses]
        for address in bound:
            if not address.local:
                warn(f"{address} is not encrypted, and whoever reaches it can read every flow")
        replaying = _Replay(judged, pcap, realtime=realtime, stop=stop)
        if not realtime:
            replaying.wait(HEAD_START_S)
        server.start()
        where = " and ".join(map(str, bound))
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
        *capture_options(required=True),
        click.Option(["--realtime"], is_flag=True, help="At the pace at which it was captured."),
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
