"""`observe`: print the flows of a server or a capture, with the stock CLI's flags, output and exit codes.

The command line becomes one GetFlowsRequest; what answers it is a `Source`. Our additions: an expression of the filter
language, `--pcap` and what belongs to it, `--dns-query` and `--reply`.
"""

from __future__ import annotations

import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import click

from observer.api import observer_pb2
from observer.cli.capture_options import capture_options, server_option
from observer.cli.command import ORDER, Command, fail, say_losses, warn
from observer.cli.observe_filters import FLAGS, FlowFilters, raw_filters
from observer.cli.observe_time import parse_time
from observer.errors import ConfigError, FilterError

if TYPE_CHECKING:  # numpy and more, which most command lines do without
    from observer.client.source import Source
    from observer.filters.expression import Expression

Response = observer_pb2.GetFlowsResponse

DEFAULT_LAST: Final = 20
"""How many flows a server is asked for when nothing else is said."""
ALL: Final = 2**64 - 1
MAX_COUNT: Final = 2**64 - 1
SHOWN_BEFORE: Final = 60
"""Characters of an expression shown before a mistake."""
SHOWN_AFTER: Final = 40
OUTPUTS: Final = {
    "compact": "compact",
    "dict": "dict",
    "json": "json",
    "jsonpb": "json",
    "tab": "table",
    "table": "table",
}


def filter_options() -> list[click.Option]:
    """The filter flags as click's options."""
    options = []
    for flag in FLAGS.values():
        names = [f"--{flag.name}", *([f"-{flag.short}"] if flag.short else [])]
        if flag.constant is None:
            options.append(click.Option(names, multiple=True, metavar="VALUE", help=flag.help))
        else:
            options.append(click.Option(names, count=True, help=flag.help))
    return options


COUNT: Final = click.IntRange(0, MAX_COUNT)
SECTIONS: Final[dict[str, list[click.Option]]] = {
    "Which flows": [
        click.Option(
            ["--last"], type=COUNT, default=0, metavar="N", help=f"The last N flows (default {DEFAULT_LAST})."
        ),
        click.Option(["--first"], type=COUNT, default=0, metavar="N", help="The first N flows."),
        click.Option(["--all"], is_flag=True, help="All flows that the server holds."),
        click.Option(["--follow", "-f"], is_flag=True, help="Go on with new flows as they come."),
        click.Option(["--since"], default="", metavar="TIME", help="From this time: 5m (ago), 2024-05-17T10:44:07Z."),
        click.Option(["--until"], default="", metavar="TIME", help="Up to this time; not with --follow."),
    ],
    "Filters (of one flag any value must match, of different flags each)": filter_options(),
    "Raw filters": [
        click.Option(["--allowlist"], multiple=True, metavar="JSON", help="FlowFilters to allow, as JSON."),
        click.Option(["--denylist"], multiple=True, metavar="JSON", help="FlowFilters to deny, as JSON."),
        click.Option(["--print-raw-filters"], is_flag=True, help="Print the filters that the flags mean, and exit."),
    ],
    "Output": [
        click.Option(
            ["--output", "-o"],
            type=click.Choice(list(OUTPUTS), case_sensitive=False),
            default="compact",
            help="compact, dict (one field a line), json or jsonpb (one object a line), or table.",
        ),
        click.Option(["--print-node-name"], is_flag=True, help="Print the name of the node."),
        click.Option(["--print-policy-names"], is_flag=True, help="Print the policies that decided."),
        click.Option(["--time-format"], default="StampMilli", metavar="NAME", help="StampMilli, RFC3339Nano ..."),
        click.Option(["--numeric"], is_flag=True, help="Print addresses, not names."),
        click.Option(["--ip-translation/--no-ip-translation"], default=True, help="Print names for addresses."),
        click.Option(
            ["--color"], type=click.Choice(["auto", "always", "never"]), default="auto", help="Colour output."
        ),
        click.Option(
            ["--field-mask"], multiple=True, metavar="FIELDS", help="Ask for these fields only (with -o json)."
        ),
        click.Option(["--use-default-field-masks"], is_flag=True, help="Accepted; whole flows are asked for."),
        click.Option(["--silent-errors", "-s"], is_flag=True, help="No warnings on stderr."),
        click.Option(["--debug", "-D"], is_flag=True, help="Tell of nodes that come and go."),
    ],
    "Source": [
        server_option(),
        *capture_options(),
        click.Option(
            ["--datapath"],
            type=click.Choice(["user", "ebpf"]),
            default="user",
            help="Who reads the capture: this process (default), or the eBPF programs, which need the rights to load.",
        ),
    ],
}
EXPRESSION_HELP: Final = (
    "EXPRESSION filters, beside the flags: `observe 'to-pod=shop/cart and not dns'`. Tests are FIELD OPERATOR VALUE, a "
    'protocol, a word or "text" that pod, address, domain name or summary holds, or /expression/; they join by and '
    "(also by nothing), or, not and parentheses. What a server's filters can say is asked of the server, the rest is "
    "judged here; --first and --last count flows that pass both, and ask for more until there are so many, or no more."
)


