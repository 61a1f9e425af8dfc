"""SASLprep: a user name or password, in the one form in which it is compared (RFC 4013)."""

import stringprep
import unicodedata

__all__: list[str] = []

# RFC 4013 §2.3.
_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str, *, stored: bool = False) -> str:
    """Prepare a user name or password.

    Args:
        text: The name or password.
        stored: Whether it is what others are compared with; it may then have no character that
            was not assigned in Unicode 3.2 (RFC 4013 §2.5).

    Raises:
        ValueError: It has a character that is prohibited, or mixes directions of writing.
    """
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    if any(prohibits(character) for character in prepared for prohibits in _PROHIBITED):
        raise ValueError("a character that RFC 4013 prohibits")
    if stored and any(map(stringprep.in_table_a1, prepared)):
        raise ValueError("a character that RFC 4013 does not know, and prohibits in what is stored")
    _check_direction(prepared)
    return prepared


def _check_direction(text: str) -> None:
    # RFC 3454 §6: a text with a character that is written from right to left begins and ends with
    # one, and has none that is written from left to right.
    if not any(map(stringprep.in_table_d1, text)):
        return
    if (
        any(map(stringprep.in_table_d2, text))
        or not stringprep.in_table_d1(text[0])
        or not stringprep.in_table_d1(text[-1])
    ):
        raise ValueError("mixed directions of writing, which RFC 4013 prohibits")
