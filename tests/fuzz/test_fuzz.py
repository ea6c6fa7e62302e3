"""The attack on the stop route: it stands, and an app that gives way is found out."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from flask import Response, abort, request

from flask_chatstop import ChatStop, MemoryBackend, StopBackend
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.backends.redis import RedisBackend
from tests.fuzz.loop import Figures, Found, Memory, attack, run
from tests.fuzz.mutation import Author
from tests.fuzz.roles import roles
from tests.fuzz.target import RETENTION, Counts, Target
from tests.support.route import Door

SEED = 20


@pytest.fixture(params=["memory", "sqlite", "postgresql", "mariadb", "redis"])
def backend(request: pytest.FixtureRequest) -> Iterator[StopBackend]:
    name = request.param
    if name == "memory":
        backend: StopBackend = MemoryBackend(retention=RETENTION)
    else:
        url = request.getfixturevalue(f"{name}_url")
        if name == "redis":
            prefix = request.getfixturevalue("redis_prefix") + "fuzz:"
            backend = RedisBackend(url, prefix=prefix, retention=RETENTION)
        else:
            backend = DatabaseBackend(url, retention=RETENTION)
    yield backend
    backend.close()


def attack_briefly(target: Target) -> None:
    author = Author(Random(SEED), roles())
    try:
        for _ in range(1000):
            attack(target, author)
    finally:
        target.close()


def test_a_short_attack_is_withstood_with_every_store(backend: StopBackend) -> None:
    target = Target(backend)
    attack_briefly(target)
    assert target.counts.authorised_stops > 10
    assert {200, 400, 401, 404, 405, 413, 415} <= set(target.counts.statuses)


def test_a_task_that_was_replaced_is_known_to_its_user_for_a_while() -> None:
    target = attacked()
    [role] = [role for role in roles() if (role.app, role.user) == ("demo", "Alice")]
    request = (
        f"POST /v1/chat-messages/{role.task_id(1)}/stop HTTP/1.1\r\nHost: x\r\n"
        "Authorization: Bearer demo-key\r\nContent-Type: application/json\r\n"
        'Content-Length: 17\r\n\r\n{"user": "Alice"}'
    )
    for _ in range(50):
        target.attack(request.encode())
    target.close()
    assert target.counts.statuses == {200: 50}
    assert target.counts.authorised_stops == 1


class Unlocked(Door):
    """An authenticator that lets anybody in."""

    def __init__(self) -> None:
        super().__init__("demo")


def attacked(chatstop: ChatStop | None = None) -> Target:
    return Target(MemoryBackend(retention=RETENTION), chatstop)


def test_a_door_that_is_open_is_found() -> None:
    with pytest.raises(Found) as found:
        attack_briefly(attacked(ChatStop(auth=Unlocked())))
    assert b"/stop" in found.value.data


def stop_of_anybody(target: Target) -> None:
    """Take the owner of a task from the task, and not from the request."""
    stop = target.worker.stop_and_wait

    def stop_as_owner(
        task_id: str, owner: Any, seconds: float, *, is_limited: bool = True
    ) -> Any:
        for info in target.worker.backend.tasks(task_id=task_id):
            owner = info.record.owner
        return stop(task_id, owner, seconds, is_limited=is_limited)

    target.worker.stop_and_wait = stop_as_owner  # type: ignore[method-assign]


def error_on_a_cookie(target: Target) -> None:
    target.app.before_request(lambda: abort(500) if request.cookies else None)


def page_of_the_apps_own(target: Target) -> None:
    target.app.after_request(
        lambda response: (
            Response("<h1>no</h1>", 413) if response.status_code == 413 else response
        )
    )


def hint_that_a_task_exists(target: Target) -> None:
    def hint(response: Response) -> Response:
        if b"task-" in request.path.encode():
            response.headers["Tasks"] = "some"
        return response

    target.app.after_request(hint)


def success_of_nothing(target: Target) -> None:
    target.app.before_request(
        lambda: Response() if request.content_length == 0 else None
    )


@pytest.mark.parametrize(
    ("weakness", "message"),
    [
        (stop_of_anybody, "after 200|answered 200"),
        (error_on_a_cookie, "answered 500"),
        (page_of_the_apps_own, "in error"),
        (hint_that_a_task_exists, "told apart"),
        (success_of_nothing, "answered 200"),
    ],
)
def test_a_weakness_is_found(weakness: Callable[[Target], None], message: str) -> None:
    target = attacked()
    weakness(target)
    with pytest.raises(Found, match=message):
        attack_briefly(target)


@pytest.mark.slow
def test_a_leak_is_found() -> None:
    leaked: list[bytes] = []
    target = attacked()
    # Of a busy machine, a few requests are enough.
    each = [bytes([n]) for n in range(250)]
    target.app.before_request(lambda: leaked.extend(n * 50 for n in each))
    assert not run(2.0, SEED, target).is_flat


@pytest.mark.parametrize(("resident", "blocks"), [(200, 0), (0, 0.06)])
def test_two_minutes_show_a_small_leak(resident: int, blocks: float) -> None:
    counts = Counts(connections=120 * 1000)
    count = counts.connections
    after = Memory(resident * count, round(blocks * count))
    figures = Figures(SEED, 120.0, counts, Memory(0, 0), after)
    assert not figures.is_flat
    assert Figures(SEED, 120.0, counts, Memory(0, 0), Memory(2**20, 500)).is_flat
