"""Folders and buckets for images and findings, each identified by an address."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pyarrow import fs

from pneumoscope.errors import NotFoundError, StorageError, TooLargeError, UnreadableError, UnsupportedError
from pneumoscope.imaging import radiograph

SCHEMES = ("file", "s3", "gs")

OPTIONS = {
    "s3": ("endpoint_override", "region", "scheme", "anonymous"),
    "gs": ("endpoint_override", "scheme", "anonymous"),
}
"""The options allowed after the `?` of an address, by scheme."""

_S3_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_INSTANCE_METADATA = ("169.254.169.254", 80)
"""The metadata service of machines in Amazon's cloud, which provides credentials."""


@dataclass(frozen=True)
class Place:
    """A parsed address.

    Attributes:
        scheme: `file`, `s3` or `gs`.
        path: an absolute path on this machine, or `bucket/key` in a store.
        options: how to reach the store, with keys from `OPTIONS`; must be picklable.
    """

    scheme: str
    path: str
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, address: str) -> Place:
        """Parse an address.

        Args:
            address: a path, or `s3://bucket/prefix` and the like, optionally with `?endpoint_override=URL&region=NAME`.

        Raises:
            UnsupportedError: the scheme or an option is unknown, or there is no bucket.

        Example:
            >>> Place.of("s3://images/2024?region=eu-central-1").path
            'images/2024'
        """
        scheme, mark, rest = address.partition("://")
        if not mark:
            return cls("file", os.path.abspath(address))  # noqa: PTH100 - keeps bytes that are not UTF-8
        if scheme not in SCHEMES:
            raise UnsupportedError(f"Expected a path, s3:// or gs://, got an address that begins with '{scheme}://'.")
        if scheme == "file":
            return cls("file", os.path.abspath(rest))  # noqa: PTH100
        path, _, query = rest.partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        if unknown := set(options) - set(OPTIONS[scheme]):
            known = ", ".join(OPTIONS[scheme])
            raise UnsupportedError(f"Expected {known} after the '?' of an address, got {', '.join(sorted(unknown))}.")
        if not path.strip("/"):
            raise UnsupportedError(f"Expected {scheme}://BUCKET/PREFIX, got an address without a bucket.")
        if scheme == "s3":
            options = _with_s3_environment(options)
        return cls(scheme, path.strip("/"), options)

    @property
    def bucket(self) -> str:
        """The first part of the path."""
        return self.path.partition("/")[0]

    def address(self, path: str) -> str:
        """Return the address of another path in the same store, as it is written in the output."""
        return path if self.scheme == "file" else f"{self.scheme}://{path}"

    def filesystem(self) -> fs.FileSystem:
        """Open the store.

        Raises:
            NotFoundError: there is no such bucket.
            StorageError: the store cannot be reached.
        """
        with self.telling():
            return _opened(self.scheme, self.bucket, tuple(sorted(self.options.items())))

    def check(self) -> None:
        """Check, before the work starts, that the store can be used.

        Raises:
            NotFoundError: there is no such bucket.
            StorageError: credentials are missing or insufficient, or the store does not respond.
        """
        if self.scheme == "file":
            return
        if self.scheme == "s3":
            _check_s3_credentials(self.options)
        with self.telling():
            if self.filesystem().get_file_info(self.bucket).type == fs.FileType.NotFound:
                raise FileNotFoundError

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Translate a store's errors, without quoting their text, which may contain anything.

        Raises:
            NotFoundError: there is no such bucket.
            StorageError: credentials are insufficient, or the store does not respond.
        """
        try:
            yield
        except OSError as error:
            if self.scheme == "file":
                raise
            if isinstance(error, FileNotFoundError):
                raise NotFoundError(f"Expected a bucket '{self.bucket}', got none: check the address.") from error
            if _is_denied(error):
                raise StorageError(
                    f"The store denies access to '{self.bucket}': check the credentials in the environment and their "
                    "permissions; for a public bucket add ?anonymous=true to the address."
                ) from error
            raise StorageError(
                f"The store of '{self.bucket}' does not respond as expected: check endpoint, region and network."
            ) from error


class Reader:
    """Reads images by their names, each from its own store; it is picklable.

    Args:
        source: where the images are listed; its options apply to all stores of its scheme.

    Example:
        >>> Reader(Place.of("s3://archive")).read(b"s3://archive/a.png")  # doctest: +SKIP
    """

    def __init__(self, source: Place) -> None:
        self._options = {"s3": _with_s3_environment({}), source.scheme: dict(source.options)}

    def place(self, name: bytes) -> Place:
        """Return the place of an image.

        Args:
            name: a path, as the bytes of the file system; or `s3://bucket/key` and the like, where `?` belongs to the
                key.

        Raises:
            UnsupportedError: the scheme is unknown.
        """
        scheme, mark, path = os.fsdecode(name).partition("://")
        if not mark:
            return Place("file", scheme)
        if scheme not in OPTIONS:
            raise UnsupportedError(f"Expected a path, s3:// or gs://, got an address that begins with '{scheme}://'.")
        return Place(scheme, path, self._options.get(scheme, {}))

    def read(self, name: bytes) -> bytes:
        """Read all bytes of an image file.

        Args:
            name: as in `place`.

        Raises:
            PneumoscopeError: as in `radiograph.read_bytes`.
        """
        place = self.place(name)
        if place.scheme == "file":
            return radiograph.read_bytes(Path(place.path))
        try:
            with place.filesystem().open_input_file(place.path) as file:
                if file.size() > radiograph.MAX_BYTES:
                    raise TooLargeError(f"Expected at most {radiograph.MAX_BYTES:,} bytes, got {file.size():,}.")
                return bytes(file.read())
        except FileNotFoundError:
            raise NotFoundError("Expected a file, got a name that does not exist.") from None
        except NotFoundError:
            raise NotFoundError("Expected a file, got a name in a bucket that does not exist.") from None
        except (OSError, StorageError) as error:
            reason = "the credentials do not allow it" if _is_denied(error) else "the store did not respond"
            raise UnreadableError(f"The file cannot be read: {reason}.") from error


_GOOGLE_RETRIES = timedelta(seconds=20)
"""Without a limit, Google's client looks for missing credentials for a quarter of an hour."""


