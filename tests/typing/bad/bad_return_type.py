"""Hooks that return what is no answer."""

from smtp_protocol import AnyHandler, Envelope, Handler, Server, Session


class Derived(Handler):
    async def handle_DATA(  # error: Return type "Coroutine[Any, Any, int]" of "handle_DATA"
        self, server: Server, session: Session, envelope: Envelope
    ) -> int:
        return 250

    async def handle_RSET(  # error: Return type "Coroutine[Any, Any, None]" of "handle_RSET"
        self, server: Server, session: Session, envelope: Envelope
    ) -> None:
        return None

    async def handle_NOOP(
        self, server: Server, session: Session, envelope: Envelope, arg: str
    ) -> str:
        return b"250 OK"  # error: Incompatible return value type (got "bytes", expected "str")


class Plain:
    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> bytes:
        return b"250 OK"


handler: AnyHandler = Plain()  # error: Incompatible types in assignment
