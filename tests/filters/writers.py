"""Several processes that write one file at the same time."""

import subprocess
import sys
from pathlib import Path


def at_once(program: str, path: Path) -> None:
    """Run a program three times at once, its words the file and a name of its own (a, b, c); all must succeed."""
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path), name]) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
