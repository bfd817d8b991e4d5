"""Runs the commands as a user does, and gives what they say."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path
from typing import Any


def run(*arguments: str | Path, stdin: bytes = b"", **environment: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pneumoscope", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env=os.environ | {"COLUMNS": "120"} | environment,
        timeout=300,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode()
    )


def on_a_terminal(*arguments: str | Path, columns: int = 80) -> str:
    """Run Python on a terminal, and give what it shows, without colours."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, *map(str, arguments)]
    shown = b""
    with subprocess.Popen(command, stdin=there, stdout=there, stderr=there, env=environment | {"TERM": "xterm"}):
        os.close(there)
        with suppress(OSError):  # Linux says so when the last of the other side has gone
            while some := os.read(here, 65536):
                shown += some
    os.close(here)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r\n", "\n")


def predict(model: Path, *arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    return run("predict", "--model", model, *arguments, stdin=stdin)
