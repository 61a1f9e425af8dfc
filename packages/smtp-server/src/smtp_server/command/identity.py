"""Identity: the process becomes another user, once its ports are bound, and cannot go back."""

from __future__ import annotations

import os

from smtp_server.command.errors import CannotStartError
from smtp_server.command.table import USER

__all__: list[str] = []


def become(name: str) -> None:
    """Become a user, with the user's groups; ``nobody`` has none.

    Raises:
        CannotStartError: There is no such user, or only root could do that.
    """
    try:
        import pwd  # noqa: PLC0415 not on every system

        user = pwd.getpwnam(name)
        if os.getuid() == os.geteuid() == user.pw_uid:
            return
        # Of which a system may not know the number, as in a container.
        groups = [] if name == USER.default else os.getgrouplist(name, user.pw_gid)
        os.setgroups(groups)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    except KeyError:
        if name == USER.default:
            raise _cannot(name) from None
        raise CannotStartError(f"there is no user {name!r}; give another one with --user") from None
    except (ImportError, OSError):
        raise _cannot(name) from None


def _cannot(name: str) -> CannotStartError:
    return CannotStartError(f"cannot become the user {name!r}; use -n to stay who you are")