@cache
def _opened(scheme: str, bucket: str, options: tuple[tuple[str, str], ...]) -> fs.FileSystem:
    given: dict[str, Any] = dict(options)
    anonymous = given.pop("anonymous", "").lower() in ("true", "1")
    if scheme == "file":
        return fs.LocalFileSystem()
    if scheme == "gs":
        return fs.GcsFileSystem(anonymous=anonymous, retry_time_limit=_GOOGLE_RETRIES, **given)
    if "region" not in given:
        given["region"] = "us-east-1" if "endpoint_override" in given else fs.resolve_s3_region(bucket)
    # A stalled request is given up after the third attempt, at most some two minutes.
    return fs.S3FileSystem(anonymous=anonymous, request_timeout=30, connect_timeout=10, **given)


def _with_s3_environment(options: Mapping[str, str]) -> dict[str, str]:
    """Add the values of the usual environment variables, which may not be set on other machines."""
    variables = {
        "endpoint_override": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    }
    found = {
        option: os.environ[name]
        for option, names in variables.items()
        for name in reversed(names)
        if os.environ.get(name)
    } | dict(options)
    endpoint = urlsplit(found.get("endpoint_override", ""))
    if endpoint.netloc:
        found |= {"scheme": endpoint.scheme, "endpoint_override": endpoint.netloc}
    return found


def _check_s3_credentials(options: Mapping[str, str]) -> None:
    """Check that there are credentials: without any, requests would be unsigned, and fail late or not at all."""
    home = Path.home() / ".aws"
    files = [
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", home / "credentials"),
        os.environ.get("AWS_CONFIG_FILE", home / "config"),
    ]
    if "anonymous" in options or any(map(os.environ.get, _S3_CREDENTIALS)) or any(map(os.path.isfile, files)):
        return
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true":
        try:
            socket.create_connection(_INSTANCE_METADATA, timeout=1.0).close()
            return
        except OSError:
            pass  # not a machine in Amazon's cloud
    raise StorageError(
        "Expected credentials for S3, got none: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a "
        "public bucket add ?anonymous=true to the address."
    )


def _is_denied(error: BaseException) -> bool:
    return any(
        word in str(error) for word in ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE", "CREDENTIALS", "403")
    )
