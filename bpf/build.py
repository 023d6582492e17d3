"""Compile the eBPF objects of this folder, and write the hashes of all that they are made of and of themselves.

`make bpf` runs it; a test runs it into another folder. The objects hold no path and no DWARF, only the BTF that
loading needs. `sha256sum --check objects.sha256` says whether sources were changed without a build.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
HASHES: Final = HERE / "objects.sha256"
FLAGS: Final = ("-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror")


def build(source: Path, target: Path, clang: str = "clang") -> None:
    """Compile one program into one object."""
    includes = [f"-I{HERE}", f"-I/usr/include/{platform.machine()}-linux-gnu"]  # Debian keeps asm/ there
    # A name of a file in BTF is what is left of it behind the folder of the build.
    unnamed = ["-fdebug-compilation-dir=.", f"-ffile-prefix-map={source.parent}/=", f"-ffile-prefix-map={HERE}/="]
    subprocess.run([clang, *FLAGS, *includes, *unnamed, "-c", str(source), "-o", str(target)], check=True)
    subprocess.run(["llvm-strip", "-g", str(target)], check=True)


def hashes() -> str:
    """The hash of every source and object, in the format of sha256sum."""
    paths = [path for kind in ("*.py", "*.h", "*.c", "*.o") for path in HERE.glob(kind)]
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(paths))


def main() -> None:
    """Build every object."""
    for source in sorted(HERE.glob("*.bpf.c")):
        build(source, source.with_suffix(".o"))
    HASHES.write_text(hashes())


if __name__ == "__main__":
    sys.exit(main())
