"""The arguments of a ``ChatStop``, checked before anything is made of them."""

import re
from collections.abc import Sequence

from flask_chatstop.checks import MAX_ID, is_id
from flask_chatstop.errors import ConfigurationError


def check_arguments(
    source: object,
    auth: object,
    user_loader: object,
    routes: Sequence[str],
    format: object,
) -> None:
    """Refuse invalid arguments of a ``ChatStop``.

    :raises ConfigurationError: one of them is invalid.
    """
    if not is_id(source):
        raise ConfigurationError(
            f"source is {source!r}; give it a string of 1 to {MAX_ID} characters."
        )
    if isinstance(routes, str) or not routes or not all(map(_is_route, routes)):
        raise ConfigurationError(
            f'routes is {routes!r}; give it a list, like ["chat-messages"].'
        )
    if user_loader is not None and not callable(user_loader):
        raise ConfigurationError(
            f"user_loader is a {type(user_loader).__name__}; give it a function."
        )
    if not callable(format):
        raise ConfigurationError(
            f"format is a {type(format).__name__}; give it a class, like PlainText, or"
            " a function that makes a format."
        )
    if isinstance(auth, type):
        raise ConfigurationError(
            f"auth is a class; give it an object, like {auth.__name__}(...)."
        )
    if auth is not None and not (
        hasattr(auth, "login_required") and hasattr(auth, "current_user")
    ):
        raise ConfigurationError(
            f"auth is a {type(auth).__name__}; give it an object of flask-httpauth,"
            " or one with login_required and current_user()."
        )


def _is_route(route: object) -> bool:
    return isinstance(route, str) and bool(re.fullmatch(r"[^<>]*[^<>/][^<>]*", route))
