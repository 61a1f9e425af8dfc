"""Reply reader: the replies of a server, wherever the segments were cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_protocol import EnhancedStatus, Reply, ReplyReader


def read(*segments: bytes) -> list[Reply]:
    reader = ReplyReader()
    found = []
    for segment in segments:
        reader.receive_data(segment)
        while (reply := reader.next_reply()) is not None:
            found.append(reply)
    return found


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (b"", []),
        (b"250 OK\r", []),
        (b"250 OK\r\n", [Reply(250, ("OK",))]),
        (b"250 OK\n", [Reply(250, ("OK",))]),
        (b"250\r\n", [Reply(250, ("",))]),
        (b"250 \r\n", [Reply(250, ("",))]),
        (b"250-one\r\n", []),
        (b"250-one\r\n250 two\r\n", [Reply(250, ("one", "two"))]),
        (b"250-one\r\n250\r\n", [Reply(250, ("one", ""))]),
        (b"220 a\r\n250 b\r\n", [Reply(220, ("a",)), Reply(250, ("b",))]),
        (b"550 5.7.1 no\r\n", [Reply(550, ("no",), EnhancedStatus(5, 7, 1))]),
        (b"250-2.0.0 a\r\n250 2.0.0 b\r\n", [Reply(250, ("a", "b"), EnhancedStatus(2, 0, 0))]),
        (b"250 \xff\r\n", [Reply(250, ("\\xff",))]),
        ("250 ü\r\n".encode(), [Reply(250, ("ü",))]),
    ],
)
def test_replies(wire: bytes, expected: list[Reply]) -> None:
    assert read(wire) == expected
    assert read(*(bytes([octet]) for octet in wire)) == expected


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"hello\r\n",
        b"25 OK\r\n",
        b"150 OK\r\n",
        b"600 OK\r\n",
        b"250_OK\r\n",
        b"250-one\r\n251 two\r\n",
        b"250-one\r\ntwo\r\n",
        b"250 a\rb\r\n",
        b"250 a\0b\r\n",
        b"250-one\r\n" * 1025,
        b"250 " + b"x" * 5000 + b"\r\n",
        b"250 " + b"x" * 5000,
    ],
)
def test_no_reply(wire: bytes) -> None:
    for segments in ([wire], [bytes([octet]) for octet in wire]):
        with pytest.raises(ValueError, match=r"reply|line"):
            read(*segments)


def test_a_long_reply() -> None:
    (reply,) = read(b"250-one\r\n" * 1023 + b"250 last\r\n")
    assert len(reply.lines) == 1024


TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40)
REPLIES = st.builds(
    Reply, st.integers(200, 599), st.lists(TEXTS, min_size=1).map(tuple)
) | st.builds(
    lambda code, subject, detail, lines: Reply(
        code, tuple(lines), EnhancedStatus(code // 100, subject, detail), always_enhanced=True
    ),
    st.integers(200, 299) | st.integers(400, 599),
    st.integers(0, 999),
    st.integers(0, 999),
    st.lists(TEXTS, min_size=1),
)


def escaped(reply: Reply) -> Reply:
    """What is left of a reply on the wire, where other than ASCII is escaped."""
    return Reply.parse(str(reply).encode("ascii", "backslashreplace").decode())


@given(st.lists(REPLIES), st.integers(1, 30))
def test_reads_what_was_written(sent: list[Reply], size: int) -> None:
    wire = b"".join(reply.encode() for reply in sent)
    segments = [wire[start : start + size] for start in range(0, len(wire), size)]
    assert read(*segments) == [escaped(reply) for reply in sent]


@given(REPLIES)
def test_text_form(reply: Reply) -> None:
    again = Reply.parse(str(reply))
    assert str(again) == str(reply)
    assert Reply.parse(str(again)) == again
    if reply.enhanced:
        assert again == reply


@given(st.lists(st.sampled_from([b"250", b"-", b" ", b"x", b"\r\n", b"\n", b"\xff", b"\0"])))
def test_any_octets_are_replies_or_an_error(pieces: list[bytes]) -> None:
    outcomes = []
    for segments in (pieces, [b"".join(pieces)]):
        try:
            outcomes.append([str(reply) for reply in read(*segments)])
        except ValueError as error:
            outcomes.append([str(error)])
    assert outcomes[0] == outcomes[1]
