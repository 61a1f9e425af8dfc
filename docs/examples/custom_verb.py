"""Add two commands, PING and WHOAMI, in a subclass of `SMTP`.

Enter stops it.
"""

from smtp_handlers import Sink
from smtp_server import SMTP, Controller, syntax


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
        return f"250 {self.session.host_name or 'nobody'} at {self.session.peer_host}"


class OwnController(Controller):
    """A controller whose connections are `OwnSMTP`."""

    def factory(self) -> SMTP:
        """Make the protocol of a new connection."""
        return OwnSMTP(self.handler, **self.SMTP_kwargs)


def main(port: int = 0) -> None:
    """Serve until somebody presses Enter."""
    with OwnController(Sink(), port=port) as controller:
        print(f"Listening on port {controller.port}", flush=True)
        input()


if __name__ == "__main__":
    main()
