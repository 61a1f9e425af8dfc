"""Grammar: the rules of the RFCs as regular expressions, each under the rule that it states.

All of them run in time linear in their input. At each place where a pattern has a choice, the next
character decides it: the alternatives begin with different characters, and what is repeated begins
with others than what may follow. So the wrong choice fails at once, and going back is cheap. (No
possessive quantifiers or atomic groups: Python before 3.11.5 gets them wrong.)

Keywords, verbs and digits are ASCII (RFC 5321 §2.4): patterns ignore case by ``(?ai:…)`` alone, say
``[0-9]`` for what is then given to `int`, and `upper` and `lower` are for text that may hold other
characters.
"""

import re

# RFC 6531 §3.3 adds UTF8-non-ascii to atext, qtextSMTP, sub-domain and esmtp-value. Their sets are
# written as the ASCII that is not in them, which compiles forty times as fast. Which characters
# beyond ASCII can be in an address at all is looked at in addresses.py.

# RFC 5322 §3.2.3: atext is printable and none of the specials ( ) < > [ ] : ; @ \ , . "
_ATEXT = r'[^\x00-\x20"(),.:;<>@\[\\\]\x7f]'

# RFC 5321 §4.1.2: Dot-string = Atom *("."  Atom);  Atom = 1*atext
_DOT_STRING = rf"{_ATEXT}+(?:\.{_ATEXT}+)*"

# RFC 5321 §4.1.2: Quoted-string = DQUOTE *QcontentSMTP DQUOTE
#   QcontentSMTP = qtextSMTP / quoted-pairSMTP
#   quoted-pairSMTP = %d92 %d32-126;  qtextSMTP = %d32-33 / %d35-91 / %d93-126
_QTEXT = r'[^\x00-\x1f"\\\x7f]'
_QUOTED_STRING = rf'"{_QTEXT}*(?:\\[ -~]{_QTEXT}*)*"'

# RFC 5321 §4.1.2: sub-domain = Let-dig [Ldh-str];  Ldh-str = *( ALPHA / DIGIT / "-" ) Let-dig
_LET_DIG = r"[^\x00-/:-@\[-`{-\x7f]"
_SUB_DOMAIN = rf"{_LET_DIG}+(?:-+{_LET_DIG}+)*"

# RFC 5321 §4.1.2: Domain = sub-domain *("." sub-domain); how long it may be is seen to in
# addresses.py
_DOMAIN = rf"{_SUB_DOMAIN}(?:\.{_SUB_DOMAIN})*"

# RFC 5321 §4.1.3: address-literal = "[" ( IPv4 / IPv6 / General ) "]"; the inside is judged in
# addresses.py
_LITERAL = r"\[[0-9A-Za-z:.]*\]"

# RFC 5321 §4.1.2: A-d-l = At-domain *( "," At-domain );  At-domain = "@" Domain
# ("MUST be accepted, SHOULD be ignored")
_ROUTE = rf"(?P<route>@{_DOMAIN}(?:,@{_DOMAIN})*):"

# RFC 5321 §4.1.2: Path = "<" [ A-d-l ":" ] Mailbox ">"
#   Mailbox = Local-part "@" ( Domain / address-literal );  Local-part = Dot-string / Quoted-string
STRICT_PATH = re.compile(
    rf"<(?:{_ROUTE})?(?P<mailbox>(?:{_DOT_STRING}|{_QUOTED_STRING})@(?:{_DOMAIN}|{_LITERAL}))>"
)

# The lenient form: dots anywhere in the local part and words of both kinds between them (the
# obs-local-part of RFC 5322 §4.4), "_" in host names, spaces around the brackets, or no brackets.
_WORD = rf"(?:{_ATEXT}+|{_QUOTED_STRING})"
_LENIENT_LOCAL = rf"\.*{_WORD}(?:\.{_WORD}?)*"
_LENIENT_LET_DIG = r"[^\x00-/:-@\[-^`{-\x7f]"
_LENIENT_SUB = rf"{_LENIENT_LET_DIG}+(?:-+{_LENIENT_LET_DIG}+)*"
_LENIENT_DOMAIN = rf"@(?:{_LENIENT_SUB}(?:\.{_LENIENT_SUB})*|{_LITERAL})"


