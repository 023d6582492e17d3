"""The TUI while flows arrive: CPU a tick, filters, keys, the first paint, bytes and memory; DataTable beside.

The server that feeds it is another process, so that only the TUI's own CPU is counted. Terminal bytes and the first
paint are taken from a real terminal (a pty); the rest runs without one, which costs what painting costs.
"""

import asyncio
import fcntl
import gc
import os
import pty
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from textual.app import App, ComposeResult
from textual.widgets import DataTable

from observer.client import open_server
from observer.store import Store
from tests.bench.bench_store import PATHS, requests
from tests.tui.flows import filled, records
from tui.app import FlowscopeApp
from tui.config import Config
from tui.matches import held
from tui.view import FlowView

SIZE = (160, 50)
RING = 131_072
RATE = 10_000
"""Flows a second that arrive."""
SECONDS = 2.0
RUNS = 5
TICK_S = 0.1
KEYS = 10
FILTERS = (
    "verdict=DROPPED",
    "pod=shop/web-1 and port=8080 and verdict=FORWARDED",
    "latency>50ms",
    "web-2",
    "/no.such/",
)


class Feeding:
    """A server in a process of its own, its ring full, `rate` flows a second arriving."""

    def __init__(self, directory: str, rate: int) -> None:
        self.address = f"unix://{directory}/feed-{rate}.sock"
        self._child = subprocess.Popen([sys.executable, "-m", "tests.bench.bench_tui", "feed", self.address, str(rate)])
        end = time.monotonic() + 30
        while not Path(self.address.removeprefix("unix://")).exists() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.3)

    def __enter__(self) -> "Feeding":
        return self

    def __exit__(self, *_: object) -> None:
        self._child.terminate()
        self._child.wait()


