"""The TUI: status line, filter bar, one of four screens, key hints; and what they want from each other.

A source fills the feed in the background; ten times a second the screen takes note of what came. A filter is judged at
once over what is held, and what of it the server can do is pushed there.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, Final

from textual.app import App, ComposeResult, SystemCommand
from textual.binding import BindingType
from textual.command import CommandPalette
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Footer

from observer.client import Source
from observer.errors import FlowscopeError
from observer.filters.named import NamedFilters, config_path
from observer.filters.saved import History
from observer.printer import escape
from tui.config import Config, Session
from tui.feed import Feed
from tui.filtering import (
    NONE,
    QUICK,
    VERDICTS,
    Filter,
    cell_test,
    literal,
    quick,
    read,
    with_cell,
    with_quick,
)
from tui.keys import KEYS, bindings
from tui.look import COLOUR_BLIND_THEME, look_of
from tui.matches import held
from tui.questions import Questions
from tui.screens.flows import FlowsPane
from tui.screens.map import MapPane
from tui.screens.nodes import NodesPane
from tui.screens.summed import SummedPane
from tui.screens.top import TopPane
from tui.telling import Telling
from tui.widgets.filter_bar import FilterBar
from tui.widgets.status import StatusLine
from tui.windows import Offer, Windows

TICK_S: Final = 0.1
SLOW_TICK_S: Final = 0.25
"""On slow lines the screen is painted less often."""
HURRY_S: Final = 0.02
"""Until the next look while older flows are still being judged."""
TYPED_OVER: Final = {
    key.action.partition("(")[0] for key in KEYS if key.where == "app" and key.id not in ("app.quit_now", "app.palette")
}
"""What keys do not do while something is typed."""


class FlowscopeApp(App[None]):
    """flowscope's terminal UI over one source."""

    CSS_PATH = "app.tcss"
    TITLE = "flowscope"
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "f12"  # Textual wants one; ours are in the table of keys
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("app")]

    def __init__(
        self,
        source: Source,
        *,
        config: Config | None = None,
        session: Session | None = None,
        state: Path | None = None,
        finite: bool = False,
        filter: str = "",
        history: History | None = None,
        named: NamedFilters | None = None,
        warnings: Iterable[str] = (),
        offer: Offer | None = None,
        settled: Callable[[], object] | None = None,
    ) -> None:
        """`settled` is called once, when what the source held at first is there."""
        # Textual asks for the theme before we can set it, and without colours would draw black on black.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self._told_at_start = tuple(warnings)
        self.config = Config() if config is None else config
        self.session = Session() if session is None else session
        self._state = state
        self._settled = settled
        self.set_class(self.config.ascii, "-ascii")
        self.register_theme(COLOUR_BLIND_THEME)
        self.look = look_of(self.config.theme, ascii=self.config.ascii)
        self.theme = self.session.theme if self.session.theme in self.available_themes else self.config.theme
        self.set_keymap(dict(self.config.keys))
        self.feed = Feed(source, capacity=self.config.ring, finite=finite)
        self.filter: Filter = NONE
        self.filter_on = True
        self._wanted = filter
        # Held, not looked up: a tick may still come while the screen is being taken down.
        self.status = StatusLine(self.look, id="status")
        self.bar = FilterBar(self.look, id="filter")
        self.named = NamedFilters() if named is None else named
        """Filters by name."""
        self.questions = Questions(self, history=history, named=self.named)
        self.flows = FlowsPane(
            self.feed,
            self.look,
            columns=self.session.columns or list(self.config.columns),
            time=self.session.time or self.config.time,
            why_empty=lambda: self._telling.why_empty(),
        )
        self.top = TopPane(lambda: self.flows.rows, self.look, fields=self.session.group, sort=self.session.sort)
        self.panes: dict[str, Any] = {
            "flows": self.flows,
            "top": self.top,
            "map": MapPane(lambda: self.flows.rows, self.look),
            "nodes": NodesPane(lambda: held(self.feed.store), lambda: self.feed.source, self.look),
        }
        self._switcher = ContentSwitcher(*self.panes.values(), initial="flows", id="panes")
        self._hurrying = False
        self.windows = Windows(self, offer)
        self._telling = Telling(self)

    def compose(self) -> ComposeResult:
        """Status line, filter bar, screen, key hints."""
        yield self.status
        yield self.bar
        yield self._switcher
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Look ten times a second for what came."""
        self.flows.table.focus()
        self.theme_changed_signal.subscribe(self, lambda _: self._look_again())
        for warning in self._told_at_start:
            self.notify(escape(warning), severity="warning", markup=False, timeout=10)
        if self._wanted:
            self.use_filter(self._wanted)
        self.windows.offer()
        self.set_interval(SLOW_TICK_S if self.config.slow else TICK_S, self._tick)
        self._tick()

    def on_unmount(self) -> None:
        """Leave nothing running, and remember."""
        self.feed.close()
        self.windows.close()
        if self._state is not None:
            self.session.time, self.session.sort = self.flows.time, self.top.sort
            self.session.save(self._state)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While something is typed, keys are letters; the footer says so."""
        del parameters
        return self.bar.question is None or action not in TYPED_OVER

    # -- time ---------------------------------------------------------------------------------------------------

    @property
    def pane(self) -> Any:
        """The screen that is shown."""
        return self.panes[str(self._switcher.current)]

    def _tick(self) -> None:
        self.feed.tick(time.monotonic())
        self.flows.tick()
        for name, pane in self.panes.items():
            if name != "flows" and pane.display:
                pane.tick()
        self._tell()
        if self._settled is not None and self.feed.told().word not in ("CONNECTING", "LOADING"):
            self._settled()
            self._settled = None
        if self.flows.unfinished and not self._hurrying:
            self._hurrying = True
            self.set_timer(HURRY_S, self._hurry)

    def _hurry(self) -> None:
        """Go on with what is not finished, beside the regular ticks."""
        self._hurrying = False
        if self.flows.unfinished:
            self._tick()

    def _tell(self) -> None:
        self.status.tell(self._telling.status())
        self.bar.tell(self._telling.filter())

    def _look_again(self) -> None:
        """The theme was changed in the palette."""
        self.look = look_of(self.theme, ascii=self.config.ascii)
        self.session.theme = self.theme
        self.status.look = self.bar.look = self.flows.look = self.look
        for pane in self.panes.values():
            pane.look = self.look
        self.flows.table.appear(look=self.look)

    # -- the filter ---------------------------------------------------------------------------------------------

    def use_filter(self, text: str) -> None:
        """Use a filter; one that is refused leaves everything as it was and says why."""
        try:
            filter = read(text)
        except FlowscopeError as error:
            self.notify(escape(str(error)), severity="error", markup=False)
            return
        self.filter, self.filter_on = filter, True
        self.questions.remember(filter.text)
        self._apply()

    def _apply(self) -> None:
        used = self.filter if self.filter_on else NONE
        if used.pushable and not self.feed.finite:
            self.feed.push(used.whitelist, used.blacklist)
        else:
            self.feed.pull()
        self.flows.use(used)
        for pane in self.panes.values():
            if pane is not self.flows:
                pane.reset()
        self._tick()

    def action_toggle_filter(self) -> None:
        """Set the whole filter aside, or put it back."""
        if self.filter.text:
            self.filter_on = not self.filter_on
            self._apply()

    def action_next_verdict(self) -> None:
        """Step to the next verdict."""
        verdict = quick(self.filter.text, "verdict")
        place = VERDICTS.index(verdict) if verdict in VERDICTS else 0
        self.use_filter(with_quick(self.filter.text, "verdict", VERDICTS[(place + 1) % len(VERDICTS)]))

    def action_history(self, step: int) -> None:
        """Go back, or on, in the filters used."""
        text = self.questions.step(step)
        if text is not None:
            self.use_filter(text)

    def action_edit_filter(self) -> None:
        """Ask for the filter."""
        if not self.feed.finite:
            self.feed.pull()  # so that the count while typing is of everything
            self.flows.use(self.filter if self.filter_on else NONE)
        self.bar.ask(self.questions.filter(self.filter.text))

    def action_prompt(self, field: str) -> None:
        """Ask for a pod or a port."""
        self.bar.ask(self.questions.quick(field, quick(self.filter.text, field)))

    def on_filter_bar_answered(self, event: FilterBar.Answered) -> None:
        """Do what was asked for."""
        self._close_bar()
        if event.kind == "search":
            self.flows.search(event.text, literal(event.text) if event.text else None)
        elif event.kind == "filter":
            self.use_filter(event.text)
        elif event.kind == "name":
            self._save_filter(event.text)
        elif event.kind in QUICK:
            try:
                text = with_quick(self.filter.text, event.kind, event.text)
            except FlowscopeError as error:
                self.notify(escape(str(error)), severity="error", markup=False)
            else:
                self.use_filter(text)

    def action_save_filter(self) -> None:
        """Ask for a name for the filter."""
        if self.filter.text:
            self.bar.ask(self.questions.name(self.filter.text))
        else:
            self.notify("there is no filter to save: / asks for one", timeout=3)

    def _save_filter(self, name: str) -> None:
        if not name:
            return
        try:
            self.named.save(name, self.filter.text)
        except FlowscopeError as error:
            self.notify(escape(str(error)), severity="error", markup=False)
        else:
            self.notify(f"saved as {name}: L lists it, and / completes it by its name", markup=False)

    def on_filter_bar_left(self) -> None:
        """Leave everything as it was."""
        kind = self.bar.question.kind if self.bar.question is not None else ""
        self._close_bar()
        if kind == "filter" and self.filter_on and self.filter.pushable and not self.feed.finite:
            self._apply()

    def _close_bar(self) -> None:
        self.bar.close()
        self.pane.focus_first()

    def on_flows_pane_cell(self, event: FlowsPane.Cell) -> None:
        """Include or exclude what stands under the cursor."""
        test = cell_test(event.flow, event.field)
        if test:
            self.use_filter(with_cell(self.filter.text if self.filter_on else "", test, exclude=event.exclude))
        else:
            self.notify(f"there is nothing to filter by in {event.field.upper()}; h and l choose another column")

    def on_summed_pane_drill(self, event: SummedPane.Drill) -> None:
        """Show the flows behind a sum."""
        self.action_show("flows")
        self.use_filter(with_cell(self.filter.text if self.filter_on else "", event.test, exclude=False))

    # -- screens and windows ------------------------------------------------------------------------------------

    def action_show(self, name: str) -> None:
        """Show another screen."""
        self._switcher.current = name
        self.pane.tick()
        self.pane.focus_first()

    async def action_back(self) -> None:
        """Close what is open, the last first; from another screen, return to the flows."""
        self.back()

    def back(self) -> bool:
        """Whether there was something to close."""
        if self.pane is not self.flows:
            self.action_show("flows")
            return True
        return bool(self.flows.back())

    def action_quit_or_back(self) -> None:
        """Close what is open, or quit."""
        if not self.back():
            self.exit()

    def action_command_palette(self) -> None:
        """Open the palette; in ASCII, as everything."""
        if not isinstance(self.screen, CommandPalette):
            self.push_screen(CommandPalette(placeholder="the name of a command", id="--command-palette"))

    def action_help(self) -> None:
        """Open the help."""
        self.windows.help()

    def action_export(self) -> None:
        """Ask for the name of a file."""
        self.windows.export()

    def action_open(self) -> None:
        """Ask for a capture."""
        self.windows.open()

    def action_saved(self) -> None:
        """List the filters with a name."""
        self.windows.saved()

    def on_flows_pane_wanted(self, event: FlowsPane.Wanted) -> None:
        """Open what a flow, or the table, asks for."""
        if event.what == "search":
            row = self.flows.view.row(self.flows.table.cursor)
            value = "" if row is None else self.flows.table.lines.cell(row, self.flows.table.column)
            self.bar.ask(self.questions.search(self.flows.needle or value))
        else:
            {"columns": self.windows.columns, "stream": self.windows.stream, "copy_as": self.windows.copy_as}[
                event.what
            ]()

    def on_top_pane_group_by(self) -> None:
        """Ask for the fields of Top."""
        self.windows.fields()

    def attach(self, source: Source, *, finite: bool) -> None:
        """Show another source; of a capture, everything, of a server what the filter asked for at the start selects."""
        self.feed.close()
        self.feed = Feed(source, capacity=self.config.ring, finite=finite)
        self.filter, self.filter_on = NONE, True
        self.flows.attach(self.feed)
        for pane in self.panes.values():
            if pane is not self.flows:
                pane.reset()
        self.action_show("flows")
        if self._wanted and not finite:
            self.use_filter(self._wanted)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: every key of the table that does something by itself, and the themes."""
        for key in KEYS:
            if key.where in ("app", "flows", "top") and key.id not in ("app.palette", "app.back"):
                yield SystemCommand(
                    f"{key.title} ({key.written(ascii=self.config.ascii)})",
                    key.help,
                    self._command(key.where, key.action),
                )
        yield SystemCommand("Theme", "change the colours", self.search_themes)

    def _command(self, where: str, action: str) -> Any:
        async def run() -> None:
            await self.run_action(action, default_namespace=self if where == "app" else self._owner(action))

        return run

    def _owner(self, action: str) -> Any:
        name = f"action_{action.partition('(')[0]}"
        return next((one for one in (self.flows.table, *self.panes.values()) if hasattr(one, name)), self)


def run(
    source: Source,
    *,
    config: Config,
    session: Session,
    state: Path,
    finite: bool = False,
    filter: str = "",
    offer: Offer | None = None,
    settings: Path | None = None,
) -> None:
    """Run the TUI over `source` until the user quits; the caller closes the source. Named filters are in `settings`."""
    history, named = History(), NamedFilters(settings or config_path())
    FlowscopeApp(
        source,
        config=config,
        session=session,
        state=state,
        finite=finite,
        filter=filter,
        history=history,
        named=named,
        warnings=[warning for warning in (history.warning, named.warning) if warning],
        offer=offer,
        # Without all that will stay, the longest pause of the collector is a tenth, and keys do not wait for it.
        settled=gc.freeze,
    ).run()
