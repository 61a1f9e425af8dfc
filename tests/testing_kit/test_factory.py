"""SMTPServerFactory: as many servers as a test asks for, all of them stopped in the end."""

from typing import Any

import pytest
from tests.testing_kit.test_plugin import run
from tests.testing_kit.test_server import connect, send

from smtp_server.testing import SMTPServerFactory


def test_several_servers_of_several_kinds() -> None:
    with SMTPServerFactory(data_size_limit=1000) as make:
        servers = [make(), make(tls="starttls"), make(tls="implicit", data_size_limit=2000)]
        assert len({server.port for server in servers}) == 3
        for server, size in zip(servers, ["1000", "1000", "2000"], strict=True):
            with connect(server) as client:
                send(client)
                assert client.esmtp_features["size"] == size
    assert [len(server.messages) for server in servers] == [1, 1, 1]
    for server in servers:
        with pytest.raises(ConnectionRefusedError):
            connect(server)


def test_a_server_that_cannot_be_started_leaves_the_others() -> None:
    with SMTPServerFactory() as make:
        server = make()
        with pytest.raises(OSError, match="in use"):
            make(port=server.port)
        wrong: dict[str, Any] = {"tls": "tls"}
        with pytest.raises(ValueError, match="tls is"):
            make(**wrong)
        with connect(server) as client:
            send(client)
    with pytest.raises(ConnectionRefusedError):
        connect(server)


def test_a_server_may_be_stopped_before() -> None:
    with SMTPServerFactory() as make:
        server = make()
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            connect(server)


def test_fixture_begins_with_what_settings_and_marker_say(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nsmtp_tls = starttls")
    tests = """
@pytest.mark.smtp(ident="marker")
def test_several(smtpd_factory, smtpd):
    one, other = smtpd_factory(), smtpd_factory(tls=None, ident="call")
    assert len({smtpd.port, one.port, other.port}) == 3
    assert [smtpd.tls, one.tls, other.tls] == ["starttls", "starttls", None]
    send(other)
    assert (len(one.messages), len(other.messages)) == (0, 1)
    client = smtplib.SMTP()
    client.timeout = 30
    assert client.connect(other.host, other.port) == (220, b"localhost call")
    client.close()
"""
    run(pytester, tests).assert_outcomes(passed=1)
