"""Accounts: an authenticator that knows some passwords, whatever the mechanism asks for."""

import hmac
from collections.abc import Mapping

from smtp_protocol import (
    AuthResult,
    CramMD5Response,
    Envelope,
    LoginPassword,
    OAuthToken,
    ScramKeys,
    ScramLogin,
    Server,
    Session,
)

__all__: list[str] = []

_NO = AuthResult(success=False)


class Accounts:
    """Decides on the built-in mechanisms that need a password, or a token in its place.

    Args:
        passwords: By user.
    """

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._passwords = {user.encode(): word.encode() for user, word in passwords.items()}

    def __call__(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        mechanism: str,
        auth_data: object,
    ) -> AuthResult:
        """Look the user up; ``session.auth_data`` will be what the mechanism got."""
        match auth_data:
            case LoginPassword(login, word) | OAuthToken(login, word) if login in self._passwords:
                good = hmac.compare_digest(self._passwords[login], word)
                return AuthResult(success=good)
            case CramMD5Response(login) if login in self._passwords:
                return AuthResult(success=auth_data.verify(self._passwords[login]))
            case ScramLogin(login, _, hash_name) if login in self._passwords:
                password = self._passwords[login].decode()
                keys = ScramKeys.from_password(password, hash_name=hash_name)
                return AuthResult(success=True, auth_data=keys)
        return _NO
