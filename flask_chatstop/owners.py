"""Whose tasks the app's own code means: what it says, or who sends the request."""

from flask import has_request_context

from flask_chatstop.backends import Owner
from flask_chatstop.checks import MAX_ID, is_id
from flask_chatstop.errors import ConfigurationError, InvalidParam, NotLoggedIn
from flask_chatstop.route.auth import Caller
from flask_chatstop.route.stop import check_user


def owner_of(caller: Caller, user: str | None, app: str | None) -> Owner:
    """Return the owner of a task.

    :param user: by default the user of the ``user_loader``.
    :param app: by default the one behind the API key of the request.
    :raises ConfigurationError: no app is given, and nobody is authenticated.
    :raises InvalidParam: the user or the app is invalid.
    :raises NotLoggedIn: no user is given, and the ``user_loader`` knows nobody.
    """
    user = check_user(loaded_user(caller) if user is None else user)
    if app is not None:
        return Owner(_check_app(app), caller.source, user)
    try:
        return caller.owner(user)
    except (ConfigurationError, RuntimeError) as error:
        if has_request_context():
            raise
        raise ConfigurationError(
            "No request says which app it is for: give app=, the name behind the"
            " API key."
        ) from error


def whose(
    caller: Caller, user: str | None, app: str | None, everybody: bool
) -> tuple[str | None, str | None]:
    """Return the app and the user whose tasks are meant; ``None`` for all.

    The errors are those of :func:`owner_of`.

    :raises TypeError: both a user and ``everybody`` are given.
    """
    if everybody is not True:
        owner = owner_of(caller, user, app)
        return owner.app, owner.user
    if user is not None:
        raise TypeError("Pass user or everybody=True, not both.")
    return None if app is None else _check_app(app), None


def loaded_user(caller: Caller) -> str | None:
    """Return the user of the ``user_loader``, ``None`` without one or a request.

    :raises NotLoggedIn: nobody is logged in.
    """
    if caller.user_loader is None or not has_request_context():
        return None
    loaded = caller.loaded_user()
    if loaded is None:
        raise NotLoggedIn("The user_loader returned no user: nobody is logged in.")
    return loaded


def _check_app(app: object) -> str:
    if not is_id(app):
        raise InvalidParam(f"app must be a string of 1 to {MAX_ID} characters.")
    return app
