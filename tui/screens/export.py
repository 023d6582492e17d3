"""Save: the flows shown as JSON or compact lines, or a picture of the screen, to a file with a name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from textual.widget import Widget
from textual.widgets import Input

from observer.errors import FlowscopeError
from tui.export import check_name, open_new, write_flows, write_packets
from tui.matches import Rows
from tui.screens.window import Window


class Export(Window[str]):
    """Answers with what was written, in words."""

    def __init__(self, rows: Rows, source: Any, picture: Callable[[], str]) -> None:
        super().__init__(
            f"Save the {len(rows):,} flows shown, or the screen",
            "NAME.jsonl (as observe -o json), NAME.txt (compact), NAME.pcapng (the packets of a capture, "
            "each with pods, verdict and policy in its comment) or NAME.svg (the screen); enter writes, esc leaves",
            small=True,
        )
        self._rows = rows
        self._source = source
        self._picture = picture
        self._file = Input(placeholder="flows.jsonl", compact=True)
        self._stop = threading.Event()

    def content(self) -> list[Widget]:
        """A name."""
        return [self._file]

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Write, flows in the background."""
        event.stop()
        try:
            path = check_name(event.value.strip())
            if path.suffix == ".svg":
                with open_new(path) as file:
                    file.write(self._picture())
                self.dismiss(f"wrote {path}")
                return
        except (FlowscopeError, OSError) as error:
            self.complain(str(error))
            return
        self.complain("writing ...")

        def write() -> None:
            try:
                if path.suffix == ".pcapng":
                    told = f"{write_packets(path, self._rows, self._source, stop=self._stop.is_set):,} packets"
                else:
                    told = f"{write_flows(path, self._rows, stop=self._stop.is_set):,} flows"
            except FlowscopeError as error:
                self.app.call_from_thread(self.complain, str(error))
            else:
                self.app.call_from_thread(self.dismiss, f"wrote {told} to {path}")

        threading.Thread(target=write, name="export", daemon=True).start()

    def action_close(self) -> None:
        """Stop writing: what was written so far stays."""
        self._stop.set()
        super().action_close()
