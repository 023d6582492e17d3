"""The compiled eBPF objects: in bpf/ beside this module in the wheel, in the bpf/ at the top of a checkout.

They are committed and shipped compiled, so that a node needs neither clang nor kernel headers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from observer.errors import DatapathError

SHIPPED: Final = Path(__file__).parent / "bpf"
CHECKOUT: Final = Path(__file__).parents[2] / "bpf"

PROGRAM: Final = "flowscope_tc"
"""The one program of the object `datapath`: for both directions of an interface, and for captures."""


def image(name: str) -> bytes:
    """The ELF file of an object, as in `image("datapath")`."""
    for folder in (SHIPPED, CHECKOUT):
        path = folder / f"{name}.bpf.o"
        if path.is_file():
            return path.read_bytes()
    raise DatapathError(f"{name}.bpf.o is not installed: reinstall flowscope, or run `make bpf` in a checkout")
