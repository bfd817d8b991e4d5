"""Data sets in the table of public ones that a server of the test's own holds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from pneumoscope.data.sources import SOURCES, DataSource
from tests.builders.hosting import NOISE, Host


@pytest.fixture
def host() -> Iterator[Host]:
    served = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(dict(self.headers))
            start = self.start_of_range() if served.ranges else 0
            status = 206 if start and served.status == 200 else served.status
            if start >= len(served.content):
                status = 416
            body = served.content[start:] if status in (200, 206) else b""
            self.send_response(status)
            for name, value in served.headers.items():
                self.send_header(name, value)
            if status == 416:
                self.send_header("Content-Range", f"bytes */{len(served.content)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: served.cuts.pop(0)] if served.cuts else body)

        def start_of_range(self) -> int:
            version = self.headers["If-Range"]
            if version and version not in served.headers.values():
                return 0
            return int(re.sub(r"\D", "", self.headers["Range"] or "0"))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        served.url = f"http://127.0.0.1:{server.server_port}/file"
        yield served
        server.shutdown()


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Callable[[DataSource], str]:
    def to_the_table(source: DataSource) -> str:
        monkeypatch.setitem(SOURCES, source.name, source)
        return source.name

    return to_the_table


@pytest.fixture
def archive(host: Host, add: Callable[[DataSource], str]) -> str:
    """A data set that is one `.npz`, on the server."""
    md5 = hashlib.md5(NOISE).hexdigest()
    return add(DataSource("tiny", "", "", "", "tiny.npz", {}, url=host.url, checksum=f"md5:{md5}"))
