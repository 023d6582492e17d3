"""The programs `flowscope` and `observe`: which commands there are. Each is loaded when it is asked for."""

from __future__ import annotations

import importlib
from typing import Final, NoReturn

import click

from observer import __version__
from observer.cli.command import run

COMMANDS: Final = {
    "observe": "Print flows of a server or a capture.",
    "serve": "Serve the flows of this node, or of a capture, over Hubble's Observer API.",
    "status": "Print what a server is and what it has lost.",
    "tui": "Look at flows on the whole screen.",
    "demo": "Show the main job: a capture, a server, and the requests that policy refused.",
}


class Commands(click.Group):
    """The group; a command costs its import only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name: `command` in the module of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"observer.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, invoke_without_command=True)
@click.version_option(__version__, prog_name="flowscope")
@click.pass_context
def flowscope(ctx: click.Context) -> None:
    """See who talks to whom, who was refused, and by which rule."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> NoReturn:
    """The program `flowscope`."""
    run(flowscope, "flowscope")


def observe_main() -> NoReturn:
    """The program `observe`: `flowscope observe`."""
    from observer.cli.observe import command

    run(command, "observe")
