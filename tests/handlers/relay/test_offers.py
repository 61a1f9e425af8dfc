"""Offers: what EHLO says is taken where it is well-formed, and nowhere else."""

import pytest

from smtp_handlers.relay.offers import Offers


@pytest.mark.parametrize(
    ("lines", "keywords"),
    [
        (["SIZE 1000", "8BITMIME", "dsn"], {"SIZE": "1000", "8BITMIME": "", "DSN": ""}),
        (["AUTH PLAIN LOGIN", "X-OWN  a b "], {"AUTH": "PLAIN LOGIN", "X-OWN": "a b"}),
        # What folds into a keyword is none.
        (["\u017fize 1000", "8B\u0131TMIME", "D\u017fN", "STARTTLS\u00a0"], {}),
        (["", " SIZE", "-", "é", "SIZE=1000", "\x07"], {}),
        (["DSN", "DSN x"], {"DSN": "x"}),
    ],
)
def test_keywords(lines: list[str], keywords: dict[str, str]) -> None:
    assert Offers.parse(lines).keywords == keywords


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("SIZE 1000", 1000),
        ("size 99999999999999999999", 99999999999999999999),
        ("SIZE", None),
        ("SIZE 0", None),
        ("SIZE 00", None),
        ("SIZE 999999999999999999999", None),
        ("SIZE -1", None),
        ("SIZE +1", None),
        ("SIZE 1_000", None),
        ("SIZE 1000 2000", None),
        ("SIZE \u0663", None),
        ("SIZE \uff11", None),
        ("SIZE ²", None),
        ("SIZE " + "9" * 4000, None),
    ],
)
def test_size(value: str, size: int | None) -> None:
    assert Offers.parse([value]).size == size


@pytest.mark.parametrize(
    ("value", "mails", "recipients"),
    [
        ("MAILMAX=10 RCPTMAX=50", 10, 50),
        ("rcptmax=999999", None, 999999),
        ("RCPTDOMAINMAX=1 X=1", None, None),
        ("MAILMAX=0 RCPTMAX=01", None, None),
        ("MAILMAX=1000000 RCPTMAX=", None, None),
        ("MAILMAX=\u0663 RCPTMAX=\uff11", None, None),
        ("MA\u0131LMAX=3 MAILMAX =4 MAILMAX=5=6", None, None),
        ("MAILMAX=5 MAILMAX=6", 6, None),
    ],
)
def test_limits(value: str, mails: int | None, recipients: int | None) -> None:
    offers = Offers.parse([f"LIMITS {value}"])
    assert (offers.most_mails, offers.most_recipients) == (mails, recipients)


def test_mechanisms() -> None:
    assert Offers.parse(["AUTH plain PLA\u0131N LOGIN"]).mechanisms == ["PLAIN", "LOGIN"]
    assert Offers().mechanisms == []
