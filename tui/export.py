"""Flows as text outside of the screen: files of JSON or compact lines, and single flows to be copied.

Rows of a table enter, lines leave through the printer that `observe` has. A file that is there is never overwritten.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from observer.api import observer_pb2
from observer.errors import FlowscopeError
from observer.printer import Colour, Output, Printer
from observer.wire import FlowEncoder
from tui.matches import Rows
from tui.view import FlowView

FORMATS: Final = {".jsonl": Output.JSON, ".json": Output.JSON, ".txt": Output.COMPACT}
"""Formats of flows by the end of a file's name; `.svg` is a picture of the screen."""
BLOCK: Final = 1024
PACKET_FLOWS: Final = 65_536
"""The newest flows whose packets are saved: each has its comment in memory."""


class ExportError(FlowscopeError):
    """A file cannot be written."""


def check_name(text: str) -> Path:
    """The path that a name means; ExportError where it cannot be used."""
    if not text:
        raise ExportError("a name, please: flows.jsonl, flows.txt or screen.svg")
    path = Path(text).expanduser()
    if path.suffix not in (*FORMATS, ".pcapng", ".svg"):
        raise ExportError(
            f"the name says the format: {', '.join(FORMATS)} for flows, .pcapng for their packets, .svg for the screen"
        )
    if path.exists():
        raise ExportError(f"{path} is there already; choose another name")
    return path


def picture_of(screenshot: str) -> str:
    """A screenshot of Textual's that every viewer draws with its blanks: librsvg takes those at a text's ends away."""
    return screenshot.replace("<svg ", '<svg xml:space="preserve" ', 1)


def open_new(path: Path) -> TextIO:
    """Open a file that is not there yet; ExportError says why that failed."""
    try:
        return path.open("x", encoding="utf-8")
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}; choose another name") from None


def write_flows(path: Path, rows: Rows, *, stop: Callable[[], bool] = lambda: False) -> int:
    """Write the flows of a table in the format that the name says; return how many. ExportError where that failed."""
    sequences = rows.between(rows.store.first, rows.store.next)
    written = 0
    with open_new(path) as file:
        try:
            printer = Printer(file, file, output=FORMATS[path.suffix], colour=Colour.NEVER, node_name=True)
            for start in range(0, len(sequences), BLOCK):
                if stop():
                    break
                for response in _responses(rows, sequences[start : start + BLOCK]):
                    printer.response(response)
                    written += 1
            printer.close()
        except OSError as error:
            raise ExportError(f"cannot write {path}: {error.strerror or error}") from None
    return written


def write_packets(path: Path, rows: Rows, source: Any, *, stop: Callable[[], bool] = lambda: False) -> int:
    """Write the packets of a table's flows as pcapng, annotated; return how many. ExportError where that failed."""
    write = getattr(source, "write_packets", None)
    if write is None:
        raise ExportError("this source has no packets: only a capture can be saved as .pcapng")
    sequences = rows.between(rows.store.first, rows.store.next)[-PACKET_FLOWS:]
    records, _, _, whole = rows.store.take(sequences)
    view = FlowView(rows.store)
    view.fetch(whole.tolist())
    comments = [_comment(view, sequence) for sequence in whole.tolist()]
    try:
        with path.open("xb") as file:
            number: int = write(file, records, comments, stop=stop)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}; choose another name") from None
    return number


def _comment(view: FlowView, sequence: int) -> str:
    """What is known of the packet that made a flow: who, verdict and policy, what was said."""
    row = view.row(sequence)
    if row is None:
        return ""
    by = f" by {row.policy}" if row.policy else ""
    return f"{row.source} {row.arrow} {row.destination}  {row.verdict}{by}  {row.type}  {row.summary}"


def _responses(rows: Rows, sequences: Any) -> Iterator[observer_pb2.GetFlowsResponse]:
    records, extras, nodes, whole = rows.store.take(sequences)
    encoder = FlowEncoder(rows.store)
    for response in encoder.responses(records, extras, whole.tolist(), nodes.tolist()):
        yield observer_pb2.GetFlowsResponse.FromString(response)


def json_of(flow: Any) -> str:
    """A flow as `observe -o json` prints it."""
    out = io.StringIO()
    response = observer_pb2.GetFlowsResponse(flow=flow, node_name=flow.node_name)
    response.time.CopyFrom(flow.time)
    Printer(out, out, output=Output.JSON, colour=Colour.NEVER, legacy_json=False).response(response)
    return out.getvalue().rstrip("\n")


def curl_of(flow: Any) -> str:
    """The request of an HTTP flow as a curl command; empty where it is none.

    Header fields that curl makes by itself are left out. Everything is quoted for a shell: it comes from a stranger.
    """
    if flow.l7.WhichOneof("record") != "http" or not flow.l7.http.url:
        return ""
    http = flow.l7.http
    words = ["curl", "-i"]
    if http.method and http.method != "GET":
        words += ["-X", http.method]
    for header in http.headers:
        if (
            header.key.lower() not in ("host", "content-length", "accept-encoding", "connection")
            and header.key[:1] != ":"
        ):
            words += ["-H", f"{header.key}: {header.value}"]
    return shlex.join([*words, "--", http.url])
