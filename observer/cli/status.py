"""`flowscope status`: what `hubble status` says of a server, then its tier, where it is attached, and every loss."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from observer.cli.capture_options import server_option
from observer.cli.command import Command
from observer.errors import FlowscopeError

if TYPE_CHECKING:
    from observer.client import Status


def status(*, server: str, output: str) -> None:
    """Print what a server is, how full it is, and what it has lost. Exits with 1 when it is not healthy."""
    from observer.client import open_server
    from observer.printer import escape

    with closing(open_server(server)) as source:
        told = source.status()
        healthy = told.health == "SERVING"
        if output == "compact":
            click.echo(f"Healthcheck (via {source.name}): {'Ok' if healthy else f'Unavailable: {told.health}'}")
    if not healthy:
        raise FlowscopeError("not healthy")
    for line in {"compact": _compact, "dict": _dict, "table": _table, "tab": _table}.get(output, _json)(told):
        click.echo(escape(line))


def _compact(status: Status) -> Iterator[str]:
    """The stock CLI's lines, then ours."""
    server = status.server
    share = f" ({server.num_flows / server.max_flows:.2%})" if server.max_flows else ""
    yield f"Current/Max Flows: {server.num_flows:,}/{server.max_flows:,}{share}"
    rate = _rate(status)
    if rate == "N/A" and server.uptime_ns:
        rate = f"{server.seen_flows * 1e9 / server.uptime_ns:.2f}"
    yield f"Flows/s: {rate}"
    if server.HasField("num_connected_nodes"):
        connected = server.num_connected_nodes.value
        total = f"/{connected + server.num_unavailable_nodes.value}" if server.HasField("num_unavailable_nodes") else ""
        yield f"Connected Nodes: {connected}{total}"
    unavailable = server.num_unavailable_nodes.value
    if unavailable:
        yield f"Unavailable Nodes: {unavailable}"
        names = sorted(server.unavailable_nodes)
        more = [f"and {unavailable - len(names)} more..."] if names and unavailable > len(names) else []
        yield from (f"  - {name}" for name in [*names, *more])
    if not status.tier:
        return  # a real Hubble server
    yield f"Node: {status.node_name}"
    yield f"Tier: {status.tier}{f' ({status.tier_reason})' if status.tier_reason else ''}"
    if status.attached:
        yield f"Attached: {', '.join(status.attached)}"
    yield f"Policy mode: {status.policy_mode or 'none, no policy is loaded'}"
    yield from (
        f"Table {table}: {entries:,}/{most:,} ({entries / most:.0%})" for table, entries, most in status.pressures
    )
    yield f"Not read or lost: {sum(number for _, _, number in status.losses):,}"
    yield from (f"  {stage}: {reason}: {number:,}" for stage, reason, number in status.losses)


def _columns(status: Status) -> list[tuple[str, str, str]]:
    """Key in the dict output, heading in the table, value."""
    server = status.server
    connected = str(server.num_connected_nodes.value) if server.HasField("num_connected_nodes") else "N/A"
    unavailable = str(server.num_unavailable_nodes.value) if server.HasField("num_unavailable_nodes") else "N/A"
    return [
        ("NUM FLOWS", "NUM FLOWS", f"{server.num_flows:,}"),
        ("MAX FLOWS", "MAX FLOWS", f"{server.max_flows:,}"),
        ("SEEN FLOWS", "SEEN FLOWS", f"{server.seen_flows:,}"),
        ("FLOWS PER SECOND", "FLOWS PER SECOND", _rate(status)),
        ("UPTIME", "UPTIME", _duration(server.uptime_ns)),
        ("NUM CONNECTED NODES", "NUM CONNECTED NODES", connected),
        ("NUM UNAVAIL. NODES", "NUM UNAVAILABLE NODES", unavailable),
        ("VERSION", "VERSION", server.version),
    ]


def _dict(status: Status) -> Iterator[str]:
    yield from (f"{key:>19}: {value}" for key, _, value in _columns(status))


def _table(status: Status) -> Iterator[str]:
    columns = _columns(status)
    widths = [max(len(heading), len(value)) + 3 for _, heading, value in columns]
    for row in ([heading for _, heading, _ in columns], [value for _, _, value in columns]):
        yield "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _json(status: Status) -> Iterator[str]:
    """The stock CLI's object with our fields added."""
    from observer.jsonpb import to_json

    told: dict[str, Any] = json.loads(to_json(status.server))
    if status.tier:
        told |= {
            "node_name": status.node_name,
            "tier": status.tier,
            "tier_reason": status.tier_reason,
            "policy_mode": status.policy_mode,
            "attached": list(status.attached),
            "pressures": [
                {"table": table, "entries": str(entries), "most": str(most)}
                for table, entries, most in status.pressures
            ],
            "losses": [
                {"stage": stage, "reason": reason, "number": str(number)} for stage, reason, number in status.losses
            ],
        }
    yield json.dumps(told, separators=(",", ":"))


def _rate(status: Status) -> str:
    return f"{status.server.flows_rate:.2f}" if status.server.flows_rate > 0 else "N/A"


def _duration(time_ns: int) -> str:
    """Whole seconds as Go prints a duration: 1h2m3s."""
    minutes, seconds = divmod((time_ns + 500_000_000) // 1_000_000_000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}s" if hours else f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


command = Command(
    "status",
    callback=status,
    help=status.__doc__,
    params=[
        server_option(),
        click.Option(
            ["--output", "-o"],
            type=click.Choice(["compact", "dict", "json", "jsonpb", "tab", "table"], case_sensitive=False),
            default="compact",
            help="compact, dict, json or table.",
        ),
    ],
)
