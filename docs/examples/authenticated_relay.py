"""Relay mail to another server for users who log in over TLS.

Run as ``python authenticated_relay.py CERTIFICATE URL``: a PEM file with this server's certificate
and key, and the other server, such as ``smtp://mail.example.com:587?tls=required``. The password of
the user ``anne`` is in the environment variable ``RELAY_PASSWORD``. Ctrl-C stops it.
"""

import asyncio
import contextlib
import hmac
import os
import ssl
import sys

from smtp_handlers import Proxy, RateLimit, RequireAuth
from smtp_protocol import LoginPassword, Session
from smtp_server import serve

PASSWORDS = {b"anne": os.environ.get("RELAY_PASSWORD", "").encode()}


def is_right(mechanism: str, login: bytes, password: bytes) -> bool:
    """Tell whether the password is the user's."""
    expected = PASSWORDS.get(login, b"")
    return hmac.compare_digest(password, expected) and expected != b""


def who(session: Session) -> object:
    """Give the user whose messages are counted; for a client without a login, its address."""
    known = session.auth_data
    return known.login if isinstance(known, LoginPassword) else session.peer_host


async def main(certificate: str, url: str, port: int = 0) -> None:
    """Relay mail until somebody presses Ctrl-C."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    proxy = Proxy.from_url(url)
    handler = RateLimit(RequireAuth(proxy), messages=100, per=3600, key=who)
    async with serve(
        handler, "localhost", port, tls_context=context, auth_callback=is_right
    ) as service:
        print(f"Listening on port {service.port}", flush=True)
        await service.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], sys.argv[2]))
