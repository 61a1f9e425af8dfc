"""Answers: what a hook returned becomes replies, as many as are owed, or an error."""

from collections.abc import Sequence

from smtp_protocol import replies
from smtp_protocol.auth import AuthResult
from smtp_protocol.replies import Reply
from smtp_protocol.session import Envelope

__all__ = ["Answer", "auth_reply", "ehlo_reply", "replies_from", "reply_from", "worst_reply"]

#: What a hook answers: a reply, or its text.
Answer = str | Reply


def reply_from(result: object) -> Reply:
    """Make a reply of what a hook returned.

    Raises:
        ValueError: It is a text, but not of one reply.
        TypeError: It is something else.
    """
    if isinstance(result, Reply):
        return result
    if isinstance(result, str):
        return Reply.parse(result)
    raise TypeError(f"a hook answers with a str or a Reply, not with {type(result).__name__}")


def ehlo_reply(result: object) -> Reply:
    """Make a reply of the lines that ``handle_EHLO`` returned, wherever it put its own.

    Raises:
        ValueError: A line is none of a reply, or their codes differ.
        TypeError: It returned neither lines nor an answer.
    """
    if not isinstance(result, list):
        return reply_from(result)
    lines = [Reply.parse(f"{line[:3]} {line[4:]}") for line in result]
    if len({line.code for line in lines}) != 1:
        raise ValueError(f"the lines of a reply have one code: {result}")
    return Reply(lines[0].code, tuple(str(line)[4:] for line in lines))


def auth_reply(result: AuthResult) -> Reply:
    """Make a reply of how an authentication ended: its own message, where that says the same.

    Raises:
        ValueError: The message is no reply.
    """
    if result.message is not None:
        message = Reply.parse(result.message)
        if message.code < 300 if result.success else message.code >= 400:
            return message
    return replies.AUTH_OK if result.success else replies.AUTH_FAILED


def worst_reply(answers: Sequence[object]) -> Reply:
    """The answer that promises the least: 5yz before 4yz before a positive one.

    Raises:
        ValueError: There is none, or a text is no reply.
        TypeError: One is neither text nor reply.
    """
    return max(map(reply_from, answers), key=lambda reply: reply.code // 100)


def replies_from(result: object, owed: int, envelope: Envelope | None = None) -> list[Reply]:
    """Make the replies to a message of what ``handle_DATA`` or ``handle_STREAM`` returned.

    Args:
        result: One answer, or one for each of ``envelope.rcpt_tos``.
        owed: How many replies the client still gets: one in SMTP, and one for each accepted RCPT
            in LMTP (RFC 2033 §4.2).
        envelope: The message's, for LMTP, where an answer is about one recipient. Without it the
            worst of all is sent, and so it is to a RCPT that none of the answers is about: nobody
            said that its mail is safe.

    Raises:
        ValueError: A text is no reply.
        TypeError: The result is neither, or has not as many answers as there are recipients.
    """
    if isinstance(result, str | Reply):
        return [reply_from(result)] * owed
    if not isinstance(result, Sequence) or not result:
        raise TypeError(f"handle_DATA answers with a reply, not with {type(result).__name__}")
    answers = [reply_from(answer) for answer in result]
    if envelope is None:
        return [worst_reply(answers)] * owed
    number = len(envelope.rcpt_tos)
    if len(answers) != number:
        raise TypeError(f"handle_DATA answers once, or for each of {number} recipients")
    places = envelope.places()
    final = [worst_reply([answers[place] for place in found] or answers) for found in places]
    final += [worst_reply(answers)] * (owed - len(places))
    return final[len(final) - owed :]  # those before them were pushed
