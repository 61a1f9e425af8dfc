"""Setup: what the connections of one server share, looked at once."""

from typing import Any, ClassVar, cast

import pytest
from tests.server.secure import shared_server_context

from smtp_protocol import AuthResult, Data, Envelope, Handler, Noop, Rcpt, Server, Session
from smtp_server.settings import SMTPKeywords
from smtp_server.setup import Offer, ServerClass, Setup, Setups, ascii_name, machine_name, prepare


class Plain(Handler):
    """Leaves everything to the defaults."""


class Connection(ServerClass):
    """As much of a class of connections as matters here."""

    lmtp: ClassVar[bool] = False

    async def smtp_PING(self, arg: str | None) -> str:
        return "250 PONG"


class LMTPConnection(ServerClass):
    """The same for LMTP."""

    lmtp: ClassVar[bool] = True


def setup(handler: Handler | None = None, **keywords: Any) -> Setup:
    keywords = {"hostname": "mx.test", **keywords}
    return prepare(Connection, handler or Plain(), cast(SMTPKeywords, keywords))


def yes(*_: object) -> bool:
    return True


# What it holds.


def test_the_protocol_is_what_the_settings_say() -> None:
    config = setup(
        data_size_limit=77,
        enable_SMTPUTF8=True,
        extensions=("DSN",),
        max_recipients=3,
        require_starttls=True,
        tls_context=shared_server_context(),
        auth_callback=yes,
    ).config
    assert config.data_size_limit == 77
    assert config.extensions >= {"DSN", "SMTPUTF8"}
    assert (config.rcpt_max, config.require_starttls, config.starttls) == (3, True, True)
    assert (config.auth, config.auth_require_tls, config.lmtp) == (True, True, False)
    assert config.own_verbs == {"PING"}


def test_the_class_says_whether_it_speaks_lmtp() -> None:
    assert prepare(LMTPConnection, Plain(), {}).config.lmtp


def test_names() -> None:
    assert setup().hostname == "mx.test"
    assert setup().ident.startswith("Python SMTP ")
    assert prepare(LMTPConnection, Plain(), {}).ident.startswith("Python LMTP ")
    assert setup(ident="Mine").ident == "Mine"
    assert prepare(Connection, Plain(), {}).hostname == ascii_name(machine_name())


def test_verbs() -> None:
    assert setup().verbs == {"PING": "PING"}


def test_what_a_default_answers_is_answered_at_once() -> None:
    class Looks(Plain):
        async def handle_NOOP(
            self, server: Server, session: Session, envelope: Envelope, arg: str
        ) -> str:
            return "250 OK"

    assert {Noop, Rcpt} <= set(setup().at_once)
    assert Noop not in setup(Looks()).at_once
    assert not setup(command_call_limit=5).at_once, "each is counted first"


def test_what_the_class_answers_itself_is_not_answered_at_once() -> None:
    class Decides(Connection):
        async def answer_command(self, command: object) -> str:
            raise AssertionError

    assert Data in setup().at_once
    assert Data not in prepare(Decides, Plain(), {}).at_once


def test_who_is_trusted() -> None:
    made = setup(proxy_trusted=("10.0.0.0/8",), xclient_trusted=("192.0.2.1",))
    assert ("10.0.0.1", 25) in made.proxies
    assert ("10.0.0.1", 25) not in made.relays
    assert ("192.0.2.1", 25) in made.relays


def test_certificates() -> None:
    assert setup().certificates is None
    made = setup(tls_context=shared_server_context)
    assert made.certificates is not None


# Mechanisms.


class Tokens(Plain):
    """Has mechanisms of its own, one under the name of a built-in one."""

    async def auth_X__TOKEN(self, server: Server, args: list[str]) -> AuthResult:
        raise AssertionError

    async def auth_PLAIN(self, server: Server, args: list[str]) -> AuthResult:
        raise AssertionError


class Ask(Connection):
    """Has one itself."""

    async def auth_X__MINE(self, server: Server, args: list[str]) -> AuthResult:
        raise AssertionError


