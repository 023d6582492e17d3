"""How things look: themes, the styles of verdicts, signs in Unicode or ASCII, and the bars of a sparkline.

Only the terminal's own sixteen colours, so that every palette of the user's fits; and never colour alone: each verdict
has its word and its sign. Knows no widgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

from rich.style import Style
from textual.scrollbar import ScrollBarRender
from textual.theme import BUILTIN_THEMES, Theme

GOOD: Final = ("FORWARDED", "REDIRECTED")
BAD: Final = ("DROPPED", "ERROR")


def _verdicts(good: str, bad: str, odd: str) -> dict[str, Style]:
    return {
        **dict.fromkeys(GOOD, Style(color=good)),
        **dict.fromkeys(BAD, Style(color=bad, bold=True)),
        "AUDIT": Style(color=odd),
    }


_GREEN: Final = Style(color="green")
_RED: Final = Style(color="red", bold=True)
_YELLOW: Final = Style(color="yellow")
_DIM: Final = Style(dim=True)
_REVERSE: Final = Style(reverse=True, bold=True)


@dataclass(frozen=True, slots=True)
class Look:
    """What a theme says about flows, and which signs the terminal can show."""

    verdicts: dict[str, Style] = field(default_factory=lambda: _verdicts("green", "red", "yellow"))
    good: Style = _GREEN
    bad: Style = _RED
    odd: Style = _YELLOW
    faint: Style = _DIM
    found: Style = _REVERSE
    signs: dict[str, str] = field(
        default_factory=lambda: {
            "FORWARDED": "✓",
            "REDIRECTED": "✓",
            "DROPPED": "✗",
            "ERROR": "!",
            "AUDIT": "~",
            "TRACED": "·",
            "TRANSLATED": "·",
            "VERDICT_UNKNOWN": "?",
        }
    )
    ellipsis: str = "…"
    mark: str = "◆"
    opened: str = "▾"
    closed: str = "▸"
    bars: str = " ▁▂▃▄▅▆▇█"
    scroll_bar: type[ScrollBarRender] = ScrollBarRender

    def sparkline(self, values: Sequence[float]) -> str:
        """One bar a value; a value that is not zero shows, however small beside the largest."""
        largest = max(values, default=0)
        if largest <= 0:
            return self.bars[0] * len(values)
        steps = len(self.bars) - 1
        return "".join(self.bars[min(steps, -int(-value * steps // largest))] for value in values)


class AsciiBar(ScrollBarRender):
    """A scroll bar of reversed blanks."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "] * 8
    HORIZONTAL_BARS: ClassVar[list[str]] = [" "] * 8


LIGHT: Final = Look(
    verdicts=_verdicts("green", "red", "magenta"), odd=Style(color="magenta"), found=Style(reverse=True, bold=True)
)
BLUE_ORANGE: Final = Look(
    verdicts=_verdicts("blue", "yellow", "cyan"),
    good=Style(color="blue"),
    bad=Style(color="yellow", bold=True),
    odd=Style(color="cyan"),
)
"""For those who do not tell red from green; ANSI's yellow is orange or yellow in every palette."""
ASCII: Final = {
    "signs": {
        "FORWARDED": "+",
        "REDIRECTED": "+",
        "DROPPED": "x",
        "ERROR": "!",
        "AUDIT": "~",
        "TRACED": ".",
        "TRANSLATED": ".",
        "VERDICT_UNKNOWN": "?",
    },
    "ellipsis": "~",
    "mark": "*",
    "opened": "v",
    "closed": ">",
    "bars": " .:-=+*#@",
    "scroll_bar": AsciiBar,
}
THEMES: Final = {"ansi-dark": Look(), "ansi-light": LIGHT, "colour-blind": BLUE_ORANGE}
"""The themes by name; any other theme of Textual's looks like the first."""

COLOUR_BLIND_THEME: Final = Theme(
    name="colour-blind",
    primary="ansi_blue",
    secondary="ansi_cyan",
    warning="ansi_cyan",
    error="ansi_yellow",
    success="ansi_blue",
    accent="ansi_blue",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    ansi=True,
    variables=dict(BUILTIN_THEMES["ansi-dark"].variables),
)


def look_of(theme: str, *, ascii: bool = False) -> Look:
    """The look of a theme."""
    look = THEMES.get(theme, THEMES["ansi-dark"])
    return replace(look, **ASCII) if ascii else look  # type: ignore[arg-type]
