"""Hooks that take what they get for something else."""

from smtp_protocol import Answer, Envelope, Handler, LoginPassword, MailOptions, Server, Session


class Careless(Handler):
    async def handle_MAIL(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: MailOptions,
    ) -> Answer:
        print(mail_options.size + 1)  # error: Unsupported operand types for + ("None" and "int")
        print(mail_options.body == "9BIT")  # error: Non-overlapping equality check
        print(envelope.mail_from.upper())  # error: has no attribute "upper"
        print(session.peer.upper())  # error: has no attribute "upper"
        print(session.tls.version)  # error: has no attribute "version"
        envelope.content = "text"  # error: expression has type "str", variable has type "bytes"
        server.hostname = "mx"  # error: Property "hostname" defined in "Server" is read-only
        return LoginPassword("anne", "secret")  # error: Incompatible return value type
