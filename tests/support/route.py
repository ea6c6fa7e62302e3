"""What the tests of the stop route share: its errors, an authenticator."""

from typing import Any

from flask import Response
from werkzeug.test import TestResponse

FAMILY = ("chat-messages", "completion-messages", "workflows/tasks")


def error(response: TestResponse) -> tuple[int, str]:
    """Check that a response is an error of the contract."""
    assert response.mimetype == "application/json"
    body = response.get_json()
    assert set(body) == {"code", "message", "status"}
    assert body["status"] == response.status_code
    assert isinstance(body["message"], str) and body["message"]
    return response.status_code, body["code"]


class Door:
    """An authenticator of the app's own, for a view behind a session."""

    def __init__(self, app_name: object = "shop") -> None:
        self.app_name = app_name
        self.is_open = True

    def login_required(self, view: Any) -> Any:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if not self.is_open:
                return Response("<h1>no</h1>", 401, {"WWW-Authenticate": "Door"})
            return view(*args, **kwargs)

        return guarded

    def current_user(self) -> object:
        return self.app_name