class ObserveCommand(Command):
    """`observe`, with its help in sections."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; `observe flows` is the stock CLI's longer name of the same."""
        return super().parse_args(ctx, args[1:] if args[:1] == ["flows"] else args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by section."""
        for title, options in SECTIONS.items():
            records = [record for option in options if (record := option.get_help_record(ctx))]
            with formatter.section(title):
                formatter.write_dl(records)
        from observer.filters.fields import TABLE

        with formatter.section("Expression"):
            formatter.write_text(EXPRESSION_HELP)
        with formatter.section("Fields of expressions; from- and to- before those marked * mean one end"):
            formatter.write_dl([(f"{field.name}{'*' * field.sided}", field.help) for field in TABLE])


def flow_filters(ctx: click.Context) -> FlowFilters:
    """The filters that the flags of this command line mean, in their order."""
    values = {name: iter(_values(ctx, name)) for name in FLAGS}
    given = [name.replace("_", "-") for name in ctx.meta[ORDER]]
    return FlowFilters.from_flags((name, next(values[name])) for name in given if name in FLAGS)


def _values(ctx: click.Context, name: str) -> Sequence[str]:
    constant = FLAGS[name].constant
    value = ctx.params[name.replace("-", "_")]
    return value if constant is None else [constant] * value


def flows_request(ctx: click.Context, now_ns: int) -> tuple[observer_pb2.GetFlowsRequest, Expression | None]:
    """The request that this command line means, and what is left to judge here.

    ConfigError or FilterError if it makes no sense.
    """
    options = ctx.params
    first, last, every, follow = (options[name] for name in ("first", "last", "all", "follow"))
    for one, other, told in (
        (first, last, "--first and --last"),
        (first, every, "--first and --all"),
        (first, follow, "--first and --follow"),
        (last, every, "--last and --all"),
    ):
        if one and other:
            raise ConfigError(f"cannot set both {told}")
    request = observer_pb2.GetFlowsRequest(number=first or last, first=bool(first), follow=follow)
    for name in ("since", "until"):
        # The stock CLI leaves --until out of a request that follows.
        if options[name] and not (name == "until" and follow):
            try:
                time_ns = parse_time(options[name], now_ns)
            except ConfigError as error:
                raise ConfigError(f"failed to parse the {name} time: {error}") from error
            stamp = getattr(request, name)
            stamp.seconds, stamp.nanos = divmod(time_ns, 1_000_000_000)
    if not (request.HasField("since") or request.HasField("until") or first):
        if every:
            request.number = ALL
        elif not last and not follow and options["pcap"] is None:
            request.number = DEFAULT_LAST
    filters = flow_filters(ctx)
    allow = [*filters.allow(), *raw_filters("allowlist", options["allowlist"])]
    deny = [*filters.deny(), *raw_filters("denylist", options["denylist"])]
    local = None
    if options["expression"]:
        from observer.filters.expression import Expression
        from observer.filters.pushdown import split

        halves = split(_expression(" ".join(options["expression"])).tree, allow, deny)
        allow, deny = list(halves.whitelist), list(halves.blacklist)
        local = Expression(halves.local)
    request.whitelist.extend(allow)
    request.blacklist.extend(deny)
    if paths := _field_mask(options):
        request.field_mask.paths.extend(paths)
    return request, None if local is None or local.matches_all else local


def _expression(text: str) -> Expression:
    """Read an expression; one that is wrong is shown with what is wrong in it, and ends the command."""
    from observer.filters.expression import Expression

    try:
        return Expression.parse(text)
    except FilterError as error:
        if error.position is None:
            raise
        click.echo("\n".join(pointed_at(text, error.position)), err=True)
        fail(str(error))


def pointed_at(text: str, position: int) -> tuple[str, str]:
    """A text and a line with a caret under one of its characters; what is far from it is left out."""
    from observer.printer import escape

    start = max(0, position - SHOWN_BEFORE)
    before, after = escape(text[start:position]), escape(text[position : position + SHOWN_AFTER])
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in before)
    marks = sum(unicodedata.combining(character) > 0 for character in before)
    lead = "..." if start else ""
    more = "..." if position + SHOWN_AFTER < len(text) else ""
    return f"  {lead}{before}{after}{more}", " " * (2 + len(lead) + len(before) + wide - marks) + "^"


def _field_mask(options: dict[str, Any]) -> list[str]:
    paths = [path.strip() for paths in options["field_mask"] for path in paths.split(",") if path.strip()]
    if paths and OUTPUTS[options["output"]] != "json":
        raise ConfigError(f"{options['output']} output format is not compatible with custom field mask")
    return paths


def raw_filters_yaml(request: observer_pb2.GetFlowsRequest) -> str:
    """The filters of a request as `--print-raw-filters` prints them: YAML that holds JSON."""
    from observer.jsonpb import to_json

    lines = []
    for name, filters in (("allowlist", request.whitelist), ("denylist", request.blacklist)):
        lines += [f"{name}:"] if filters else []
        lines += ["    - '" + to_json(one).replace("'", "''") + "'" for one in filters]
    return "\n".join(lines or ["{}"])


def observe(**options: Any) -> None:
    """Print flows: the last 20 of a server, or all of a capture.

    Flags and output are those of `hubble observe`; EXPRESSION is a filter in one text.
    """
    ctx = click.get_current_context()
    if OUTPUTS[options["output"]] == "table" and options["follow"]:
        raise ConfigError("table output format is not compatible with follow mode")
    request, local = flows_request(ctx, time.time_ns())
    if options["print_raw_filters"]:
        from observer.printer import escape

        click.echo(raw_filters_yaml(request))
        if local is not None:
            click.echo(f"# judged by observe: {escape(str(local))}")
        return
    if options["pcap"] is None:
        _from_server(ctx, request, local)
    else:
        _from_capture(ctx, request, local)


def _answers(
    source: Source, request: observer_pb2.GetFlowsRequest, local: Expression | None, *, again: bool
) -> Iterator[Response]:
    """What the source answers, less what is judged here and does not pass."""
    if local is None:
        return source.get_flows(request)
    from observer.cli.observe_local import LocalAnswers

    return iter(LocalAnswers(source.get_flows, request, local, again=again))


def _from_server(ctx: click.Context, request: observer_pb2.GetFlowsRequest, local: Expression | None) -> None:
    from observer.client import open_server

    for name in ("identities", "policy", "policy_mode", "datapath"):
        if _given(ctx, name):
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag} needs --pcap; a server judges by what it was started with")
    with closing(open_server(ctx.params["server"])) as source:
        _print(ctx.params, _answers(source, request, local, again=True), flush=request.follow)


def _from_capture(ctx: click.Context, request: observer_pb2.GetFlowsRequest, local: Expression | None) -> None:
    from observer.cli.progress import Progress
    from observer.client import open_capture_source

    options = ctx.params
    if ctx.get_parameter_source("server") is click.core.ParameterSource.COMMANDLINE:
        raise ConfigError("--pcap and --server cannot be combined")
    progress = Progress(sys.stderr)
    source = open_capture_source(
        options["pcap"],
        identities=options["identities"],
        policies=options["policy"],
        policy_mode=options["policy_mode"],
        datapath=options["datapath"],
        progress=progress.update if progress.shown else None,
    )
    with closing(source):
        for warning in source.warnings if not options["silent_errors"] else ():
            warn(warning)
        _print(options, progress.around(_answers(source, request, local, again=False)))
        if not options["silent_errors"]:
            say_losses(source.status().losses, of=str(options["pcap"]))


def _print(options: dict[str, Any], responses: Iterator[observer_pb2.GetFlowsResponse], *, flush: bool = False) -> None:
    from observer.printer import TIME_FORMATS, Colour, Output, Printer

    if options["time_format"] not in TIME_FORMATS:
        raise ConfigError(f"unknown --time-format {options['time_format']!r}; one of {', '.join(TIME_FORMATS)}")
    printer = Printer(
        sys.stdout,
        sys.stderr,
        output=Output(OUTPUTS[options["output"]]),
        colour=Colour(options["color"]),
        time_format=options["time_format"],
        node_name=options["print_node_name"],
        policy_names=options["print_policy_names"],
        ip_translation=options["ip_translation"] and not options["numeric"],
        debug=options["debug"],
        silent=options["silent_errors"],
        legacy_json=False if options["output"] == "jsonpb" else None,
    )
    try:
        for response in responses:
            printer.response(response)
            if flush:
                sys.stdout.flush()
    except KeyboardInterrupt:
        pass  # what was held back is still printed
    finally:
        printer.close()


def _given(ctx: click.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


command = ObserveCommand(
    "observe",
    callback=observe,
    params=[
        *(option for options in SECTIONS.values() for option in options),
        click.Argument(["expression"], nargs=-1, metavar="[EXPRESSION]"),
    ],
    help=observe.__doc__,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 120},
)
