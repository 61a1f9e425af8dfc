"""Moved: what the older library's users set or override is used here, or refused with its place."""

from pathlib import Path
from typing import Any

import pytest
from tests.server.support import Keeper

from smtp_handlers import Sink
from smtp_protocol import Envelope, Handler, Server, Session
from smtp_server import LMTP, SMTP, Controller
from smtp_server.moved import CONTROLLER, KEYWORDS, SMTP_NAMES

PAGE = Path(__file__).parents[2] / "docs" / "moving-from-aiosmtpd.rst"

# A subclass that relies on these calls them itself, and fails aloud.
HARMLESS = {"_334_PREFIX", "_auth_interact", "_cb_client_connected", "_getparams"} | {
    "_strip_command_keyword",
    "_syntax_available",
}


@pytest.mark.parametrize("base", [SMTP, LMTP])
@pytest.mark.parametrize("name", SMTP_NAMES)
def test_a_name_of_a_class_that_does_nothing_is_refused(name: str, base: type[SMTP]) -> None:
    older = type("Older", (base,), {name: None})
    with pytest.raises(TypeError, match=rf"Older\.{name} is never used; "):
        older(Sink())


def test_a_name_that_is_set_on_the_library_s_class_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``SMTP.line_length_limit = 65536`` was how one raised it for a whole program."""
    monkeypatch.setattr(SMTP, "line_length_limit", 65536, raising=False)
    with pytest.raises(TypeError, match="give the keyword line_length_limit"):
        Controller(Sink())


@pytest.mark.parametrize("name", SMTP_NAMES)
def test_a_name_that_a_factory_sets_is_refused(name: str) -> None:
    class Own(SMTP):
        pass

    class Factory(Controller):
        def factory(self) -> SMTP:
            smtp = Own(self.handler)
            setattr(smtp, name, "GNU")
            return smtp

    with pytest.raises(TypeError, match=rf"Own\.{name} is never used; "):
        Factory(Sink(), port=0).start()


@pytest.mark.parametrize("name", SMTP_NAMES)
def test_what_is_refused_is_nothing_of_ours(name: str) -> None:
    assert not hasattr(SMTP, name)


def test_a_handler_that_takes_messages_in_the_old_way_is_refused() -> None:
    class Older:
        async def handle_RCPT(
            self, server: Server, session: Session, envelope: Envelope, to: str, options: object
        ) -> str:
            return "250 OK"

        def process_message(self, *args: object) -> None:
            """Take the message, as it was before handle_DATA."""

    with pytest.raises(TypeError, match=r"Older\.process_message is never used; write handle_DATA"):
        Controller(Older())


def test_a_handler_may_call_a_method_of_its_own_process_message() -> None:
    class Own(Handler):
        async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
            return self.process_message(envelope)

        def process_message(self, envelope: Envelope) -> str:
            return "250 OK"

    Controller(Own())


def test_whatever_the_older_protocol_has_is_here_or_refused() -> None:
    older = pytest.importorskip("aiosmtpd.smtp").SMTP
    names = {
        name for name in vars(older) if not name.startswith(("__", "smtp_", "auth_", "_SMTP__"))
    }
    assert names - set(dir(SMTP(Keeper()))) - set(SMTP_NAMES) - HARMLESS == set()


@pytest.mark.parametrize("name", [*CONTROLLER, *SMTP_NAMES, "process_message"])
def test_the_page_on_moving_tells_of_every_name(name: str) -> None:
    assert name in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", KEYWORDS)
def test_a_keyword_of_theirs_is_refused_with_what_to_write(name: str) -> None:
    keywords: dict[str, Any] = {name: {}}
    with pytest.raises(TypeError, match=f"no keyword '{name}'; give what is in it"):
        Controller(Sink(), **keywords)
    assert name in PAGE.read_text(encoding="utf-8")
