"""What may reach a terminal: control bytes made visible, colours on request (signatures; the body follows)."""

from __future__ import annotations

import enum


class Colour(enum.StrEnum):
    """When to colour: as --color says."""

    AUTO = "auto"  # on a terminal, unless NO_COLOR is set
    ALWAYS = "always"
    NEVER = "never"


def escape(text: str) -> str:
    """Make every control byte, bidi override and line separator visible: ESC as ^[, CR as \\r, others likewise."""
    raise NotImplementedError
