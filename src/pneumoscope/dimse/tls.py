"""Certificates: what this node shows, and whose it believes."""

from __future__ import annotations

import ssl
from pathlib import Path

from pneumoscope.errors import UnsupportedError


def contexts(certificate: Path, key: Path, authority: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make what encrypts connections: both sides show a certificate, and each demands the other's.

    Args:
        certificate: this node's, with those between it and the authority (PEM).
        key: its private key (PEM).
        authority: the certificates of those whose signatures count (PEM).

    Returns:
        For connections from others, and for those to others, whose certificates have to name their hosts.

    Raises:
        UnsupportedError: a file cannot be read, or is no certificate or key.

    Example:
        >>> incoming, outgoing = contexts(Path("node.pem"), Path("node.key"), Path("ca.pem"))  # doctest: +SKIP
    """
    made = []
    for purpose in (ssl.Purpose.CLIENT_AUTH, ssl.Purpose.SERVER_AUTH):
        try:
            context = ssl.create_default_context(purpose, cafile=str(authority))
            context.load_cert_chain(certificate, key)
        except OSError as error:  # ssl's errors are some of them
            raise UnsupportedError(
                f"Expected certificate, key and authority as PEM files, got '{certificate}', '{key}' and '{authority}' "
                f"({error.strerror or type(error).__name__})."
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        made.append(context)
    return made[0], made[1]
