"""Networks: a client that has many addresses is one client."""

import pytest

from smtp_protocol import client_network, unmapped


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:DB8:0:0:ffff::1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("/run/mail.socket", "/run/mail.socket"),
        ("local", "local"),
        ("", ""),
    ],
)
def test_network_of_a_client(host: str, network: str) -> None:
    assert client_network(host) == network


@pytest.mark.parametrize(
    ("bits", "network"),
    [
        (1, "::/1"),
        (48, "2001:db8::/48"),
        (56, "2001:db8:0:100::/56"),
        (128, "2001:db8:0:1ff::1/128"),
    ],
)
def test_another_prefix(bits: int, network: str) -> None:
    assert client_network("2001:db8:0:1ff::1", bits) == network
    assert client_network("192.0.2.1", bits) == "192.0.2.1"


@pytest.mark.parametrize("bits", [-1, 0, 129])
@pytest.mark.parametrize("host", ["2001:db8::1", "192.0.2.1", "local"])
def test_prefix_that_cannot_be(host: str, bits: int) -> None:
    with pytest.raises(ValueError, match="1 to 128 bits"):
        client_network(host, bits)


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201%eth0", "192.0.2.1"),
        ("::1", "::1"),
        ("::nonsense", "::nonsense"),
        ("2001:db8::1", "2001:db8::1"),
        ("192.0.2.1", "192.0.2.1"),
        ("/run/client", "/run/client"),
        ("", ""),
    ],
)
def test_ipv4_addresses_that_a_dual_stack_socket_tells_of(host: str, plain: str) -> None:
    assert unmapped(host) == plain
