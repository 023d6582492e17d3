"""The datapath, loaded once a session; the tiny object, compiled once a session and loaded for each test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bpf.build import build
from observer.datapath.libbpf import Object
from tests.datapath.both import Kernel


@pytest.fixture(scope="session")
def kernel() -> Iterator[Kernel]:
    """The datapath, for captures; loading takes longer than most tests do."""
    loaded = Kernel()
    yield loaded
    loaded.replay.close()


@pytest.fixture(scope="session")
def tiny_image(tmp_path_factory) -> bytes:
    target = tmp_path_factory.mktemp("bpf") / "tiny.bpf.o"
    build(Path(__file__).parent / "tiny.bpf.c", target)
    return target.read_bytes()


@pytest.fixture
def load(tiny_image) -> Iterator[Callable[..., Object]]:
    """Load these programs of the tiny object."""
    with ExitStack() as stack:

        def loaded(*programs: str) -> Object:
            tiny = stack.enter_context(Object(tiny_image, "tiny"))
            tiny.only(*programs)
            tiny.load()
            return tiny

        yield loaded
