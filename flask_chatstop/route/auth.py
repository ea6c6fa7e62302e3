"""Who sends a request: the app behind its API key, and the user."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID

from flask_httpauth import HTTPTokenAuth

from flask_chatstop.backends import Owner
from flask_chatstop.checks import MAX_ID, is_id
from flask_chatstop.errors import ConfigurationError
from flask_chatstop.route.responses import RouteError, error_response

F = TypeVar("F", bound=Callable[..., Any])


class Authenticator(Protocol):
    """What guards the stop route: any flask-httpauth object, or one like it.

    ``current_user()`` names the app that the request came from, as a string. It may
    also have a ``user_loader()`` and a ``source``: they are what a ``ChatStop`` uses
    that is given none.
    """

    def login_required(self, f: F) -> F: ...

    def current_user(self) -> object: ...


class _BearerAuth(HTTPTokenAuth):  # type: ignore[misc]
    """Treats an Authorization header that cannot be decoded like a missing one."""

    def get_auth(self) -> Any:
        # Werkzeug raises it for a Basic header with a letter that is not ASCII.
        try:
            return super().get_auth()
        except ValueError:
            return None


def bearer_auth(realm: str, app_of: Callable[[object], str | None]) -> Authenticator:
    """Return the flask-httpauth object that checks ``Authorization: Bearer KEY``.

    :param app_of: returns the app behind a key, ``None`` if the key is unknown.
    """
    auth = _BearerAuth("Bearer", realm=realm)
    auth.verify_token(app_of)
    auth.error_handler(
        lambda status: error_response(
            RouteError(status, "unauthorized", "A valid API key is needed.")
        )
    )
    checked: Authenticator = auth
    return checked


def source_of(auth: Authenticator | None) -> str:
    """Return the source of a ``ChatStop`` that is given none."""
    source: str = getattr(auth, "source", "service-api")
    return source


@dataclass(frozen=True, slots=True)
class Caller:
    """Tells who sends the current request.

    :param name: the blueprint's name, for error messages.
    """

    name: str
    source: str
    auth: Authenticator
    user_loader: Callable[[], str | int | UUID | None] | None

    def owner(self, user: str) -> Owner:
        """Return the owner of a task that this user of the current app begins.

        :raises ConfigurationError: nobody is authenticated in this request.
        """
        app = self.auth.current_user()
        if not is_id(app):
            raise ConfigurationError(
                f"current_user() of {self.name!r} returned a {type(app).__name__}: put"
                " the view behind login_required, which stands between it and its"
                " route; in a source, a thread or a job, pass app=. An auth of your own"
                f" has to return the app's name, a string of 1 to {MAX_ID} characters."
            )
        return Owner(app, self.source, user)

    def loaded_user(self) -> str | None:
        """Return the user of the ``user_loader``, ``None`` if nobody is logged in.

        :raises ConfigurationError: it returned something else.
        """
        if self.user_loader is None:
            return None
        user = self.user_loader()
        is_valid = isinstance(user, str | int | UUID) and not isinstance(user, bool)
        if user is not None and not (is_valid and is_id(str(user))):
            raise ConfigurationError(
                f"The user of {self.name!r} is a {type(user).__name__}. Its auth or"
                f" user_loader must return a string of 1 to {MAX_ID} characters, an"
                " integer, a UUID, or None."
            )
        return None if user is None else str(user)
