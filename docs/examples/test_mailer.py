"""Tests of a program that sends mail, with the testing kit. Run by pytest.

In a project the program has a file of its own.
"""

import smtplib
from email.message import EmailMessage

import pytest

from smtp_server.testing import SMTPServer, SMTPServerFactory


def send_invoice(server: SMTPServer, recipient: str, total: str, *, tries: int = 2) -> None:
    """Send an invoice, and try again after a failure that may pass.

    Raises:
        smtplib.SMTPResponseException: It was refused for good, or once too often.
    """
    message = EmailMessage()
    message["From"] = "billing@example.com"
    message["To"] = recipient
    message["Subject"] = f"Your invoice over {total}"
    message.set_content("Thank you!\n")
    message.add_attachment(f"total,{total}\n", subtype="csv", filename="invoice.csv")
    for left in reversed(range(tries)):
        try:
            with smtplib.SMTP(server.host, server.port, timeout=10) as client:
                if server.tls == "starttls":
                    client.starttls(context=server.client_context)
                    client.login("billing", "secret")
                client.send_message(message)
            return
        except smtplib.SMTPResponseException as error:
            if error.smtp_code >= 500 or not left:
                raise


def test_the_invoice_is_attached(smtpd: SMTPServer) -> None:
    send_invoice(smtpd, "anne@example.com", "9.50")
    [message] = smtpd.messages
    [attachment] = message.iter_attachments()
    assert message["Subject"] == "Your invoice over 9.50"
    assert attachment.get_filename() == "invoice.csv"
    assert smtpd.envelopes[0].rcpt_tos == ["anne@example.com"]


def test_it_tries_again(smtpd: SMTPServer) -> None:
    smtpd.fail_next("DATA", "451 4.3.0 Try later")
    send_invoice(smtpd, "anne@example.com", "9.50")
    assert len(smtpd.messages) == 1


@pytest.mark.parametrize(("reply", "tries"), [("451 4.3.0 Try later", 2), ("554 5.6.0 No", 1)])
def test_it_gives_up(smtpd: SMTPServer, reply: str, tries: int) -> None:
    smtpd.fail_next("DATA", reply, times=tries)
    with pytest.raises(smtplib.SMTPDataError):
        send_invoice(smtpd, "anne@example.com", "9.50")
    assert smtpd.messages == []


@pytest.mark.smtp(tls="starttls", auth=["billing:secret"])
def test_it_logs_in_inside_tls(smtpd: SMTPServer) -> None:
    send_invoice(smtpd, "anne@example.com", "9.50")
    [session] = smtpd.sessions
    assert session.tls is not None
    assert session.authenticated


def test_one_server_of_two_is_used(smtpd_factory: SMTPServerFactory) -> None:
    ours, theirs = smtpd_factory(), smtpd_factory()
    send_invoice(ours, "anne@example.com", "9.50")
    assert (len(ours.messages), len(theirs.messages)) == (1, 0)
