"""Answers: what a hook returned becomes replies, as many as are owed, or an error."""

from collections.abc import Sequence

from smtp_protocol.replies import Reply

__all__ = ["Answer", "ehlo_reply", "replies_from", "reply_from", "worst_reply"]

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


def worst_reply(answers: Sequence[object]) -> Reply:
    """The answer that promises the least: 5yz before 4yz before a positive one.

    Raises:
        ValueError: There is none, or a text is no reply.
        TypeError: One is neither text nor reply.
    """
    return max(map(reply_from, answers), key=lambda reply: reply.code // 100)


def replies_from(
    result: object, owed: int, *, places: Sequence[Sequence[int]] | None = None, number: int = 0
) -> list[Reply]:
    """Make the replies to a message of what ``handle_DATA`` or ``handle_STREAM`` returned.

    Args:
        result: One answer, or one for each of ``envelope.rcpt_tos``.
        owed: How many replies the client gets: one in SMTP, and one for each accepted RCPT in
            LMTP (RFC 2033 §4.2).
        places: For each accepted RCPT, which of the answers are about it (`Envelope.places`).
            Without it, as in SMTP, and to a RCPT that has none the worst of all applies: nobody
            said that its mail is safe.
        number: How many recipients there are, when ``places`` is given.

    Raises:
        ValueError: A text is no reply.
        TypeError: The result is neither, or has not as many answers as there are recipients.
    """
    if isinstance(result, str | Reply):
        return [reply_from(result)] * owed
    if not isinstance(result, Sequence) or not result:
        raise TypeError(f"handle_DATA answers with a reply, not with {type(result).__name__}")
    if places is None:
        return [worst_reply(result)] * owed
    if len(result) != number:
        raise TypeError(f"handle_DATA answers once, or for each of {number} recipients")
    replies = [worst_reply([result[place] for place in group] or result) for group in places]
    return replies + [worst_reply(result)] * (owed - len(replies))
