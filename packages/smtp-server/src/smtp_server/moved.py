"""Moved: a name of the older library that nothing here looks at is refused, and told its place."""

from collections.abc import Iterable, Mapping

__all__: list[str] = []

#: What subclasses of the older library's controllers override, and what to do here.
CONTROLLER: Mapping[str, str] = {
    "_create_server": "override bind(), which returns the sockets to listen on",
    "_factory_invoker": "override factory(), which makes the protocol of a connection",
    "_trigger_server": "start() does not connect to the server, so there is nothing to override",
    "_run": "override start() and stop()",
    "_cleanup": "override stop(), or finalize() where there is no thread",
    "cancel_tasks": "override stop(), which ends every session",
}

_NO_LIMIT = "command lines may have 4096 octets"
_CHALLENGE = "write a method auth_LOGIN for texts of your own"
_ORDER = "the order of commands is checked before a hook is asked"
_ATTRIBUTES = "hooks may set attributes of session and envelope, such as in handle_CONNECT"
_TIME = "the keyword timeout says how long a client may be silent"

#: What they set or override in its protocol.
SMTP_NAMES: Mapping[str, str] = {
    "__ident__": "give the keyword ident",
    "line_length_limit": "give the keyword line_length_limit",
    "command_size_limit": _NO_LIMIT,
    "command_size_limits": _NO_LIMIT,
    "max_command_size_limit": _NO_LIMIT,
    "local_part_limit": "address_syntax='strict' has the limits of RFC 5321",
    "AuthLoginUsernameChallenge": _CHALLENGE,
    "AuthLoginPasswordChallenge": _CHALLENGE,
    "ehlo_hook": "write handle_EHLO in the handler",
    "rset_hook": "write handle_RSET in the handler",
    "handle_exception": "write handle_exception in the handler",
    "check_helo_needed": _ORDER,
    "check_auth_needed": f"{_ORDER}; give the keyword auth_required",
    "_authenticate": "give the keyword authenticator",
    "_call_handler_hook": "override a hook of the handler",
    "_create_envelope": _ATTRIBUTES,
    "_create_session": _ATTRIBUTES,
    "_getaddr": "give the keyword address_syntax, or write handle_MAIL and handle_RCPT",
    "_handle_client": "write handle_CONNECT in the handler",
    "_reset_timeout": _TIME,
    "_set_post_data_state": "write handle_DATA in the handler",
    "_set_rset_state": "write handle_RSET in the handler",
    "_timeout_cb": _TIME,
}

#: Keywords of theirs that are none here.
KEYWORDS: Mapping[str, str] = {
    "server_kwargs": "give what is in it as keywords themselves",
}


def refuse_names(owner: str, names: Iterable[str], moved: Mapping[str, str]) -> None:
    """Refuse what somebody has set or overridden, if it would do nothing.

    Args:
        owner: What has these names.
        names: All that it has.
        moved: Those that do nothing, each with what does.

    Raises:
        TypeError: One is there; the text says what to do.
    """
    for name in sorted(moved.keys() & set(names)):
        raise TypeError(f"{owner}.{name} is never used; {moved[name]}")


def refuse_process_message(handler: object, own: frozenset[str]) -> None:
    """Refuse a handler that has nothing but its old method to take messages with.

    Args:
        handler: The handler.
        own: The names of its hooks.

    Raises:
        TypeError: It would take messages, and lose them.
    """
    method = getattr(type(handler), "process_message", None)
    if callable(method) and not own & {"handle_DATA", "handle_STREAM"}:
        owner = type(handler).__name__
        raise TypeError(f"{owner}.process_message is never used; write handle_DATA")
