"""Passwords stay out of messages: in URLs that are misread, and in texts of others."""

import re

_MAY_HOLD_A_URL = re.compile(r"://|@|pass|pwd|secret|token|dsn", re.IGNORECASE)


def has_unquoted_at(url: str) -> bool:
    """Return whether a URL has an ``@`` in a place where only a password has one.

    What stands behind it would be taken for the host or the database, and shown.
    """
    address, _, query = url.partition("://")[2].partition("?")
    in_query = any("@" in part and "=" not in part for part in query.split("&"))
    return address.count("@") > 1 or in_query


def text_of_others(error: BaseException) -> str:
    """Return what an error of other people's code says, unless it may hold a URL."""
    name, text = type(error).__name__, " ".join(str(error).split())
    if not text:
        return name
    if _MAY_HOLD_A_URL.search(text):
        return f"{name}, whose text is left out, since it may hold a password"
    return f"{name}: {text}"


def quotes_url(text: str) -> bool:
    """Return whether a driver's text has a URL with a password, or a part of one."""
    return bool(re.search(r"://|:[^\s@'\"]+@", text))


def holds(text: str, password: str) -> bool:
    """Return whether a text holds a password as a word of its own.

    A short password is a part of many words. To cover it there would show what it is.
    """
    return bool(re.search(rf"(?<!\w){re.escape(password)}(?!\w)", text))
