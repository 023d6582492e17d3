"""The keys of the TUI: one table, from which bindings, footer, help, palette and the README's list are made.

A key has an id by which config.toml gives it another key, the action that it calls, and words for footer and help.
Only single characters and keys that every terminal passes on: no ctrl, no alt (tmux, VS Code and shells eat those).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from textual.binding import Binding

from observer.errors import ConfigError


class Key(NamedTuple):
    """One key: `keys` as Textual names them (comma between alternatives), `where` it works, `footer` if shown there."""

    id: str
    keys: str
    action: str
    title: str
    help: str
    footer: bool = False

    @property
    def where(self) -> str:
        """The part of the screen that it belongs to."""
        return self.id.partition(".")[0]

    @property
    def shown(self) -> str:
        """The keys as people write them."""
        return " ".join(SHOWN.get(key, key) for key in self.keys.split(","))

    def written(self, *, ascii: bool) -> str:
        """The same, on request without arrows."""
        return self.shown.translate(NO_ARROWS) if ascii else self.shown


SHOWN: Final = {
    "slash": "/",
    "escape": "esc",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "plus": "+",
    "minus": "-",
    "asterisk": "*",
    "apostrophe": "'",
    "colon": ":",
    "question_mark": "?",
    "pageup": "pgup",
    "pagedown": "pgdn",
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
    "shift+left": "shift+←",
    "shift+right": "shift+→",
}

NO_ARROWS: Final = str.maketrans({"←": "left", "→": "right", "↑": "up", "↓": "down"})

PLACES: Final = {
    "app": "Everywhere",
    "flows": "Flows",
    "list": "Lists (Top, Map, Nodes, detail)",
    "top": "Top",
    "map": "Map",
    "nodes": "Nodes",
    "filter": "Filter bar",
    "modal": "Windows",
    "columns": "Column chooser",
    "saved": "Saved filters",
}
"""The parts, in the order in which help tells of them."""

KEYS: Final = (
    Key("app.filter", "slash", "edit_filter", "Filter", "edit the filter; live count and completion", True),
    Key(
        "app.filter_off",
        "F",
        "toggle_filter",
        "Filter off/on",
        "set the filter aside, or put it back, at the same flow",
    ),
    Key("app.filter_back", "left_square_bracket", "history(-1)", "Older filter", "go back to the filter before"),
    Key("app.filter_forward", "right_square_bracket", "history(1)", "Newer filter", "go on to the filter after"),
    Key("app.save_filter", "S", "save_filter", "Save filter", "give the filter a name, to use it again"),
    Key("app.saved", "L", "saved", "Saved filters", "the filters with a name: use one, or forget it"),
    Key("app.pod", "p", "prompt('pod')", "Pod", "filter by pod"),
    Key("app.verdict", "v", "next_verdict", "Verdict", "filter by verdict: any, DROPPED, FORWARDED, AUDIT, ERROR"),
    Key("app.port", "P", "prompt('port')", "Port", "filter by port"),
    Key("app.flows", "1", "show('flows')", "Flows", "the flows, one a line"),
    Key("app.top", "2", "show('top')", "Top", "who and what makes most of them"),
    Key("app.map", "3", "show('map')", "Map", "who talks to whom"),
    Key("app.nodes", "4", "show('nodes')", "Nodes", "where the flows come from, and what was lost"),
    Key("app.export", "w", "export", "Save", "save the flows shown, their packets, or a picture of the screen"),
    Key("app.open", "o", "open", "Open", "open a capture"),
    Key("app.palette", "colon,ctrl+p", "command_palette", "Commands", "find a command by its name"),
    Key("app.help", "question_mark", "help", "Help", "the tour and every key", True),
    Key("app.back", "escape", "back", "Back", "close what is open, the last first"),
    Key("app.quit", "q", "quit_or_back", "Quit", "close what is open, or quit", True),
    Key("app.quit_now", "ctrl+c", "quit", "Quit", "quit at once"),
    Key("flows.up", "up,k", "move(-1)", "Up", "one flow up; pauses"),
    Key("flows.down", "down,j", "move(1)", "Down", "one flow down; the last one is live again"),
    Key("flows.page_up", "pageup", "move_page(-1)", "Page up", "one page up; pauses"),
    Key("flows.page_down", "pagedown", "move_page(1)", "Page down", "one page down"),
    Key("flows.oldest", "g,home", "oldest", "Oldest", "the oldest flow held"),
    Key("flows.live", "G,end", "follow", "Live", "the newest flow, and stay there"),
    Key("flows.pause", "space", "toggle_follow", "Pause", "hold still, or return to live", True),
    Key("flows.column_left", "h,left", "column(-1)", "Column left", "column cursor to the left"),
    Key("flows.column_right", "l,right", "column(1)", "Column right", "column cursor to the right"),
    Key("flows.scroll_left", "shift+left", "sideways(-10)", "Scroll left", "scroll sideways, to the left"),
    Key("flows.scroll_right", "shift+right", "sideways(10)", "Scroll right", "scroll sideways, to the right"),
    Key("flows.detail", "enter", "choose", "Open", "every field of the flow, the deciding policy first", True),
    Key("flows.panes", "tab", "next_pane", "Panes", "from table to detail to bytes and back"),
    Key("flows.hex", "x", "hex", "Hex", "the bytes of the packet"),
    Key("flows.stream", "f", "stream", "Stream", "the conversation: both sides, in order", True),
    Key("flows.related", "r", "related", "Related", "only the flows of the same connection; esc returns"),
    Key("flows.include", "plus", "include", "Only", "filter: only what has this cell's value", True),
    Key("flows.exclude", "minus", "exclude", "Not", "filter: nothing that has this cell's value", True),
    Key("flows.next_trouble", "e", "trouble(1)", "Drop", "next drop or error", True),
    Key("flows.previous_trouble", "E", "trouble(-1)", "Drop before", "previous drop or error"),
    Key(
        "flows.search",
        "asterisk",
        "search",
        "Search",
        "find and highlight a text, this cell's by default; hides nothing",
    ),
    Key("flows.next_match", "n", "match(1)", "Next match", "next flow with the text searched for"),
    Key("flows.previous_match", "N", "match(-1)", "Previous match", "previous flow with the text searched for"),
    Key("flows.mark", "m", "mark", "Mark", "mark the flow, or take the mark away"),
    Key("flows.next_mark", "apostrophe", "next_mark", "Next mark", "next marked flow"),
    Key("flows.only_marked", "M", "only_marked", "Only marked", "only the marked flows; again for all"),
    Key("flows.time", "t", "next_time", "Time", "time as UTC, as local, or since the flow above"),
    Key("flows.columns", "c", "columns", "Columns", "choose and order the columns"),
    Key("flows.copy", "y", "copy_line", "Copy", "copy the line"),
    Key("flows.copy_as", "Y", "copy_as", "Copy as", "copy the flow as filter, JSON or curl"),
    Key("list.up", "up,k", "move(-1)", "Up", "one line up"),
    Key("list.down", "down,j", "move(1)", "Down", "one line down"),
    Key("list.page_up", "pageup", "move_page(-1)", "Page up", "one page up"),
    Key("list.page_down", "pagedown", "move_page(1)", "Page down", "one page down"),
    Key("list.first", "g,home", "first", "First", "the first line"),
    Key("list.last", "G,end", "last", "Last", "the last line"),
    Key("list.close", "h,left", "branch(False)", "Close", "close the branch"),
    Key("list.open", "l,right", "branch(True)", "Open", "open the branch"),
    Key("list.choose", "enter", "choose", "Show", "Top, Map, Nodes: show its flows; detail: open or close", True),
    Key("top.sort", "s", "sort", "Sort", "sort by the next column", True),
    Key("top.group", "b", "group", "Group by", "group by other fields", True),
    Key("filter.complete", "tab", "complete", "Complete", "take the completion", True),
    Key("filter.older", "up", "older", "Older", "the filter before, or the completion above", True),
    Key("filter.newer", "down", "newer", "Newer", "the filter after, or the completion below", True),
    Key("filter.enter", "enter", "submit", "Use", "use the filter", True),
    Key("filter.leave", "escape", "leave", "Leave", "leave the filter as it was", True),
    Key("columns.toggle", "space", "take", "Show", "show or hide the column"),
    Key("columns.earlier", "K", "shift(-1)", "Earlier", "move the column up"),
    Key("columns.later", "J", "shift(1)", "Later", "move the column down"),
    Key("columns.default", "d", "default", "Default", "columns as the width allows"),
    Key("saved.forget", "d", "forget", "Forget", "forget one of your own filters; asks once more"),
    Key("modal.close", "escape,q", "close", "Close", "close the window"),
)
"""Every key. A capital letter is shift and the letter."""

BY_ID: Final = {key.id: key for key in KEYS}

_PRIORITY: Final = {"app.quit_now"}


def bindings(where: str) -> list[Binding]:
    """The bindings of one part."""
    return [
        Binding(
            key.keys,
            key.action,
            key.title,
            show=key.footer,
            key_display=key.shown.split(" ")[0],
            priority=key.id in _PRIORITY,
            tooltip=key.help,
            id=key.id,
        )
        for key in KEYS
        if key.where == where
    ]


def with_keymap(keymap: Mapping[str, str]) -> tuple[Key, ...]:
    """The table as `keymap` (id to keys) changes it."""
    return tuple(key._replace(keys=keymap.get(key.id, key.keys)) for key in KEYS)


def check_keymap(keymap: Mapping[str, str]) -> None:
    """ConfigError where an id is unknown, or one key would do two things in the same place."""
    for name in keymap:
        if name not in BY_ID:
            raise ConfigError(f"keys: there is no key called {name!r}; `flowscope tui`, then ?, lists them")
    taken: dict[tuple[str, str], str] = {}
    for key in with_keymap(keymap):
        for one in key.keys.split(","):
            for place in ("flows", "list", "top", "map", "nodes") if key.where == "app" else (key.where,):
                other = taken.setdefault((place, one.strip()), key.id)
                if other != key.id and (key.id in keymap or other in keymap):
                    raise ConfigError(f"keys: {one!r} would be both {other} and {key.id}; give one of them another key")


def markdown(keys: Iterable[Key] = KEYS) -> str:
    """The table as the README shows it."""
    lines = ["| key | where | does | id |", "|---|---|---|---|"]
    for place in PLACES:
        for key in keys:
            if key.where == place:
                shown = " ".join(f"`{one}`" for one in key.shown.split(" "))
                lines.append(f"| {shown} | {PLACES[place]} | {key.help} | `{key.id}` |")
    return "\n".join(lines) + "\n"
