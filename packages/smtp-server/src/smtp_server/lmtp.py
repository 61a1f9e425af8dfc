"""LMTP: SMTP with LHLO, and with an answer for each recipient (RFC 2033)."""

from typing import ClassVar

from smtp_server.smtp import SMTP

__all__ = ["LMTP"]


class LMTP(SMTP):
    """One connection of an LMTP server, for delivery behind a mail server such as Postfix.

    ``handle_EHLO`` answers LHLO. ``handle_DATA`` and ``handle_STREAM`` may return a sequence of
    answers, one for each of ``envelope.rcpt_tos`` in their order; a single one is for all.
    """

    __slots__ = ()

    lmtp: ClassVar[bool] = True
