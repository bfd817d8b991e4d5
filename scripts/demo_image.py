"""Draw docs/demo.svg: what `pneumoscope demo` prints, as it prints it.

python scripts/demo_image.py [DATA]
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 100


def main() -> None:
    """Run the demo and keep the image of its table."""
    data = ["--data", sys.argv[1]] if len(sys.argv) > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pneumoscope", "demo", "--out", folder, *data]
        coloured = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(WIDTH)}
        printed = subprocess.run(command, env=coloured, capture_output=True, text=True, check=True).stdout
    lines = [line for line in printed.splitlines() if "images in" not in line]  # a folder of this machine
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text.from_ansi("\n".join(lines)))
    target = Path(__file__).parents[1] / "docs" / "demo.svg"
    drawn = console.export_svg(title="pneumoscope demo")
    # The reader's own fixed-width font will do: an image need not ask another host for one.
    target.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
