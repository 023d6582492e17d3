"""Open a capture: its file, and who and what it is judged by."""

from __future__ import annotations

from pathlib import Path

from textual.widget import Widget
from textual.widgets import Input

from observer.client import Source, open_capture_source
from observer.errors import FlowscopeError
from tui.screens.window import Window


class Open(Window[Source]):
    """Answers with the source that was opened."""

    def __init__(self) -> None:
        super().__init__(
            "Open a capture", "pcap or pcapng, also .gz; tab to the next line, enter opens, esc leaves", small=True
        )
        self._capture = Input(placeholder="capture", compact=True, id="capture")
        self._identities = Input(placeholder="identities.yaml (optional)", compact=True, id="identities")
        self._policy = Input(placeholder="policies: file or directory (optional)", compact=True, id="policy")

    def content(self) -> list[Widget]:
        """Three names."""
        return [self._capture, self._identities, self._policy]

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Open it, or say why not."""
        event.stop()
        capture, identities, policy = (
            Path(one.value.strip()).expanduser() if one.value.strip() else None
            for one in (self._capture, self._identities, self._policy)
        )
        if capture is None:
            self.complain("the name of a capture, please")
            return
        try:
            self.dismiss(open_capture_source(capture, identities=identities, policies=[policy] if policy else ()))
        except FlowscopeError as error:
            self.complain(str(error))
