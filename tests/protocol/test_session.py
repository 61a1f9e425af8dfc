"""Session and envelope: what is in them, and whose recipients are whose."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_protocol import Envelope, MailOptions, Peer, RcptOptions, Recipient, Session, TLSInfo


def test_session() -> None:
    session = Session(("192.0.2.1", 25))
    assert session.peer == ("192.0.2.1", 25)
    assert (session.host_name, session.extended_smtp) == (None, False)
    assert (session.tls, session.ssl, session.proxy_data, session.loop) == (None,) * 4
    assert (session.authenticated, session.auth_data) == (False, None)


def test_identifiers_are_short_and_unique() -> None:
    identifiers = {Session().id for _ in range(100)}
    assert len(identifiers) == 100
    assert all(len(identifier) == 6 for identifier in identifiers)


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        (("192.0.2.1", 25), "192.0.2.1"),
        (("2001:db8::1", 25), "2001:db8::1"),
        ("/run/client", "/run/client"),
        ("", "local"),
        (None, "local"),
    ],
)
def test_peer_host(peer: Peer, host: str) -> None:
    assert Session(peer).peer_host == host


def test_envelope() -> None:
    envelope = Envelope()
    assert (envelope.mail_from, envelope.smtp_utf8, envelope.text) == (None, False, None)
    assert type(envelope.mail_options) is MailOptions
    assert (envelope.rcpt_tos, envelope.rcpt_options, envelope.recipients) == ([], [], [])
    assert envelope.content.decode() == ""
    envelope.content = b"x"
    assert envelope.original_content == b"x"


def test_envelopes_share_nothing() -> None:
    first, second = Envelope(), Envelope()
    first.rcpt_tos.append("a@b")
    first.rcpt_options.append("X")
    first.mail_options.append("X")
    first.accept("a@b", RcptOptions())
    assert first.recipients == [Recipient("a@b", RcptOptions())]
    assert (second.rcpt_tos, second.rcpt_options) == ([], [])
    assert (second.mail_options, second.recipients) == ([], [])


def test_attributes_of_the_handler() -> None:
    for thing in (Session(), Envelope()):
        setattr(thing, "my_own", 1)  # noqa: B010
        assert vars(thing)["my_own"] == 1


@dataclass
class Greylist:
    """State of one handler."""

    seen: list[str] = field(default_factory=list)


class Score:
    """State of another."""

    points = 0


@pytest.mark.parametrize("make", [Session, Envelope])
def test_state_of_several_handlers(make: type[Session] | type[Envelope]) -> None:
    first, second = make(), make()
    assert "_states" not in vars(first), "it costs nothing who has none"
    first.state(Greylist).seen.append("x")
    first.state(Score).points += 1
    assert first.state(Greylist) is first.state(Greylist)
    assert (first.state(Greylist).seen, first.state(Score).points) == (["x"], 1)
    assert (second.state(Greylist).seen, second.state(Score).points) == ([], 0)


def test_a_session_shows_itself_and_no_secret() -> None:
    session = Session(("192.0.2.1", 25))
    assert repr(session) == f"<Session {session.id} peer=('192.0.2.1', 25) host_name=None>"
    session.host_name = "client.example\r\n"
    session.tls = TLSInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256", b"DER")
    session.authenticated = True
    session.auth_data = "a secret"
    session.state(Greylist).seen.append("a secret")
    shown = repr(session)
    assert shown.endswith(r"host_name='client.example\r\n' tls='TLSv1.3' authenticated>")
    assert "secret" not in shown


def envelope_of(content: bytes = b"Hi\r\n", *recipients: str, sender: str = "a@b") -> Envelope:
    """An envelope as a transaction leaves it."""
    envelope = Envelope()
    envelope.mail_from = sender
    for recipient in recipients or ("c@d",):
        envelope.rcpt_tos.append(recipient)
        envelope.accept(recipient, RcptOptions())
    envelope.content = content
    return envelope


def test_an_envelope_shows_itself() -> None:
    assert repr(Envelope()) == "<Envelope from None to []: 0 octets>"
    envelope = envelope_of(b"a secret")
    assert repr(envelope) == "<Envelope from 'a@b' to [Recipient('c@d')]: 8 octets>"
    options = RcptOptions(["NOTIFY=NEVER"])
    options.notify = frozenset({"NEVER"})
    envelope.rcpt_tos.append("e@f")
    envelope.accept("e@f", options)
    envelope.mail_options.append("SIZE=3")
    envelope.mail_options.size = 3
    assert repr(envelope) == (
        "<Envelope from 'a@b' MailOptions(['SIZE=3'], size=3) to [Recipient('c@d'), "
        "Recipient('e@f', RcptOptions(['NOTIFY=NEVER'], notify=frozenset({'NEVER'})))]: 8 octets>"
    )
    many = envelope_of(b"", *(f"r{number}@d" for number in range(1000)))
    assert repr(many).endswith("Recipient('r9@d'), and 990 more]: 0 octets>")


def test_envelopes_compare_by_what_is_in_them() -> None:
    assert envelope_of() == envelope_of()
    other_options = envelope_of()
    other_options.mail_options.append("SIZE=3")
    other_recipient_options = Envelope()
    other_recipient_options.mail_from = "a@b"
    other_recipient_options.content = b"Hi\r\n"
    other_recipient_options.rcpt_tos.append("c@d")
    other_recipient_options.accept("c@d", RcptOptions(["NOTIFY=NEVER"]))
    others: list[object] = [
        envelope_of(b"Ho\r\n"),
        envelope_of(b"Hi\r\n", "x@y"),
        envelope_of(sender=""),
        other_options,
        other_recipient_options,
        "an envelope",
    ]
    assert all(envelope_of() != other for other in others)


def test_equal_envelopes_are_two_keys() -> None:
    assert len({envelope_of(), envelope_of()}) == 2


def test_certificates_are_not_shown() -> None:
    info = TLSInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256", b"DER", "mx.example")
    assert "DER" not in repr(info)
    assert (info.peer_certificate, info.sni) == (b"DER", "mx.example")


# Recipients.


def said(*names: str) -> RcptOptions:
    return RcptOptions(names)


def shown(envelope: Envelope) -> list[tuple[str, list[str]]]:
    return [(recipient.address, list(recipient.options)) for recipient in envelope.recipients]


# What a hook makes of the list, given what RCPT said.
HOOKS: dict[str, Callable[[list[str], str], list[str]]] = {
    "appends": lambda now, said: [*now, said],
    "prepends": lambda now, said: [said, *now],
    "sorts": lambda now, said: sorted([*now, said]),
    "no doubles": lambda now, said: sorted({*now, said}),
    "another name": lambda now, said: [*now, said.upper()],
    "an alias": lambda now, said: [*now, "x", "y"],
    "twice": lambda now, said: [*now, said, said],
    "nothing": lambda now, said: now,
    "only the last": lambda now, said: [said],
    "instead of the first": lambda now, said: [said, *now[1:]],
    "the other way round": lambda now, said: [said, *reversed(now)],
    "forgets": lambda now, said: [],
}


def rcpt(envelope: Envelope, hook: str, address: str, *names: str, anew: bool = False) -> None:
    """Have a RCPT accepted whose hook does that, in the list that is there or in a new one."""
    made = HOOKS[hook](envelope.rcpt_tos.copy(), address)
    if anew:
        envelope.rcpt_tos = made
    else:
        envelope.rcpt_tos[:] = made
    envelope.accept(address, said(*names))


either = pytest.mark.parametrize("anew", [False, True], ids=["in place", "anew"])


@either
@pytest.mark.parametrize(
    ("commands", "recipients", "places"),
    [
        (["appends a"], "a:1", [[0]]),
        (["appends a", "appends b"], "a:1 b:2", [[0], [1]]),
        (["appends a", "prepends b"], "b:2 a:1", [[1], [0]]),
        (["sorts b", "sorts c", "sorts a"], "a:3 b:1 c:2", [[1], [2], [0]]),
        # The same address twice: each has its own parameters, in their order.
        (["appends a", "appends a"], "a:1 a:2", [[0], [1]]),
        (["sorts b", "sorts a", "sorts b", "sorts a"], "a:2 a:4 b:1 b:3", [[2], [0], [3], [1]]),
        (["no doubles b", "no doubles a", "no doubles b"], "a:2 b:1", [[1], [0], [1]]),
        # One RCPT, other addresses or several.
        (["another name a"], "A:1", [[0]]),
        (["an alias all", "appends b"], "x:1 y:1 b:2", [[0, 1], [2]]),
        (["an alias all", "appends x"], "x:1 y:1 x:2", [[0, 1], [2]]),
        (["twice a", "appends a"], "a:1 a:1 a:2", [[0, 1], [2]]),
        # One that brings nothing has the place of its address, or none.
        (["appends a", "nothing a"], "a:1", [[0], [0]]),
        (["nothing a", "appends b"], "b:2", [[], [0]]),
        # Those that are taken out are nobody's, even when they come again.
        (["appends a", "only the last b"], "b:2", [[], [0]]),
        (["appends a", "only the last b", "appends a"], "b:2 a:3", [[1], [0], [1]]),
        (["appends a", "instead of the first b", "appends c"], "b:2 c:3", [[], [0], [1]]),
        (["appends a", "appends b", "the other way round c"], "c:3 b:2 a:1", [[2], [1], [0]]),
        (["appends a", "forgets b"], "", [[], []]),
        (["appends a", "forgets b", "appends a"], "a:3", [[0], [], [0]]),
    ],
)
def test_recipients_are_what_the_hooks_have_made_of_the_list(
    commands: list[str], recipients: str, places: list[list[int]], anew: bool
) -> None:
    envelope = Envelope()
    for number, command in enumerate(commands, 1):
        hook, _, address = command.rpartition(" ")
        rcpt(envelope, hook, address, str(number), anew=anew)
    assert (
        " ".join(f"{address}:{''.join(names)}" for address, names in shown(envelope)) == recipients
    )
    assert envelope.places() == places


def test_the_list_can_still_change_when_the_message_comes() -> None:
    envelope = Envelope()
    for number, address in enumerate("abca"):
        rcpt(envelope, "appends", address, str(number))
    envelope.rcpt_tos = ["c", "a", "x", "a", "a"]
    assert shown(envelope) == [("c", ["2"]), ("a", ["0"]), ("x", []), ("a", ["3"]), ("a", ["3"])]
    assert envelope.places() == [[1], [], [0], [3]]
    envelope.rcpt_tos = []
    assert (envelope.recipients, envelope.places()) == ([], [[], [], [], []])


def test_recipients_that_are_written_down_at_the_end() -> None:
    envelope = Envelope()
    rcpt(envelope, "nothing", "a", "1")
    rcpt(envelope, "nothing", "b", "2")
    envelope.rcpt_tos = ["b", "a"]
    assert shown(envelope) == [("b", ["2"]), ("a", ["1"])]
    assert envelope.places() == [[1], [0]]


def test_recipients_without_a_server() -> None:
    envelope = Envelope()
    envelope.rcpt_tos = ["a@x", "b@x"]
    assert shown(envelope) == [("a@x", []), ("b@x", [])]
    assert envelope.places() == []


def test_parameters_that_a_hook_forgot_to_write_down() -> None:
    envelope = Envelope()
    rcpt(envelope, "appends", "a", "ONE")
    envelope.rcpt_options.append("TWO")
    rcpt(envelope, "appends", "b", "TWO")
    rcpt(envelope, "appends", "c")
    envelope.rcpt_options.append("THREE")
    envelope.refuse()
    assert envelope.rcpt_options == ["ONE", "TWO"]


@pytest.mark.parametrize(
    "wrong",
    [None, 5, "a@x", ("a@x",), {"a@x"}, [b"a@x"], [["a@x"]], [None]],
    ids=str,
)
def test_what_is_no_list_of_recipients_is_an_error_at_once(wrong: Any) -> None:
    envelope = Envelope()
    mine = envelope.rcpt_tos = ["a@x"]
    with pytest.raises(TypeError, match="rcpt_tos is a list of addresses, not"):
        envelope.rcpt_tos = wrong
    assert envelope.rcpt_tos is mine


# A hook's doings, as in a program: what it does and with which address or place.
ADDRESSES = st.sampled_from(["a", "b", "c"])
DOINGS = st.lists(
    st.tuples(
        st.sampled_from(
            ["append", "insert", "assign", "sort", "reverse", "remove", "replace", "clear"]
        ),
        ADDRESSES,
        st.integers(0, 3),
    ),
    max_size=4,
)


def do(envelope: Envelope, doing: str, address: str, place: int) -> None:
    recipients = envelope.rcpt_tos
    match doing:
        case "append":
            recipients.append(address)
        case "insert":
            recipients.insert(place, address)
        case "assign":
            envelope.rcpt_tos = [*recipients[place:], address]
        case "sort":
            recipients.sort()
        case "reverse":
            recipients.reverse()
        case "remove" if address in recipients:
            recipients.remove(address)
        case "replace" if place < len(recipients):
            recipients[place] = address
        case "clear":
            recipients.clear()


@given(st.lists(st.tuples(ADDRESSES, DOINGS, st.booleans()), max_size=6), DOINGS)
def test_whatever_hooks_do(
    commands: list[tuple[str, list[tuple[str, str, int]], bool]],
    at_the_end: list[tuple[str, str, int]],
) -> None:
    envelope = Envelope()
    accepted: list[tuple[str, RcptOptions]] = []
    for number, (address, doings, good) in enumerate(commands):
        before = envelope.rcpt_tos.copy(), shown(envelope), envelope.places()
        for doing in doings:
            do(envelope, *doing)
        options = said(str(number))
        if good:
            now = envelope.rcpt_tos.copy()
            envelope.accept(address, options)
            accepted.append((address, options))
            assert envelope.rcpt_tos == now
        else:
            envelope.refuse()
            assert (envelope.rcpt_tos, shown(envelope), envelope.places()) == before
    for doing in at_the_end:
        do(envelope, *doing)
    recipients, places = envelope.recipients, envelope.places()
    assert [recipient.address for recipient in recipients] == envelope.rcpt_tos
    assert len(places) == len(accepted)
    for (address, options), found in zip(accepted, places, strict=True):
        for place in found:
            recipient = recipients[place]
            # What a RCPT brought has its parameters; else it is a place of the same address.
            assert recipient.options is options or recipient.address == address
    # Nobody's parameters are given to somebody whom their RCPT did not bring.
    known = [options for _, options in accepted]
    for place, recipient in enumerate(recipients):
        if recipient.options:
            number = next(n for n, options in enumerate(known) if options is recipient.options)
            assert place in places[number] or accepted[number][0] == recipient.address


@given(st.lists(st.tuples(ADDRESSES, st.booleans()), max_size=8))
def test_each_of_several_with_the_same_address_has_its_own(
    commands: list[tuple[str, bool]],
) -> None:
    envelope = Envelope()
    for number, (address, sort) in enumerate(commands):
        rcpt(envelope, "sorts" if sort else "appends", address, str(number))
    for number, (address, _) in enumerate(commands):
        [place] = envelope.places()[number]
        assert shown(envelope)[place] == (address, [str(number)])


# Text.


@pytest.mark.parametrize(
    ("encoding", "content", "text"),
    [
        (None, b"a\r\n", None),
        ("ascii", b"", ""),
        ("ascii", b"a\r\n", "a\r\n"),
        ("ascii", b"\xff", None),
        ("utf-8", "é\r\n".encode(), "é\r\n"),
        ("utf-8", b"\xff\r\n", "\udcff\r\n"),
    ],
)
def test_text(encoding: Literal["ascii", "utf-8"] | None, content: bytes, text: str | None) -> None:
    envelope = Envelope()
    envelope.encoding = encoding
    envelope.content = content
    assert envelope.text == text
    envelope.content = b"other"  # as of a front that has put something in front
    assert envelope.text == (None if encoding is None else "other")


# What the client calls itself; who knows what is in test_bookkeeping.py.


def test_names() -> None:
    session = Session()
    session.introduce("one")
    assert session.host_name == "one"
    session.host_name = "mine"
    session.introduce("two")
    assert session.host_name == "mine"
    session.rename("three")
    assert session.host_name == "three"
    session.introduce("four")
    assert session.host_name == "four"
