"""Testing kit: servers for the tests of programs that send mail, with pytest and without."""

from smtp_server.faults import Step
from smtp_server.testing.factory import SMTPServerFactory, SMTPServerKeywords
from smtp_server.testing.recorder import Recorder
from smtp_server.testing.server import SMTPServer, TLSMode

__all__ = ["Recorder", "SMTPServer", "SMTPServerFactory", "SMTPServerKeywords", "Step", "TLSMode"]
