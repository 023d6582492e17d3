"""GetFlowsResponses to text as the stock `hubble` CLI prints them: compact, dict, table, json.

fields.py gives the single texts (time, host, type, verdict ...), which the TUI shows too; terminal.py makes names
from the network harmless and colours them; printer.py lays them out.
"""

from observer.printer.fields import (
    TIME_FORMATS,
    flow_type,
    format_time,
    host_names,
    identity_names,
    kernel_drop_reason,
    summary,
    verdict,
)
from observer.printer.printer import Output, Printer
from observer.printer.terminal import Colour, escape

__all__ = [
    "TIME_FORMATS",
    "Colour",
    "Output",
    "Printer",
    "escape",
    "flow_type",
    "format_time",
    "host_names",
    "identity_names",
    "kernel_drop_reason",
    "summary",
    "verdict",
]
