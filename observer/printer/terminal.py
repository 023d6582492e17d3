"""What may reach a terminal: control bytes made visible, colours on request.

Names, URLs and summaries come from the network; a raw ESC, newline or bidi override in one could rewrite the screen or
forge a line. Hubble escapes ESC as ^[ and CR as \\r; the rest of C0, C1, the bidi controls and what shows nothing at
all is escaped likewise.
"""

from __future__ import annotations

import enum
import os
import re
from typing import Final, TextIO

_SHORT: Final = {"\x1b": "^[", "\r": "\\r", "\n": "\\n", "\t": "\\t"}
_UNSAFE: Final = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    # Invisible: two names that look the same would not be, and tag characters hide whole sentences.
    "\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"
    "\ufff0-\ufffb\U000e0000-\U000e0fff]"
)


class Colour(enum.StrEnum):
    """When to colour: as --color says."""

    AUTO = "auto"  # on a terminal, unless NO_COLOR is set
    ALWAYS = "always"
    NEVER = "never"


class Paint(enum.StrEnum):
    """The colours of Hubble's output, as terminal sequences."""

    RED = "\x1b[31m"
    GREEN = "\x1b[32m"
    YELLOW = "\x1b[33m"
    MAGENTA = "\x1b[35m"
    CYAN = "\x1b[36m"


_RESET: Final = "\x1b[0m"


def paint(text: str, colour: Paint) -> str:
    """`text` in a colour; what is coloured inside it ends first, so nest outwards."""
    return f"{colour.value}{text}{_RESET}"


def escape(text: str) -> str:
    """Make controls, bidi overrides, line separators and invisible characters visible: ESC as ^[, CR as \\r ..."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_visible, text)


def _visible(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    return _SHORT.get(character) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )


def wants_colour(colour: Colour, stream: TextIO) -> bool:
    """Whether to colour what goes to `stream` (https://no-color.org, TERM=dumb)."""
    if colour is not Colour.AUTO:
        return colour is Colour.ALWAYS
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()
