"""Hooks whose arguments have other types than those that they get."""

from smtp_protocol import Answer, AnyHandler, Envelope, Handler, RcptOptions, Server, Session


class Derived(Handler):
    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: bytes,  # error: Argument 4 of "handle_RCPT" is incompatible with supertype
        rcpt_options: RcptOptions,
    ) -> Answer:
        return "250 OK"


class Plain:
    async def handle_RCPT(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: bytes,
        rcpt_options: RcptOptions,
    ) -> Answer:
        return "250 OK"


handler: AnyHandler = Plain()  # error: Incompatible types in assignment
