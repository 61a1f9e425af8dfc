"""Identity: the process becomes another user, once its ports are bound, and cannot go back."""

from __future__ import annotations

import os

from smtp_server.command.errors import CannotStartError
from smtp_server.command.table import USER

__all__: list[str] = []


def may_become(name: str) -> None:
    """See whether the process could become a user.

    Raises:
        CannotStartError: There is no such user, or only root could do that.
    """
    uid, _, _ = _look_up(name)
    if os.geteuid() not in (0, uid):
        raise _cannot(name)


def become(name: str) -> None:
    """Become a user, with the user's groups; ``nobody`` has none.

    Raises:
        CannotStartError: There is no such user, or only root could do that.
    """
    uid, gid, groups = _look_up(name)
    if os.getuid() == os.geteuid() == uid:
        return
    try:
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)
    except OSError:  # a system may not know the number, as in a container
        raise _cannot(name) from None


def _look_up(name: str) -> tuple[int, int, list[int]]:
    try:
        import pwd  # noqa: PLC0415 not on every system

        user = pwd.getpwnam(name)
    except ImportError:
        raise _cannot(name) from None
    except KeyError:
        if name == USER.default:
            raise _cannot(name) from None
        raise CannotStartError(f"there is no user {name!r}; give another one with --user") from None
    groups = [] if name == USER.default else os.getgrouplist(name, user.pw_gid)
    return user.pw_uid, user.pw_gid, groups


def _cannot(name: str) -> CannotStartError:
    return CannotStartError(f"cannot become the user {name!r}; use -n to stay who you are")
