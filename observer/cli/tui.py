"""`flowscope tui`: the terminal UI over a server or a capture."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from observer.cli.capture_options import capture_options, server_option
from observer.cli.command import Command, say_losses, warn
from observer.client import open_capture_source, open_server
from observer.errors import ConfigError


def tui(
    *,
    server: str,
    pcap: Path | None,
    realtime: bool,
    identities: Path | None,
    policy: tuple[Path, ...],
    policy_mode: str,
) -> None:
    """Look at the flows of a server, or of a capture, on the whole screen."""
    if pcap is None:
        if identities is not None or policy or realtime:
            raise ConfigError("--identities, --policy and --realtime need --pcap; a server has its own")
        source = open_server(server)
    else:
        source = open_capture_source(
            pcap, identities=identities, policies=policy, policy_mode=policy_mode, realtime=realtime
        )
    with closing(source):
        if pcap is None:
            source.status()  # a server that is not there is told before the screen is taken
        for warning in source.warnings:
            warn(warning)
        from tui.app import run

        run(source, finite=pcap is not None)
        if pcap is not None:
            say_losses(source.status().losses, of=str(pcap))


command = Command(
    "tui",
    callback=tui,
    help=tui.__doc__,
    params=[
        server_option(),
        *capture_options(),
        click.Option(["--realtime"], is_flag=True, help="At the pace at which the capture was made."),
    ],
)
