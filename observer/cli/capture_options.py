"""The options by which a capture gets identities and verdicts, the same in every command that reads one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

FILE: Final = click.Path(path_type=Path)


def capture_options(*, live: bool = False) -> list[click.Option]:
    """--pcap, --identities, --policy, --policy-mode; `live` where interfaces are captured from without --pcap."""
    mode = (
        "What policy denies is AUDIT, or DROPPED and, live, refused.  [default: audit; enforce over a capture]"
        if live
        else "What policy denies is AUDIT, or DROPPED (default)."
    )
    return [
        click.Option(["--pcap"], type=FILE, metavar="FILE", help="Read this capture (pcap, pcapng, .gz)."),
        click.Option(["--identities"], type=FILE, metavar="FILE", help="Who is behind the addresses."),
        click.Option(["--policy"], type=FILE, multiple=True, metavar="FILE|DIR", help="Policies that judge the flows."),
        click.Option(
            ["--policy-mode"],
            type=click.Choice(["audit", "enforce"]),
            default=None if live else "enforce",
            help=mode,
        ),
    ]


def server_option() -> click.Option:
    """--server."""
    return click.Option(
        ["--server"],
        default="localhost:4245",
        envvar="HUBBLE_SERVER",
        show_default=True,
        show_envvar=True,
        metavar="ADDRESS",
        help="host:port or unix:///path of a server.",
    )