def _lenient_path(mailbox: str) -> re.Pattern[str]:
    return re.compile(rf" *(?:< *(?:{_ROUTE} *)?(?P<mailbox>{mailbox}) *>|(?P<bare>{mailbox}))")


LENIENT_PATH = _lenient_path(rf"{_LENIENT_LOCAL}{_LENIENT_DOMAIN}")

# The same, and a local part alone is a mailbox of this machine.
LOCAL_PATH = _lenient_path(rf"{_LENIENT_LOCAL}(?:{_LENIENT_DOMAIN})?")

# A mailbox that stands alone, without brackets, such as the one in AUTH= (RFC 4954 §5).
MAILBOX = re.compile(rf"{_LENIENT_LOCAL}{_LENIENT_DOMAIN}")

# What nearly all clients send, in one step: no route, no quoted string, no literal, ASCII alone.
_PLAIN_ATEXT = r"[0-9A-Za-z!#$%&'*+/=?^_`{|}~-]"
_PLAIN_PATH = rf"<({_PLAIN_ATEXT}+(?:\.{_PLAIN_ATEXT}+)*@[0-9A-Za-z]+(?:[.-][0-9A-Za-z]+)*)>( .*)?"
PLAIN_FROM = re.compile(rf"(?ai:FROM):{_PLAIN_PATH}")
PLAIN_TO = re.compile(rf"(?ai:TO):{_PLAIN_PATH}")

# RFC 5321 §4.1.1.2: "MAIL FROM:" Reverse-path;  §4.1.1.3: "RCPT TO:" Forward-path
FROM = re.compile(r"(?ai:FROM):")
TO = re.compile(r"(?ai:TO):")

# RFC 5321 §4.1.2: Reverse-path = Path / "<>"
STRICT_NULL_PATH = re.compile(r"<>")
LENIENT_NULL_PATH = re.compile(r" *< *>")

# RFC 5321 §4.1.1.3: "RCPT TO:" ( "<Postmaster@" Domain ">" / "<Postmaster>" / Forward-path )
STRICT_POSTMASTER = re.compile(r"<(?P<mailbox>(?ai:postmaster))>")
LENIENT_POSTMASTER = re.compile(
    r" *(?:< *(?P<mailbox>(?ai:postmaster)) *>|(?P<bare>(?ai:postmaster))(?= |\Z))"
)

# RFC 5321 §4.1.3: IPv4-address-literal = Snum 3("."  Snum);  Snum = 1*3DIGIT (0 to 255)
IPV4_LITERAL = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")

# RFC 5321 §4.1.2: esmtp-param = esmtp-keyword ["=" esmtp-value]
#   esmtp-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
#   esmtp-value = 1*(%d33-60 / %d62-126), and UTF8-non-ascii (RFC 6531 §3.3)
ESMTP_PARAMETER = re.compile(
    r"(?P<keyword>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[^\x00-\x20=\x7f]+))?"
)

# RFC 5321 §2.4: verbs are ASCII; digits, "-" and "_" are for the verbs of extensions.
VERB = re.compile(rb"[A-Za-z][A-Za-z0-9_-]*")

# A line that begins so is followed by octets that are no commands, whatever is wrong with it.
BDAT_LINE = re.compile(rb"(?i:BDAT)")

# RFC 3030 §2: bdat-cmd = "BDAT" SP chunk-size [ SP end-marker ] CR LF;  end-marker = "LAST"
BDAT_ARGUMENT = re.compile(r"(?P<size>[0-9]{1,20})(?P<last> +(?ai:LAST))?")

# RFC 1870 §4: size-value = 1*20DIGIT
SIZE_VALUE = re.compile(r"[0-9]{1,20}")


def upper(text: str) -> str:
    """The upper-case form of a keyword; text beyond ASCII is none, and stays as it is."""
    return text.upper() if text.isascii() else text


def lower(text: str) -> str:
    """The lower-case form of a keyword; text beyond ASCII is none, and stays as it is."""
    return text.lower() if text.isascii() else text
