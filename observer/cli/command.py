"""What every command shares: pflag's spellings, quiet ends, and one line on stderr for whatever goes wrong.

The stock CLI parses with Go's pflag; scripts written for it say `--follow=true`, `-o=json` or `--not=true`, which click
does not know. Exit codes are Hubble's: 0, also when interrupted, and 1 for every error.
"""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn

import click

from observer.errors import FlowscopeError

ORDER: Final = "observer.cli.order"
"""Key in Context.meta: the names of the options in the order in which they were given, one each time."""


class Command(click.Command):
    """A command whose options may be spelled as pflag allows, and which ends quietly when its reader goes away."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and keep the order of the options in `ctx.meta[ORDER]`."""
        args = list(self._respelled(args))
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta[ORDER] = [parameter.name for parameter in given]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; a closed stdout and an interrupt end it without a word."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _forget_stdout()
            return None
        except KeyboardInterrupt:
            return None
        return result

    def _respelled(self, args: Sequence[str]) -> Iterable[str]:
        """Rewrite `--flag=true` of flags without a value and `-x=value` the way click spells them."""
        flags: dict[str, click.Option] = {}
        valued: set[str] = set()
        for parameter in self.params:
            if isinstance(parameter, click.Option):
                bare = parameter.is_flag or parameter.count
                valued |= set() if bare else set(parameter.opts)
                flags |= dict.fromkeys(parameter.opts, parameter) if bare else {}
        value_next = False
        for arg in args:
            name, equals, value = arg.partition("=")
            if value_next or not equals:
                value_next = not value_next and arg in valued
                yield arg
            elif name in flags:
                option = flags[name]
                if option.count or value.lower() in ("true", "t", "1"):
                    yield name  # the stock CLI ignores the value of a filter flag
                elif value.lower() not in ("false", "f", "0"):
                    raise click.UsageError(f"invalid value {value!r} for {name}: true or false")
                elif option.secondary_opts:
                    yield option.secondary_opts[0]
            elif re.fullmatch("-[A-Za-z0-9]", name) and name in valued:
                yield name
                yield value
            else:
                yield arg


def run(command: click.Command, name: str, args: Sequence[str] | None = None) -> NoReturn:
    """Run `command` as a program and exit as Hubble's would."""
    # A caller may have closed them (`>&-`), and Python then has none.
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115
    # Flows are many, stay long and hold no circles: by default all of them would be looked at again and again.
    gc.set_threshold(50_000, 50, 100)
    # Nothing here multiplies matrices: numpy's threads for that would spin at the start, and keep the rights that the
    # others give up.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        code = command.main(args=args, prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        fail(f"{error.format_message().rstrip('.')}; see `{_help(error, name)}`")
    except FlowscopeError as error:
        fail(str(error))
    except click.Abort:
        sys.exit(0)
    except OSError as error:
        # Files and sockets have errors of their own by now: what is left is a stdout that takes no more.
        _forget_stdout()
        fail(f"cannot write the output: {error.strerror or error}; choose another place for it")
    sys.exit(code if isinstance(code, int) else 0)


def _forget_stdout() -> None:
    """Let what is still buffered go nowhere; without this the interpreter complains as it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str) -> NoReturn:
    """Say on one line of stderr what is wrong, and exit with 1."""
    from observer.printer import escape  # only here: it is not worth its time where nothing fails

    click.echo(escape(" ".join(message.split())), err=True)
    sys.exit(1)


def warn(message: str) -> None:
    """Say on one line of stderr what is odd."""
    from observer.printer import escape

    click.echo(f"warning: {escape(' '.join(message.split()))}", err=True)


def say_losses(losses: Iterable[tuple[str, str, int]], *, of: str) -> None:
    """Say on stderr what was lost or could not be read, by stage and reason; nothing if nothing was."""
    from observer.printer import escape

    # ARP and its like make no flows and are no loss; `status` counts them all the same.
    told = [loss for loss in losses if not loss[1].startswith("not IP: ")]
    lines = [f"  {stage}: {reason}: {number}" for stage, reason, number in told]
    if lines:
        click.echo("\n".join([f"not read or lost in {escape(of)}:", *map(escape, lines)]), err=True)


def _help(error: click.ClickException, name: str) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{context.command_path if context else name} --help"