def test_nobody_can_decide() -> None:
    assert setup().mechanisms == {}


@pytest.mark.parametrize("who", ["authenticator", "auth_callback"])
def test_built_in_mechanisms_for_who_can_decide(who: str) -> None:
    decides: dict[str, Any] = {who: yes}
    mechanisms = setup(None, auth_mechanisms=("SCRAM-SHA-256", "PLAIN"), **decides).mechanisms
    assert list(mechanisms) == ["PLAIN", "SCRAM-SHA-256"]
    assert all(offer.make is not None for offer in mechanisms.values())


def test_methods_are_mechanisms_and_go_before_built_in_ones() -> None:
    made = prepare(Ask, Tokens(), {"auth_callback": yes})
    assert list(made.mechanisms) == ["LOGIN", "PLAIN", "X-MINE", "X-TOKEN"]
    assert made.mechanisms["PLAIN"] == Offer(method="auth_PLAIN", of_handler=True)
    assert made.mechanisms["X-MINE"] == Offer(method="auth_X__MINE")


def test_mechanisms_that_are_excluded() -> None:
    made = prepare(Ask, Tokens(), {"auth_exclude_mechanism": ("plain", "X-Mine")})
    assert list(made.mechanisms) == ["X-TOKEN"]


def test_auth_that_is_required_and_cannot_be() -> None:
    with pytest.raises(ValueError, match="auth_required needs"):
        setup(auth_required=True)
    assert setup(auth_required=True, auth_callback=yes).config.auth_required


# Mistakes.


def test_a_keyword_that_is_none() -> None:
    with pytest.raises(TypeError, match="no keyword 'time_out'; did you mean 'timeout'"):
        setup(time_out=3)
    with pytest.raises(TypeError, match=r"no keyword 'xyzzy'$"):
        setup(xyzzy=3)


# What a service has prepared.


def test_connections_of_one_service_share_it() -> None:
    setups, handler = Setups(), Plain()
    made = [setups.make(lambda: setup(handler)) for _ in range(3)]
    assert made[0] is made[1] is made[2]
    assert list(setups) == made[:1]


@pytest.mark.parametrize("other", ["class", "handler", "keywords"])
def test_connections_that_differ_do_not_share(other: str) -> None:
    setups, handler = Setups(), Plain()
    keywords: SMTPKeywords = {"timeout": 3}
    made = setups.make(lambda: prepare(Connection, handler, keywords))
    different = setups.make(
        lambda: prepare(
            LMTPConnection if other == "class" else Connection,
            Plain() if other == "handler" else handler,
            {"timeout": 4} if other == "keywords" else keywords,
        )
    )
    assert different is not made
    assert setups.make(lambda: prepare(Connection, handler, keywords)) is made


def test_another_service_looks_for_itself() -> None:
    handler = Plain()
    assert Setups().make(lambda: setup(handler)) is not Setups().make(lambda: setup(handler))


def test_outside_of_a_service_nothing_is_shared() -> None:
    setups, handler = Setups(), Plain()
    setups.make(lambda: setup(handler))
    assert setup(handler) is not setup(handler)
    assert len(list(setups)) == 1


def test_a_factory_that_fails_leaves_nothing_in_force() -> None:
    setups = Setups()
    with pytest.raises(ValueError, match="auth_required"):
        setups.make(lambda: setup(auth_required=True))
    setup()
    assert list(setups) == []


def test_a_handler_for_each_connection_does_not_gather() -> None:
    setups = Setups()
    for _ in range(100):
        setups.make(setup)
    assert len(list(setups)) < 10


# Names.


def test_a_machine_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "")
    assert machine_name() == "localhost"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mx.example.com", "mx.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("anne's mac", "anne's?mac"),
        ("a\r\nb", "a??b"),
        ("ü" * 70, "?" * 70),
    ],
)
def test_a_name_can_stand_in_smtp(name: str, wanted: str) -> None:
    assert ascii_name(name) == wanted
