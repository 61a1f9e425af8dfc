"""Life: which handlers are to be entered, as ``async with`` would do it."""

from types import TracebackType

import pytest

from smtp_protocol import Handler, HasLife, Hooks
from smtp_protocol.life import life_of


class Living(Handler):
    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


class Entered(Handler):
    async def __aenter__(self) -> None:
        pass


class Left(Handler):
    async def __aexit__(self, *error: object) -> None:
        pass


class Attributes(Handler):
    """What ``async with`` does not look at."""

    def __init__(self) -> None:
        vars(self).update(__aenter__=Living().__aenter__, __aexit__=Living().__aexit__)


def test_a_handler_with_both_methods_has_a_life() -> None:
    handler = Living()
    life: HasLife | None = life_of(handler)
    assert life is handler
    assert Hooks(handler).life is handler


class Plain(Handler):
    pass


@pytest.mark.parametrize("kind", [Plain, object, Attributes])
def test_any_other_has_none(kind: type) -> None:
    assert life_of(kind()) is None


@pytest.mark.parametrize(
    ("kind", "missing"), [(Entered, "write __aexit__"), (Left, "write __aenter__")]
)
def test_half_a_life_is_refused(kind: type[Handler], missing: str) -> None:
    with pytest.raises(TypeError, match=rf"{kind.__name__} has __a\w+__; {missing}, too"):
        Hooks(kind())
