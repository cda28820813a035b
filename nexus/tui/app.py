"""The application behind `nexus top`; needs Textual."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.widgets import DataTable, Footer, Static

from nexus.tui.source import COLUMNS, read_status, rows, title

__all__ = ["TopApp", "watch"]

REFRESH_S = 1.0


class TopApp(App[None]):
    """A table of the fibers, read anew each second."""

    BINDINGS: ClassVar = [("q", "quit", "Quit"), ("space", "pause", "Pause"), ("r", "look", "Now")]

    def __init__(self, node: str | None) -> None:
        super().__init__()
        self._node_directory = node
        self._paused = False

    def compose(self) -> ComposeResult:
        """A line, the table, the keys."""
        yield Static("reading ...", id="head")
        yield DataTable(id="fibers", cursor_type="row")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        self.query_one("#fibers", DataTable).add_columns(*COLUMNS)
        self.set_interval(REFRESH_S, self.refresh_status)
        self.refresh_status()

    def refresh_status(self) -> None:
        """Read the status beside the display, so that it never waits."""
        if not self._paused:
            self.run_worker(self._read, thread=True, exclusive=True)

    def _read(self) -> None:
        self.call_from_thread(self.show, read_status(self._node_directory))

    def show(self, status: dict[str, Any]) -> None:
        """Fill the line and the table."""
        self.query_one("#head", Static).update(title(status))
        table: DataTable[str] = self.query_one("#fibers", DataTable)
        table.clear()
        table.add_rows(rows(status))

    def action_pause(self) -> None:
        """Stop looking, or go on."""
        self._paused = not self._paused

    def action_look(self) -> None:
        """Look at once."""
        self.refresh_status()


def watch(node: str | None) -> int:
    """Run until `q`."""
    TopApp(node).run()
    return 0
