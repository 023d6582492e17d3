"""`flowscope tui`: the terminal UI over servers or a capture; with neither, it offers to start or open one."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from observer.cli.capture_options import capture_options
from observer.cli.command import Command, say_losses, warn
from observer.client import Source, open_capture_source, open_servers
from observer.errors import ConfigError, FlowscopeError

DEFAULT_SERVER: Final = "localhost:4245"
MAX_RING: Final = 1_000_000


def tui(
    *,
    filter: tuple[str, ...],
    server: tuple[str, ...],
    pcap: Path | None,
    realtime: bool,
    identities: Path | None,
    policy: tuple[Path, ...],
    policy_mode: str | None,
    ring: int | None,
    config: Path | None,
    theme: str | None,
    ascii: bool,
    slow: bool,
    web: int | None,
) -> None:
    """Look at the flows of a server, of several, or of a capture, on the whole screen.

    FILTER is a text of the filter language: 'namespace=shop and not dns'.
    """
    if web is not None:
        _serve_to_browsers(web)
        return
    from observer.filters.expression import Expression
    from tui.config import CHECKS, Session, load_config, state_path

    settings = load_config(config)
    settings = replace(
        settings,
        ring=settings.ring if ring is None else ring,
        theme=settings.theme if theme is None else CHECKS["theme"](theme),
        ascii=settings.ascii or ascii,
        slow=settings.slow or slow,
    )
    text = " ".join(filter)
    Expression.parse(text)  # what is wrong with it is told before the screen is taken
    if pcap is None and (identities is not None or policy or realtime):
        raise ConfigError("--identities, --policy and --realtime need --pcap; a server has its own")
    session = Session.load(state_path())
    if theme is not None:
        session.theme = ""
    with ExitStack() as opened:
        offer = None
        if pcap is None:
            source = open_servers(server or (os.environ.get("HUBBLE_SERVER") or DEFAULT_SERVER,))
            opened.callback(source.close)
            try:
                source.status()
            except FlowscopeError as error:
                if server:
                    raise  # a server that was named and is not there is told before the screen is taken
                offer = _Offer(str(error), source, opened)
        else:
            source = open_capture_source(
                pcap, identities=identities, policies=policy, policy_mode=policy_mode or "enforce", realtime=realtime
            )
            opened.callback(source.close)
        for warning in source.warnings:
            warn(warning)
        from tui.app import run

        run(
            source,
            config=settings,
            session=session,
            state=state_path(),
            finite=pcap is not None,
            filter=text,
            offer=offer,
            settings=config,
        )
        if pcap is not None:
            say_losses(source.status().losses, of=str(pcap))


def _serve_to_browsers(port: int) -> None:
    """Run this very command for each browser that comes, on loopback only."""
    try:
        from textual_serve.server import Server
    except ImportError:
        raise ConfigError("--web needs the extra `web`: pip install 'flowscope[web]'") from None
    Server(web_command(sys.argv[1:]), port=port, title="flowscope").serve()


def web_command(args: Sequence[str]) -> str:
    """The command line without --web, for a shell."""
    kept, skip = [], False
    for arg in args:
        if skip or arg == "--web":
            skip = not skip and arg == "--web"
        elif not arg.startswith("--web="):
            kept.append(arg)
    return shlex.join([sys.executable, "-m", "observer.cli", *kept])


class _Offer:
    """What the TUI offers when there is no server."""

    def __init__(self, why: str, unreachable: Source, opened: ExitStack) -> None:
        from observer.cli import local

        self.text = f"{why}\n\n{local.offer()}"
        self.possible = local.possible()
        self._unreachable = unreachable
        self._opened = opened

    def start(self) -> Source:
        """Start a local observer; it ends with the TUI."""
        from observer.cli.local import LocalObserver

        observer = LocalObserver()
        self._opened.callback(observer.close)
        source = observer.source()
        self._opened.callback(source.close)
        self._unreachable.close()  # or it would go on trying to connect
        source.name = "local observer"
        return source


command = Command(
    "tui",
    callback=tui,
    help=tui.__doc__,
    params=[
        click.Argument(["filter"], nargs=-1, metavar="[FILTER]"),
        click.Option(
            ["--server"],
            multiple=True,
            metavar="ADDRESS",
            help=f"host:port or unix:///path of a server; several are merged.  [default: {DEFAULT_SERVER}; "
            "env var: HUBBLE_SERVER]",
        ),
        *capture_options(),
        click.Option(["--realtime"], is_flag=True, help="At the pace at which the capture was made."),
        click.Option(
            ["--ring"],
            type=click.IntRange(1, MAX_RING),
            metavar="N",
            help="How many flows are held.  [default: 131072]",
        ),
        click.Option(["--config"], type=click.Path(path_type=Path), metavar="FILE", help="Settings, instead of yours."),
        click.Option(["--theme"], metavar="NAME", help="ansi-dark, ansi-light or colour-blind."),
        click.Option(["--ascii"], is_flag=True, help="Signs of ASCII only."),
        click.Option(["--slow"], is_flag=True, help="Paint less often, for slow lines."),
        click.Option(
            ["--web"],
            type=click.IntRange(1, 65535),
            metavar="PORT",
            help="Serve it to browsers on localhost:PORT instead (needs flowscope[web]).",
        ),
    ],
)
