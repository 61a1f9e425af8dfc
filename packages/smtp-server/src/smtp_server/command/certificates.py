"""Certificates: files in PEM become TLS contexts, read again whenever they are asked for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from smtp_server.command.errors import CannotStartError

if TYPE_CHECKING:
    import ssl

    from smtp_server.tls import TLSSource

__all__: list[str] = []


def tls_source(certificate: str | None, key: str | None) -> TLSSource | None:
    """Make a function that reads the files each time; the first time is now.

    Raises:
        CannotStartError: They cannot be used.
    """
    if certificate is None:
        if key is not None:
            raise CannotStartError(f"the key {key} needs its certificate")
        return None
    first = [read_context(certificate, key)]
    return lambda: first.pop() if first else read_context(certificate, key)


def read_context(certificate: str, key: str | None) -> ssl.SSLContext:
    """Read the files.

    Raises:
        CannotStartError: They cannot be used; the text says which, and why.
    """
    import ssl  # noqa: PLC0415 not for those who have no TLS

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # A key with a passphrase would make OpenSSL ask on the terminal.
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except _PassphraseError:
        text = f"the key {key or certificate} has a passphrase; give one that has none"
        raise CannotStartError(text) from None
    except OSError as error:
        reason = _reason(certificate, key, error)
        raise CannotStartError(f"cannot use the certificate {certificate}: {reason}") from None
    return context


class _PassphraseError(Exception):
    pass


def _no_passphrase() -> str:
    raise _PassphraseError


def _reason(certificate: str, key: str | None, error: OSError) -> str:
    """What OpenSSL means. It names neither the file nor what is wrong with it."""
    for path in (certificate, key):
        if path is not None and not os.access(path, os.R_OK):
            what = os.strerror(error.errno) if error.errno else "it cannot be read"
            return f"{path}: {what}"
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return f"the key {key or certificate} is that of another certificate"
    if reason in (None, "NO_START_LINE"):
        wanted = (
            f"its key in {key}" if key else "a certificate and its key in one file, or --tlskey"
        )
        return f"expected PEM, with {wanted}"
    return str(error)
