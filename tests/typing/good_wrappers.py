"""Wrappers of servers as users write them; mypy checks this file with the rest, nobody runs it."""

import ssl
from typing import Unpack

from smtp_protocol import AnyHandler, AuthResult, Envelope, LoginPassword, Server, Session
from smtp_server import (
    SMTP,
    AuthCallback,
    Authenticator,
    Controller,
    Service,
    SharedKeywords,
    SMTPKeywords,
    TLSSource,
    serve,
)


def serve_quickly(handler: AnyHandler, **keywords: Unpack[SharedKeywords]) -> Service:
    """Pass on what `serve` takes, with other defaults."""
    mine: SharedKeywords = {"timeout": 5, **keywords}
    return serve(handler, "127.0.0.1", 0, **mine)


def connection(handler: AnyHandler, **keywords: Unpack[SMTPKeywords]) -> SMTP:
    """Pass on what `SMTP` takes."""
    return SMTP(handler, **keywords)


class Secured(Controller):
    """A controller with keywords of its own."""

    def __init__(
        self, handler: AnyHandler, source: TLSSource, **keywords: Unpack[SharedKeywords]
    ) -> None:
        keywords["tls_context"] = source
        super().__init__(handler, port=0, **keywords)


def authenticate(
    server: Server, session: Session, envelope: Envelope, mechanism: str, auth_data: object
) -> AuthResult:
    """Know one user."""
    return AuthResult(success=isinstance(auth_data, LoginPassword) and auth_data.login == b"anne")


async def check(mechanism: str, login: bytes, password: bytes) -> bool:
    """Know one password."""
    return password == b"secret"


AUTHENTICATOR: Authenticator = authenticate
CALLBACK: AuthCallback = check


def address(service: Service) -> tuple[str, int]:
    """Where it listens."""
    host, port = service.hostname, service.port
    return host.upper(), port + 1


def make_context() -> ssl.SSLContext:
    """Make one anew."""
    return ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)


def use(handler: AnyHandler) -> None:
    """Use them all."""
    Secured(handler, make_context, authenticator=AUTHENTICATOR)
    Secured(handler, make_context(), auth_callback=CALLBACK)
    serve_quickly(handler, timeout=None)
