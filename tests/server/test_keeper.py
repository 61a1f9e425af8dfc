"""Keeper: how long the pauses are, and how deaths are told; test_workers.py has real processes."""

import pytest

from smtp_server.command.keeper import Ended, Pauses, cannot_start

GOOD, SHORT, LAME = Ended(True, 60.0, -9), Ended(True, 0.5, -9), Ended(False, 0.5, 1)


@pytest.mark.parametrize(
    ("deaths", "pauses"),
    [
        ([GOOD] * 3, [0, 0, 0]),
        ([SHORT] * 7, [0, 0.1, 0.2, 0.4, 0.8, 1, 1]),
        ([LAME] * 12, [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]),
        ([SHORT] * 4 + [GOOD, SHORT], [0, 0.1, 0.2, 0.4, 0, 0.1]),
        ([LAME] * 9 + [SHORT, SHORT], [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 1, 1]),
        # One that needs long to fail has not lived.
        ([Ended(False, 60.0, 1)] * 3, [0, 0.1, 0.2]),
    ],
)
def test_pauses_grow_until_one_has_lived(deaths: list[Ended], pauses: list[float]) -> None:
    made = Pauses()
    assert [made.after(ended) for ended in deaths] == pytest.approx(pauses)


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        (GOOD, "was ended by SIGKILL"),
        (LAME, "has ended with status 1 before it was ready"),
        (Ended(True, 1, 0), "has ended with status 0"),
        (Ended(False, 1, -200), "was ended by signal 200 before it was ready"),
    ],
)
def test_a_death_is_told(ended: Ended, text: str) -> None:
    assert str(ended) == text


@pytest.mark.parametrize(
    ("status", "told", "exit_status"), [(1, True, 1), (2, True, 2), (-9, False, 1), (0, False, 1)]
)
def test_the_exit_status_when_none_is_ready(status: int, told: bool, exit_status: int) -> None:
    error = cannot_start(Ended(False, 1, status))
    assert (str(error) == "", error.status) == (told, exit_status)
