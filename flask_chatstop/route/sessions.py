"""Authenticators for apps whose users are logged in by a cookie, or need no login."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast
from uuid import UUID

from flask import current_app, request, session

from flask_chatstop.checks import MAX_ID, is_id
from flask_chatstop.errors import ConfigurationError
from flask_chatstop.logs import get_logger
from flask_chatstop.route.request_origin import is_cross_site, is_local, origins_of
from flask_chatstop.route.responses import RouteError, error_response

logger = get_logger(__name__)

F = TypeVar("F", bound=Callable[..., Any])


class PageAuth:
    """The base of the authenticators for an app's own pages.

    A subclass has ``user_loader()``, and may refuse more in ``_refusal()``.

    :param app: the app's name in the owner of a task.
    :param origins: other origins whose pages may send requests.
    """

    #: Of a ``ChatStop`` that is given none.
    source = "web-app"

    def __init__(self, app: str | None, origins: Iterable[str]) -> None:
        if app is not None:
            _check_name("app", app)
        self._app = app
        self._origins = origins_of(origins)

    def login_required(self, f: F) -> F:
        """Answer a request with 401 unless a user is logged in, 403 from other sites.

        Both are JSON, and never a redirect: ``fetch`` would follow it, and take the
        200 of a login page for a success.
        """

        @functools.wraps(f)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            refusal = self._refusal()
            if refusal is not None:
                return error_response(refusal)
            return current_app.ensure_sync(f)(*args, **kwargs)

        return cast(F, guarded)

    def current_user(self) -> str:
        """Return the app's name in the owner of a task."""
        return current_app.name if self._app is None else self._app

    def user_loader(self) -> str | int | UUID | None:
        """Return the user of the current request, ``None`` if nobody is logged in."""
        raise NotImplementedError

    def _refusal(self) -> RouteError | None:
        """Return what the current request is answered, ``None`` if it is let in."""
        if is_cross_site(self._origins):
            logger.warning(
                "Refused a request of %r, which is another origin than %r. If its"
                " pages are yours, name it in origins= of the authenticator.",
                request.headers.get("Origin", "another site"),
                request.headers.get("Host", ""),
            )
            return RouteError(
                403, "forbidden", "The request comes from a page of another site."
            )
        if self.user_loader() is None:
            return RouteError(401, "unauthorized", "Nobody is logged in.")
        return None


class SessionAuth(PageAuth):
    """Let in whoever Flask's session names.

    ::

        chatstop = ChatStop(auth=SessionAuth("user_id"))

    With ``session["user_id"]`` set at the login, ``chatstop.start()`` needs no
    ``user``, and a body of the stop may leave it out. Nobody is logged in where the
    value is missing, ``None`` or ``""``.

    **Other sites.** A browser sends the cookie of a session with requests of other
    sites too, unless its ``SameSite`` forbids that. So a request is refused with 403
    if its ``Sec-Fetch-Site``, or else its ``Origin``, says that a page of another
    origin has sent it: another site, another subdomain, another port. This holds
    whatever ``SameSite`` says and whatever CORS permits. Besides, a stop has to be
    JSON by its content type, which no form can send. If your pages come from another
    origin than the app, name it in ``origins``.

    It guards views behind ``chatstop.login_required`` and the stop, and nothing else.

    :param user: the key in the session, or a function that returns the user: a
        string, an integer, a :class:`~uuid.UUID`, or ``None``.
    :param app: the app's name in the owner of a task, by default the name of the
        Flask app. Apps that share a store need different names.
    :param origins: other origins whose pages may send requests, like
        ``["https://chat.example"]``.
    :raises ConfigurationError: an argument is invalid.
    """

    def __init__(
        self,
        user: str | Callable[[], str | int | UUID | None],
        *,
        app: str | None = None,
        origins: Iterable[str] = (),
    ) -> None:
        super().__init__(app, origins)
        if not isinstance(user, str) and not callable(user):
            raise ConfigurationError(
                f"SessionAuth was given a {type(user).__name__}; give it the key that"
                ' the user has in the session, like SessionAuth("user_id"), or a'
                " function."
            )
        self._user = user

    def user_loader(self) -> str | int | UUID | None:
        key = self._user
        user = session.get(key) if isinstance(key, str) else key()
        return None if user == "" else user


class FlaskLoginAuth(PageAuth):
    """Let in whoever Flask-Login has logged in.

    ::

        chatstop = ChatStop(auth=FlaskLoginAuth())

    The user is ``flask_login.current_user.get_id()``. Flask-Login's
    ``unauthorized()`` is not called, so nobody is sent to the login page: what a
    script asks is answered 401.

    **Other sites.** The cookie is Flask's session, or Flask-Login's ``remember_token``.
    Requests of other sites are refused with 403, as :class:`SessionAuth` says.

    :param app: the app's name in the owner of a task, as for :class:`SessionAuth`;
        the same for ``origins``.
    :raises ConfigurationError: Flask-Login is not installed, or an argument is invalid.
    """

    def __init__(self, *, app: str | None = None, origins: Iterable[str] = ()) -> None:
        super().__init__(app, origins)
        try:
            import flask_login
        except ImportError:
            raise ConfigurationError(
                "FlaskLoginAuth() needs Flask-Login: `pip install flask-login`."
            ) from None
        self._flask_login = flask_login

    def user_loader(self) -> str | int | UUID | None:
        if not hasattr(current_app, "login_manager"):
            raise ConfigurationError(
                "FlaskLoginAuth() needs Flask-Login's manager on this app: call"
                " LoginManager().init_app(app)."
            )
        user = self._flask_login.current_user
        return cast(str | UUID | None, user.get_id()) if user.is_authenticated else None


class SingleUserAuth(PageAuth):
    """Let in whoever sits at this computer: for a local app with one user, no login.

    ::

        chatstop = ChatStop(auth=SingleUserAuth())

    **Whoever reaches the app is its user.** So a request is refused with 403 unless it
    comes from a loopback address, names ``localhost`` or a loopback address as its
    host, and carries no header of a proxy. A proxy on the same computer that rewrites
    the host and adds no header cannot be told from you: guard it yourself.

    **Other sites.** There is no cookie that a browser could hold back, and any page
    that you visit can send requests to ``localhost``. They are refused with 403, as
    :class:`SessionAuth` says. The check of the host refuses a page that has made its
    own name lead to 127.0.0.1.

    :param user: the user's name in the owner of a task.
    :param local_only: ``False`` lets in every request that reaches the app: in a
        container, or where a VPN or a proxy with a login guards it. Requests of
        other sites are refused all the same.
    :param app: the app's name in the owner of a task, as for :class:`SessionAuth`;
        the same for ``origins``.
    :raises ConfigurationError: an argument is invalid.
    """

    def __init__(
        self,
        user: str = "local-user",
        *,
        local_only: bool = True,
        app: str | None = None,
        origins: Iterable[str] = (),
    ) -> None:
        super().__init__(app, origins)
        _check_name("user", user)
        self._single_user = user
        self._local_only = local_only

    def user_loader(self) -> str | int | UUID | None:
        return self._single_user if self._is_let_in() else None

    def _refusal(self) -> RouteError | None:
        if not self._is_let_in():
            return RouteError(
                403, "forbidden", "This app serves its own computer, as localhost."
            )
        return super()._refusal()

    def _is_let_in(self) -> bool:
        return not self._local_only or is_local()


def _check_name(argument: str, value: object) -> None:
    if not is_id(value):
        raise ConfigurationError(
            f"{argument} is {value!r}; give it a string of 1 to {MAX_ID} characters."
        )