def feed(address: str, rate: int) -> None:
    """The feeding process."""
    from observer.service.address import parse_address
    from observer.service.answers import About, Answers
    from observer.service.server import Server

    store = filled(RING, capacity=RING, gap_ns=100_000)
    server = Server(Answers(store, About("bench", "flows", "", "")), node_name="bench")
    server.listen(parse_address(address))
    server.start()
    server.ready()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    part = records(store, max(1, rate // 20), start=0, gap_ns=100_000)
    while True:
        time.sleep(0.05)
        if rate:
            part["time_ns"] = time.time_ns()
            store.append(part, node=1)


class Watched(FlowscopeApp):
    """Notes when it has painted."""

    CSS_PATH = str(Path(__file__).parent.parent.parent / "tui" / "app.tcss")
    painted = 0.0

    def post_display_hook(self) -> None:
        self.painted = time.monotonic()


async def tailing(address: str) -> None:
    """CPU a tick, filters and keys while flows arrive."""
    source = open_server(address)
    app = Watched(source, config=Config(ring=RING), settled=gc.freeze)  # as tui.app.run has it
    async with app.run_test(size=SIZE) as pilot:
        while app.feed.told().word != "LIVE" or len(app.flows.store) < RING:
            await pilot.pause(0.1)
        await pilot.pause(0.5)
        spent, came = 9.0, 0.0
        for _ in range(RUNS):
            cpu, start, seen = time.process_time(), time.monotonic(), app.flows.store.next
            await asyncio.sleep(SECONDS)
            seconds = time.monotonic() - start
            came = max(came, (app.flows.store.next - seen) / seconds)
            spent = min(spent, (time.process_time() - cpu) / (seconds / TICK_S))
        print(f"tick, {came:,.0f} flows/s into a full ring of {RING:,}: {spent * 1e3:.1f} ms CPU (budget 20, aim 15)")
        waits = []
        for key in ("k", "k", "j", "G") * KEYS:
            app.painted = 0.0
            start = time.monotonic()
            app.simulate_key(key)
            while not app.painted:
                await asyncio.sleep(0.001)
            waits.append(app.painted - start)
            await asyncio.sleep(0.07)
        waits.sort()
        median, worst = waits[len(waits) // 2] * 1e3, waits[-1] * 1e3
        print(f"key to paint while tailing: median {median:.0f}, worst {worst:.0f} ms (budget 50)")
    source.close()
    store = filled(RING, capacity=RING)
    for text in FILTERS:
        filtering(text, store)
    store = requests(PATHS)  # a word that one flow in a hundred has, among two thousand paths
    for text in ("cart", "/cart.*page=1/"):
        filtering(text, store)


def filtering(text: str, store: Store) -> None:
    """From the filter to the first page, and to the whole ring, of a full ring."""
    from tui.filtering import read
    from tui.matches import Matches

    best = [9.0, 9.0]
    for _ in range(3):
        start = time.process_time()
        condition = read(text).condition
        assert condition is not None
        rows = Matches(store, condition)
        view = FlowView(store)
        for place in range(max(0, len(rows) - SIZE[1]), len(rows)):
            view.row(rows.at(place))
        first = time.process_time() - start
        while not rows.complete:
            rows.advance()
        best = [min(best[0], first), min(best[1], time.process_time() - start)]
    print(
        f"filter {text!r}: page {best[0] * 1e3:.1f} ms CPU (budget 50, aim 30), "
        f"ring of {RING:,} {best[1] * 1e3:.0f} ms, {len(rows):,} rows"
    )


class Terminal:
    """The TUI in a terminal; what it writes is counted."""

    def __init__(self, compiled: str, *args: str) -> None:
        self._pid, self._handle = pty.fork()
        if self._pid == 0:
            os.environ |= {"TERM": "xterm-256color", "COLORTERM": "", "XDG_STATE_HOME": tempfile.mkdtemp()}
            os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program is not compiled at each start
            os.environ["PYTHONPYCACHEPREFIX"] = compiled
            os.execv(sys.executable, [sys.executable, "-m", "observer.cli", "tui", *args])
        fcntl.ioctl(self._handle, termios.TIOCSWINSZ, struct.pack("HHHH", SIZE[1], SIZE[0], 0, 0))

    def read(self, seconds: float, until: bytes = b"") -> bytes:
        """What it writes within so many seconds, or until it has written that."""
        end = time.monotonic() + seconds
        out = bytearray()
        while (left := end - time.monotonic()) > 0 and not (until and until in out):
            if select.select([self._handle], [], [], left)[0]:
                try:
                    out += os.read(self._handle, 1 << 16)
                except OSError:  # it has closed its side
                    break
        return bytes(out)

    def close(self) -> resource.struct_rusage:
        """Quit; what it used."""
        os.write(self._handle, b"\x03")
        self.read(1.0)
        os.kill(self._pid, signal.SIGKILL)
        _, _, used = os.wait4(self._pid, 0)
        os.close(self._handle)
        return used


def in_a_terminal(address: str) -> None:
    """The first paint, and bytes a repaint."""
    waits, spent = [], []
    compiled = tempfile.mkdtemp()
    for _ in range(4):
        start = time.monotonic()
        terminal = Terminal(compiled, "--server", address)
        terminal.read(10, until=b"SUMMARY")
        waits.append(time.monotonic() - start)
        used = terminal.close()
        spent.append(used.ru_utime + used.ru_stime)
    print(f"start to first paint: {min(waits):.2f} s, start to end {min(spent):.2f} s CPU (budget 0.6, aim 0.4)")
    terminal = Terminal(compiled, "--server", address)
    terminal.read(4)
    written = len(terminal.read(SECONDS))
    print(f"bytes a repaint, {SIZE[0]}x{SIZE[1]}: {written / (SECONDS / TICK_S) / 1e3:.1f} kB (budget 35)")
    terminal.close()


def memory(flows: int) -> None:
    """The memory of a ring that is full, and shown with a filter; in a process of its own."""

    async def run() -> None:
        from tui.filtering import read
        from tui.matches import Matches

        before = _rss()
        store = filled(flows, capacity=flows)
        full = _rss()
        condition = read("not verdict=DROPPED").condition
        assert condition is not None
        rows = Matches(store, condition)
        while not rows.complete:
            rows.advance()
        assert len(held(store)) == flows
        shown = _rss() - before
        print(
            f"memory, {flows:,} flows: {full - before:.0f} MB, with a filter that lets 90 % pass {shown:.0f} MB "
            f"({shown * 1e6 / flows:.0f} bytes a flow)"
        )

    asyncio.run(run())


def _rss() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


class Peer(App[None]):
    """The same with Textual's own DataTable."""

    def compose(self) -> ComposeResult:
        yield DataTable()


async def data_table(rows: int) -> None:
    """CPU a tick of DataTable with so many rows, a hundred more arriving each time: a tenth of ours."""
    app = Peer()
    async with app.run_test(size=SIZE) as pilot:
        table = app.query_one(DataTable)
        for name in ["TIME", "SOURCE", "ARROW", "DESTINATION", "PROTO", "VERDICT", "LATENCY", "SUMMARY"]:
            table.add_column(name, width=14)
        cells = ("13:47:43.978", "shop/web-1", "->", "shop/db-0", "HTTP/1.1", "FORWARDED", "1.2ms", "GET /")
        table.add_rows([cells] * rows)
        await pilot.pause(2)
        cpu = time.process_time()
        ticks = 10
        for _ in range(ticks):
            table.add_rows([cells] * 100)
            table.move_cursor(row=table.row_count - 1)
            await pilot.pause(TICK_S)
        spent = (time.process_time() - cpu) / ticks
        print(f"DataTable of {rows:,} rows, {100 / TICK_S:,.0f} flows/s: {spent * 1e3:.0f} ms CPU a tick")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, Feeding(directory, RATE) as feeding:
        asyncio.run(tailing(feeding.address))
        in_a_terminal(feeding.address)
    for flows in (RING, 1_000_000):
        subprocess.run([sys.executable, "-m", "tests.bench.bench_tui", "memory", str(flows)], check=True)
    asyncio.run(data_table(10_000))


if __name__ == "__main__":
    if sys.argv[1:2] == ["feed"]:
        feed(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1:2] == ["memory"]:
        memory(int(sys.argv[2]))
    else:
        main()
