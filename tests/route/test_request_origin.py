"""Requests that a page of another origin makes a visitor's browser send."""

from typing import Any

import pytest
from flask import Flask

from flask_chatstop import ChatStop, ConfigurationError, SessionAuth
from tests.support.route import error

FRONT = "https://chat.example"


def stop(url: str, headers: dict[str, str]) -> Any:
    app = Flask("shop")
    auth = SessionAuth(lambda: "alice", origins=[FRONT])
    app.register_blueprint(ChatStop(auth=auth))
    stop = "/chat-messages/some-id/stop"
    return app.test_client().post(stop, base_url=url, headers=headers, json={})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://app.example"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://app.example:8000"},
        {"Sec-Fetch-Site": "cross-site", "Origin": FRONT},
        {"Sec-Fetch-Site": "same-site", "Origin": FRONT},
        {"Origin": FRONT},
    ],
)
def test_pages_of_the_app_and_of_origins_it_names_are_let_in(
    headers: dict[str, str],
) -> None:
    response = stop("http://app.example:8000", headers)
    assert error(response) == (404, "task_not_found")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://blog.app.example:8000"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://app.example:8000"},
        {"Sec-Fetch-Site": "cross-site", "Origin": f"{FRONT}.evil.example"},
        {"Sec-Fetch-Site": "new-word"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://app.example"},
        {"Origin": "http://chat.example"},
        {"Origin": "null"},
        {"Origin": ""},
        # As a script can send it by Sec_Fetch_Site where the browser sends none.
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "none", "Origin": "http://evil.example"},
    ],
)
def test_pages_of_other_origins_are_refused(
    headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    response = stop("http://app.example:8000", headers)
    assert error(response) == (403, "forbidden")
    assert "origins=" in caplog.text


def test_an_app_whose_proxy_ends_tls_knows_its_own_pages() -> None:
    response = stop("http://app.example", {"Origin": "https://app.example"})
    assert response.status_code == 404


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("app.example:443", "https://app.example"),
        ("app.example:80", "http://app.example"),
        ("my_app:8000", "http://my_app:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("App.example", "https://app.example"),
    ],
)
def test_a_page_is_the_apps_own_however_its_host_is_written(
    host: str, origin: str
) -> None:
    response = stop("http://any", {"Host": host, "Origin": origin})
    assert response.status_code == 404


@pytest.mark.parametrize("host", ["", "two words", "null"])
@pytest.mark.parametrize("origin", ["null", "file://", ""])
def test_a_page_without_an_origin_is_not_the_apps_own(host: str, origin: str) -> None:
    response = stop("http://any", {"Host": host, "Origin": origin})
    assert error(response) == (403, "forbidden")


def test_a_page_on_this_computer_may_come_through_a_development_server() -> None:
    headers = {"Origin": "http://localhost:5173", "Sec-Fetch-Site": "same-origin"}
    assert stop("http://127.0.0.1:8000", headers).status_code == 404


@pytest.mark.parametrize(
    "origins",
    [
        "https://chat.example",
        ["*"],
        ["https://*.example"],
        ["chat.example"],
        ["https://chat.example/"],
        ["https://Chat.example"],
        ["null"],
        [None],
    ],
)
def test_an_origin_that_no_browser_would_send_is_refused(origins: Any) -> None:
    with pytest.raises(ConfigurationError, match="origins"):
        SessionAuth("user_id", origins=origins)
