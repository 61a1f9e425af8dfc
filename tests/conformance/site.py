"""Site: what the servers of the transcripts have behind them, a handler and one user."""

from collections.abc import Sequence

from smtp_protocol import (
    Answer,
    AuthResult,
    CramMD5Response,
    EnhancedStatus,
    Envelope,
    Handler,
    LoginPassword,
    OAuthToken,
    Reply,
    ScramKeys,
    ScramLogin,
    Server,
    Session,
    replies,
)

__all__ = ["Recorder", "authenticate"]

_NO_ROOM = Reply(452, ("Mailbox full",), EnhancedStatus(4, 2, 2))


class Recorder(Handler):
    """Accepts everything, and keeps the contents; a recipient named ``full`` has no room for it."""

    def __init__(self) -> None:
        self.delivered: list[bytes] = []

    async def handle_DATA(
        self, server: Server, session: Session, envelope: Envelope
    ) -> Answer | Sequence[Answer]:
        answers = [
            _NO_ROOM if recipient.startswith("full@") else replies.OK
            for recipient in envelope.rcpt_tos
        ]
        if replies.OK in answers:
            self.delivered.append(envelope.content)
        return answers


def authenticate(
    server: Server, session: Session, envelope: Envelope, mechanism: str, auth_data: object
) -> AuthResult:
    """There is ``tim``, whose password and token is ``tanstaaf``; of ``oops`` nobody can tell."""
    if getattr(auth_data, "login", b"") == b"oops":
        raise RuntimeError("the directory does not answer")
    match auth_data:
        case LoginPassword(b"tim", b"tanstaaf") | OAuthToken(b"tim", b"tanstaaf"):
            return AuthResult(success=True)
        case CramMD5Response(b"tim"):
            return AuthResult(success=auth_data.verify(b"tanstaaf"))
        case ScramLogin(b"tim"):
            keys = ScramKeys.from_password(
                "tanstaaf", hash_name=auth_data.hash_name, salt=b"salt", iterations=1
            )
            return AuthResult(success=True, auth_data=keys)
    return AuthResult(success=False)
