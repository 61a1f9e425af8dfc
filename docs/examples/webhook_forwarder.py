"""Post each mail as JSON to a URL, and answer the client as the web server does.

Run it as ``python webhook_forwarder.py URL``. The client gets 250 only when the web server has
answered 2xx. A mail that the web server refuses with 400, 413 or 422 is refused for good. After any
other answer, or none, the client is told to try again later, and no mail is lost. Ctrl-C stops it.
"""

import asyncio
import contextlib
import json
import sys
import urllib.error
import urllib.request
from email.message import EmailMessage

from smtp_handlers import AsyncMessage
from smtp_protocol import Answer, Envelope
from smtp_server import serve

# What a second try would not change.
REFUSED = {400, 413, 422}

# Seconds. Clients wait ten minutes for the answer to a message (RFC 5321 section 4.5.3.2.6).
TIMEOUT = 30.0


def text_of(message: EmailMessage) -> str:
    """The text for people, or as much of it as can be read."""
    part = message.get_body(preferencelist=("plain", "html"))
    return part.get_content() if part is not None else ""  # a str, for both are text


def post(url: str, value: object) -> int:
    """Post a value as JSON; the status is returned."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(value).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


class Forwarder(AsyncMessage):
    """Posts each mail to a URL.

    Args:
        url: Of the web server.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    async def handle_message(self, message: EmailMessage, envelope: Envelope) -> Answer:
        """Post one mail. While it waits, the mail of other clients goes on."""
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": str(message["Subject"] or ""),
            "text": text_of(message),
        }
        try:
            status = await asyncio.to_thread(post, self.url, mail)
        except OSError as error:
            print(f"failed: {error}", file=sys.stderr)
            return "451 4.4.1 The web server cannot be reached, try again later"
        if status in REFUSED:
            return "554 5.6.0 The web server refuses the message"
        return "250 2.0.0 Taken" if status // 100 == 2 else "451 4.3.0 Try again later"


async def main(url: str, port: int = 0) -> None:
    """Take mail until somebody presses Ctrl-C."""
    async with serve(Forwarder(url), "localhost", port) as service:
        print(f"Listening on port {service.port}", flush=True)
        await service.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1]))
