"""Add two commands, PING and WHOAMI, in a subclass of `SMTP`, and a mechanism, X-TOKEN, to AUTH.

The mechanism is a method of the handler. The environment variable ``TOKEN`` has the token; only
those who send it may send mail. Enter stops it.
"""

import base64
import binascii
import hmac
import os

from smtp_handlers import Sink
from smtp_protocol import MISSING, AuthResult, Server
from smtp_server import SMTP, Controller, auth_mechanism, syntax

TOKEN = os.environ.get("TOKEN", "").encode()


class TokenSink(Sink):
    """Takes mail of those who have the token, and drops it."""

    @auth_mechanism("X-TOKEN")
    async def auth_token(self, server: Server, args: list[str]) -> AuthResult:
        """Take the token, behind the mechanism's name or in a line of its own."""
        if len(args) > 1:
            try:
                token = base64.b64decode(args[1], validate=True)
            except binascii.Error:
                return AuthResult(success=False, message="501 5.5.2 That is not base64")
        else:
            answer = await server.challenge_auth("Token:")
            if answer is MISSING:
                return AuthResult(success=False)  # the client knows why
            token = answer
        good = hmac.compare_digest(token, TOKEN) and TOKEN != b""
        return AuthResult(success=good, auth_data="robot")


class OwnSMTP(SMTP):
    """SMTP with PING and WHOAMI."""

    @syntax("PING [text]")
    async def smtp_PING(self, arg: str | None) -> str:
        """Answer with the text that came."""
        return f"250 PONG {arg}" if arg else "250 PONG"

    @syntax("WHOAMI")
    async def smtp_WHOAMI(self, arg: str | None) -> str:
        """Tell the client what the server knows of it."""
        if arg:
            return "501 Syntax: WHOAMI"
        user = self.session.auth_data if self.session.authenticated else self.session.host_name
        return f"250 {user or 'nobody'} at {self.session.peer_host}"


class OwnController(Controller):
    """A controller whose connections are `OwnSMTP`."""

    def factory(self) -> SMTP:
        """Make the protocol of a new connection."""
        return OwnSMTP(self.handler, **self.SMTP_kwargs)


def main(port: int = 0) -> None:
    """Serve until somebody presses Enter."""
    # A token in the clear is for the example: with tls_context=… it need not be.
    with OwnController(
        TokenSink(), port=port, auth_required=True, auth_require_tls=False
    ) as controller:
        print(f"Listening on port {controller.port}", flush=True)
        input()


if __name__ == "__main__":
    main()
