"""Networks: which peers a server trusts."""

import pytest

from smtp_protocol.session import Peer
from smtp_server.networks import Networks


@pytest.mark.parametrize(
    ("names", "peer"),
    [
        (["10.0.0.0/8"], ("10.1.2.3", 25)),
        (["10.0.0.0/8"], ("::ffff:10.1.2.3", 25)),
        (["192.0.2.1"], ("192.0.2.1", 25)),
        (["::1"], ("::1", 25)),
        (["2001:db8::/32"], ("2001:db8:1::1", 25)),
        (["fe80::/10"], ("fe80::1%eth0", 25)),
        (["192.0.2.1", "10.0.0.0/8"], ("10.1.2.3", 25)),
        (["0.0.0.0/0"], ("203.0.113.1", 25)),
        (["unix"], "/run/proxy"),
        (["unix"], None),
        (["unix", "::1"], None),
    ],
)
def test_trusted(names: list[str], peer: Peer) -> None:
    assert peer in Networks(names)


@pytest.mark.parametrize(
    ("names", "peer"),
    [
        ([], ("127.0.0.1", 25)),
        ([], None),
        (["10.0.0.0/8"], ("11.1.2.3", 25)),
        (["10.0.0.0/8"], ("::a01:203", 25)),
        (["10.0.0.0/8"], None),
        (["10.0.0.0/8"], "/run/proxy"),
        (["::1"], ("127.0.0.1", 25)),
        (["::/0"], ("192.0.2.1", 25)),
        (["unix"], ("127.0.0.1", 25)),
    ],
)
def test_not_trusted(names: list[str], peer: Peer) -> None:
    assert peer not in Networks(names)


@pytest.mark.parametrize("name", ["", "localhost", "10.0.0.1/8", "10.0.0.0/33", "UNIX", "10"])
def test_no_network(name: str) -> None:
    with pytest.raises(ValueError, match=r"is no network"):
        Networks([name])
