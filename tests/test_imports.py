"""The one-way street: no module imports anything to its right, and the forbidden ways stay closed."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Left to right; a module may import from its own place and from places before it.
STREET = [
    {
        "observer",
        "observer.errors",
        "observer.losses",
        "observer.numbered",
        "observer.monitor",
        "observer.record",
        "observer.extra",
        "observer.yamlfile",
    },
    {"observer.api"},
    {"observer.sources", "observer.datapath"},
    {"observer.fragments", "observer.tunnel", "observer.ip", "observer.decode"},
    {
        "observer.tuples",
        "observer.conntrack",
        "observer.vantage",
        "observer.datapath.handed",
        "observer.datapath.rebuilt",
    },
    {"observer.stream"},
    {"observer.l7", "observer.datapath.kafka_table"},
    {"observer.identity"},
    {"observer.policy"},
    {"observer.store"},
    {
        "observer.notes",
        "observer.tag",
        "observer.rows",
        "observer.judging",
        "observer.pipeline",
        "observer.datapath.maps",
        "observer.datapath.fill",
        "observer.datapath.policy_maps",
        "observer.datapath.pending",
        "observer.datapath.http2_state",
        "observer.datapath.complete",
        "observer.datapath.replay",
    },
    {"observer.live"},
    {"observer.wire", "observer.batch"},
    {"observer.filters"},
    {"observer.query"},
    {"observer.service"},
    {"observer.client"},
    {"observer.jsonpb", "observer.printer"},
    {"observer.cli", "tui"},
]
PURE = (
    "observer.l7",
    "observer.stream",
    "observer.fragments",
    "observer.ip",
    "observer.decode",
    "observer.conntrack",
    "observer.policy.engine",
)
IMPURE = {"socket", "time", "threading", "os", "io", "pathlib", "grpc", "asyncio", "multiprocessing", "subprocess"}
TUI_MAY = {"api", "client", "query", "filters", "record", "extra", "wire", "store", "printer", "errors", "losses"}


def modules() -> dict[str, Path]:
    found = {}
    for path in [*ROOT.glob("observer/**/*.py"), *ROOT.glob("tui/**/*.py")]:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = path
    return found


MODULES = modules()


def imports(name: str) -> set[str]:
    """Every module that `name` imports anywhere in its text, also inside functions."""
    path = MODULES[name]
    out = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            out |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                out.add(full if full in MODULES else base)
    return out


def place(name: str) -> int:
    while name not in ("observer", "tui"):
        for index, here in enumerate(STREET):
            if name in here:
                return index
        name = name.rpartition(".")[0]
    return next(index for index, here in enumerate(STREET) if name in here)


@pytest.mark.parametrize("name", [name for name in MODULES if name.count(".") >= 1 and not name.startswith("tui")])
def test_every_module_has_its_place(name):
    assert name.split(".")[1] in {entry.partition(".")[2].split(".")[0] for here in STREET for entry in here}


@pytest.mark.parametrize("name", MODULES)
def test_no_module_imports_to_its_right(name):
    ours = {other for other in imports(name) if other.split(".")[0] in ("observer", "tui")}
    assert {other for other in ours if place(other) > place(name)} == set()


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith(PURE)])
def test_parsers_and_engine_know_no_sockets_clocks_threads_or_files(name):
    assert {other.split(".")[0] for other in imports(name)} & IMPURE == set()


@pytest.mark.parametrize("name", MODULES)
def test_who_may_import_grpc_textual_and_bcc(name):
    tops = {other.split(".")[0] for other in imports(name)}
    if name.startswith("observer"):
        assert "textual" not in tops or name == "observer.cli.tui"
    if not name.startswith(("observer.service", "observer.relay", "observer.client", "observer.api")):
        assert not tops & {"grpc", "grpc_health"}
    if name != "observer.datapath.bcc":
        assert "bcc" not in tops


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("tui")])
def test_the_tui_knows_only_the_clients_side(name):
    ours = {other.split(".")[1] for other in imports(name) if other.startswith("observer.")}
    assert ours <= TUI_MAY
