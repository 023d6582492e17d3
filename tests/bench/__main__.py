"""Run every benchmark: `make bench`, or `python -m tests.bench NAME` for some of them.

Each bench_*.py has a main() that prints one line a figure, beside its budget from the design, and a ratio against a
peer in the same run where a peer exists. Figures are for reading; no test asserts a time.
"""

import importlib
import sys
from pathlib import Path


def main() -> None:
    names = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    for name in [name for name in names if name in sys.argv[1:]] or names:
        print(f"-- {name}", flush=True)
        importlib.import_module(f"tests.bench.bench_{name}").main()


if __name__ == "__main__":
    main()
