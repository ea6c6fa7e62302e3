"""Ids from clients, which two generations could have in an outage."""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import make_url

from flask_chatstop.testing import wait_until
from tests.faults.stores import Store
from tests.support.resetting_proxy import ResettingProxy
from tests.support.worker_app import HEADERS, Chat, WorkerApp


class Host:
    """An app, and the way from it to its store."""

    def __init__(self, stack: ExitStack, store: Store) -> None:
        self.line = stack.enter_context(ResettingProxy(store.port))
        url = make_url(store.url).set(host="127.0.0.1", port=self.line.port)
        self.app = WorkerApp(
            url.render_as_string(hide_password=False),
            sweep_interval=60,
        )
        stack.callback(self.app.close)


@pytest.fixture
def hosts(store: Store) -> Iterator[list[Host]]:
    with ExitStack() as stack:
        yield [Host(stack, store) for _ in range(3)]


def begin_again(app: WorkerApp, chat: Chat) -> int:
    body = {"task_id": chat.task_id, "words": 1}
    with app.app.test_client() as client:
        response = client.post("/v1/chat-messages", json=body, headers=HEADERS)
        response.close()
        return response.status_code


def test_an_id_is_taken_until_the_store_knows_its_end(
    hosts: list[Host], caplog: pytest.LogCaptureFixture
) -> None:
    host, other, _ = hosts
    chat = host.app.chat()
    host.line.refuse()
    assert host.app.stop(chat).status_code == 200
    assert chat.ended.wait(10)
    assert begin_again(host.app, chat) == 409
    host.line.admit()
    wait_until(lambda: outcome(other.app, chat) == "stopped")
    # While it holds the store for lost, the host does not ask it. It may notice the
    # outage only now, by a connection that was cut.
    later = host.app.chat()
    wait_until(lambda: other.app.can_stop(later))
    lost, found = "Lost the store", "Found the store"
    wait_until(lambda: caplog.text.count(lost) == caplog.text.count(found))
    assert begin_again(host.app, chat) == 409


@pytest.mark.parametrize("first", ["runs elsewhere", "ended elsewhere", "ended here"])
def test_of_two_generations_with_one_id_the_one_that_is_not_known_fails(
    hosts: list[Host], first: str, caplog: pytest.LogCaptureFixture
) -> None:
    host, cut_off, elsewhere = hosts
    begun_by = cut_off if first == "ended here" else host
    known = begun_by.app.chat(words=1_000_000 if first == "runs elsewhere" else 1)
    if first != "runs elsewhere":
        assert known.ended.wait(10)
        wait_until(lambda: outcome(elsewhere.app, known) == "ended")
    cut_off.line.refuse()
    unknown = cut_off.app.chat()
    assert f"Task {unknown.task_id!r} runs" in caplog.text  # the outage is noticed
    twin = cut_off.app.chat(task_id=known.task_id)
    assert twin.goes_on()
    cut_off.line.admit()
    assert twin.ended.wait(10)
    assert json.loads(twin.events[-1].removeprefix("data: "))["event"] == "error"
    assert f"Task {known.task_id!r} fails" in caplog.text
    wait_until(lambda: elsewhere.app.can_stop(unknown))
    if first == "runs elsewhere":
        assert known.goes_on()
        assert elsewhere.app.can_stop(known)


def outcome(app: WorkerApp, chat: Chat) -> str | None:
    return app.stop(chat).headers.get("Chatstop-Outcome")
