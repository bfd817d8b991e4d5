"""TLS: this node's certificate, and the authorities it trusts."""

from __future__ import annotations

import ssl
from pathlib import Path

from pneumoscope.errors import UnsupportedError


def contexts(certificate: Path, key: Path, authority: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Create the TLS contexts; both sides must present a certificate.

    Args:
        certificate: this node's certificate, with any intermediate ones (PEM).
        key: its private key (PEM).
        authority: the certificates of the trusted authorities (PEM).

    Returns:
        The contexts for incoming and for outgoing connections; the latter also check the peer's host name.

    Raises:
        UnsupportedError: a file cannot be read, or is not a certificate or key.

    Example:
        >>> incoming, outgoing = contexts(Path("node.pem"), Path("node.key"), Path("ca.pem"))  # doctest: +SKIP
    """
    made = []
    for purpose in (ssl.Purpose.CLIENT_AUTH, ssl.Purpose.SERVER_AUTH):
        try:
            context = ssl.create_default_context(purpose, cafile=str(authority))
            context.load_cert_chain(certificate, key)
        except OSError as error:  # includes `ssl.SSLError`
            raise UnsupportedError(
                f"Expected certificate, key and authority as PEM files, got '{certificate}', '{key}' and '{authority}' "
                f"({error.strerror or type(error).__name__})."
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        made.append(context)
    return made[0], made[1]
