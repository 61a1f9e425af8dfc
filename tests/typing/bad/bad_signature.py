"""Hooks with too few or too many arguments, and one that is no coroutine."""

from smtp_protocol import Answer, AnyHandler, Envelope, Handler, MailOptions, Server, Session


class Derived(Handler):
    async def handle_EHLO(  # error: Signature of "handle_EHLO" incompatible with supertype
        self, server: Server, session: Session, envelope: Envelope, hostname: str
    ) -> str:
        return "250 mx.example"

    async def handle_NOOP(  # error: Signature of "handle_NOOP" incompatible with supertype
        self, server: Server, session: Session, envelope: Envelope, arg: str, more: str
    ) -> Answer:
        return "250 OK"

    def handle_RSET(  # error: Return type "str | Reply" of "handle_RSET" incompatible
        self, server: Server, session: Session, envelope: Envelope
    ) -> Answer:
        return "250 OK"


class Plain:
    async def handle_MAIL(
        self, server: Server, session: Session, envelope: Envelope, address: str
    ) -> Answer:
        return "250 OK"


class Synchronous:
    def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> Answer:
        return "250 OK"


plain: AnyHandler = Plain()  # error: Incompatible types in assignment
synchronous: AnyHandler = Synchronous()  # error: Incompatible types in assignment
