"""Extensions: their names, and the lines of the reply to EHLO."""

import pytest

from smtp_protocol import ProtocolConfig
from smtp_protocol.extensions import ALL_EXTENSIONS, check_extensions, ehlo_keywords


def test_the_usual_lines() -> None:
    assert ehlo_keywords(ProtocolConfig()) == ["SIZE 33554432", "8BITMIME", "HELP"]


@pytest.mark.parametrize("limit", [None, 0])
def test_no_limit_is_size_0(limit: int | None) -> None:
    # RFC 1870 §4: 0 says that there is no fixed maximum.
    assert ehlo_keywords(ProtocolConfig(data_size_limit=limit))[0] == "SIZE 0"


def test_extensions_are_in_order() -> None:
    config = ProtocolConfig(extensions=frozenset({*ALL_EXTENSIONS, "SMTPUTF8"}), rcpt_max=1000)
    lines = ehlo_keywords(config, tls=True)
    assert lines[:3] == ["SIZE 33554432", "8BITMIME", "SMTPUTF8"]
    assert [line.split()[0] for line in lines[3:-1]] == list(ALL_EXTENSIONS)
    assert lines[-1] == "HELP"


def test_names() -> None:
    check_extensions(())
    check_extensions(ALL_EXTENSIONS)
    with pytest.raises(ValueError, match=r"there is no extension 'pipelining'.*'PIPELINING'"):
        check_extensions(["pipelining"])
    with pytest.raises(ValueError, match=r"write \('PIPELINING',\)"):
        check_extensions("PIPELINING")
