"""Chaos: a share of the steps fails, is late, is cut or stalls, the same ones for each seed."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast, get_args
from weakref import WeakKeyDictionary

from smtp_protocol import Reply, Server, Session
from smtp_server.faults import CUT, FaultyConnection, Step

__all__: list[str] = []

_RULE = re.compile(r"(?P<step>[A-Za-z_]+|\*):(?P<share>\d{1,3}(?:\.\d{1,6})?)%:(?P<what>.+)")
_DELAY = re.compile(r"delay[ =](\d{1,6}(?:\.\d{1,6})?)")

# Seconds between two looks whether the client of a stalled session is still there.
_LOOK = 0.25


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to which share of a step.

    Args:
        step: The step; ``None`` for every one.
        share: A number from 0 to 1.
        what: A reply in place of the handler's, or seconds of delay, or ``"cut"``, which closes
            the connection, or ``"stall"``: there is no answer until the client goes.
    """

    step: Step | None
    share: float
    what: Reply | float | str


def read_rule(value: object) -> Rule:
    """Read ``STEP:SHARE%:WHAT``, as in ``RCPT:10%:450 4.2.1 Try later`` or ``*:1%:delay 2``.

    Raises:
        ValueError: It is something else; the text says what it may be.
    """
    match = _RULE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected STEP:SHARE%:WHAT, such as 'RCPT:10%:450 Later', not {value!r}")
    step = match["step"].upper()
    if step != "*" and step not in get_args(Step):
        raise ValueError(f"expected one of {', '.join(get_args(Step))} or *, not {match['step']!r}")
    share = float(match["share"]) / 100
    if share > 1:
        raise ValueError(f"expected a share up to 100%, not {match['share']}%")
    return Rule(None if step == "*" else cast(Step, step), share, _read_what(match["what"]))


def _read_what(text: str) -> Reply | float | str:
    if text in ("cut", "stall"):
        return text
    if match := _DELAY.fullmatch(text):
        return float(match[1])
    try:
        reply = Reply.parse(text)
    except ValueError:
        reply = None
    if reply is None or reply.code < 400:
        raise ValueError(
            f"expected cut, stall, delay SECONDS, or a reply from 400 on, not {text!r}"
        )
    return reply


class Chaos:
    """Draws for each step of each session whether a rule holds for it.

    A session has draws of its own, made of the seed and of its number: whatever other sessions do
    at the same time, the seventh session fails at the same steps.

    Args:
        rules: The rules; of several that hold, a delay comes first, and the first of the others.
        seed: What the draws are made of.
    """

    def __init__(self, rules: Sequence[Rule], seed: int) -> None:
        self._rules = rules
        self._seed = seed
        self._sessions = 0
        self._draws: WeakKeyDictionary[Session, random.Random] = WeakKeyDictionary()

    async def fault(self, step: Step, server: Server, recipient: str | None = None) -> Reply | None:
        """Do what happens at a step; see `Faults`."""
        draws = self._draws.get(server.session)
        if draws is None:
            self._sessions += 1
            draws = self._draws[server.session] = random.Random(f"{self._seed}/{self._sessions}")
        what = [rule.what for rule in self._rules if self._holds(rule, step, draws)]
        for each in what:
            if isinstance(each, float):
                await asyncio.sleep(each)
        others = [each for each in what if not isinstance(each, float)]
        return await _act(others[0], server) if others else None

    @staticmethod
    def _holds(rule: Rule, step: Step, draws: random.Random) -> bool:
        # One draw for each rule that is about the step, whatever the others say.
        return rule.step in (None, step) and draws.random() < rule.share


async def _act(what: Reply | str, server: Server) -> Reply:
    if isinstance(what, Reply):
        return what
    if what == "stall" and isinstance(server, FaultyConnection):
        while not server.left:  # noqa: ASYNC110 the system tells only who asks
            await asyncio.sleep(_LOOK)
    server.hang_up()
    return CUT
