"""Any octets, in any split, with any settings and any replies: the engine keeps its promises."""

from collections.abc import Iterator
from itertools import cycle, repeat

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.session import check, config_from

from smtp_protocol import AuthResponse, Bdat, BodyEnd, Refused, StartTls, State

LINES = [
    *(b"EHLO c", b"LHLO c", b"HELO c", b"MAIL FROM:<a@b>", b"RCPT TO:<d@e>", b"RCPT TO:<f@g>"),
    *(b"DATA", b"text", b"..", b".", b"BDAT 4", b"BDAT 0 LAST", b"BDAT 2 LAST", b"BDAT x"),
    *(b"RSET", b"NOOP", b"QUIT", b"HELP", b"VRFY a", b"EXPN a", b"PING"),
    *(b"STARTTLS", b"AUTH PLAIN", b"AUTH PLAIN AHQAdA==", b"*", b"dGlt", b"="),
    *(b"XCLIENT NAME=a", b"XFORWARD NAME=a", b"GET / HTTP/1.1", b"MAIL FROM:<a@b> BODY=BINARYMIME"),
    *(b"MAIL FROM:<a@b> SIZE=9", b"RCPT TO:<d@e> NOTIFY=NEVER", b"MAIL FROM:<> SMTPUTF8 RET=HDRS"),
]
TRANSACTION = [b"MAIL FROM:<a@b>", b"RCPT TO:<d@e>", b"RCPT TO:<f@g>"]
USUAL = st.sampled_from(
    [
        *([line] for line in LINES),
        [b"EHLO c", b"LHLO c"],
        [b"EHLO c", b"LHLO c", *TRANSACTION],
        [b"EHLO c", b"LHLO c", *TRANSACTION, b"DATA"],
        [b"EHLO c", b"LHLO c", *TRANSACTION, b"BDAT 8"],
        [b"EHLO c", b"LHLO c", b"AUTH LOGIN"],
        [b"EHLO c", b"LHLO c", b"STARTTLS"],
        TRANSACTION,
    ]
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))
OCTETS = st.sampled_from(
    [b"\r", b"\n", b".", b"\r\n.\r\n", b" ", b"\0", b"\xff", b"\x16", b"x" * 5000]
)
PHASES = st.lists(st.lists(USUAL | OCTETS | st.binary(max_size=6)).map(b"".join), max_size=3)
SIZES = st.lists(st.integers(0, 40), max_size=12).filter(lambda sizes: not sizes or any(sizes))


@settings(max_examples=400)
@given(PHASES, st.integers(0, 10**6), st.integers(0, 10**6), SIZES, st.booleans(), st.booleans())
def test_the_engine_keeps_its_promises(
    phases: list[bytes], number: int, seed: int, sizes: list[int], tls: bool, trusted: bool
) -> None:
    def cuts() -> Iterator[int]:
        return cycle(sizes) if sizes else repeat(1)

    check(phases, config_from(number), seed, cuts, tls=tls, trusted=trusted)


def test_deep_states_are_reached() -> None:
    # The property would say nothing if the sessions that it makes went nowhere.
    lines = [b"EHLO c", b"LHLO c", *TRANSACTION, b"BDAT 4\r\ntext", *TRANSACTION, b"DATA", b"x"]
    lines += [b".", b"AUTH X", b"dGlt", b"STARTTLS"]
    text = b"".join(line + b"\r\n" for line in lines)
    reached: set[object] = set()
    for number in range(300):
        session = check([text * 2] * 2, config_from(number), number, lambda: repeat(7))
        reached |= {*map(type, session.events), *session.states}
    assert reached >= {*State} - {State.CONNECTED}
    assert reached >= {Bdat, BodyEnd, AuthResponse, Refused, StartTls}
