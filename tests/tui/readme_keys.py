"""Write the table of keys into README.md: `python -m tests.tui.readme_keys`."""

import re
from pathlib import Path

from tui.keys import markdown

README = Path(__file__).parent.parent.parent / "README.md"

if __name__ == "__main__":
    text = README.read_text()
    README.write_text(re.sub(r"\| key \| where \| does \| id \|\n(\|.*\n)+", lambda _: markdown(), text))
