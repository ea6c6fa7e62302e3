"""What must never happen when somebody presses stop: a test for each complaint."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from flask_chatstop.testing import wait_until
from tests.faults.deployment import ANSWER, Deployment
from tests.support.servers.gunicorn import Reader


@pytest.mark.parametrize("then", ["talk", "silence"])
def test_never_does_the_stop_answer_200_and_the_generation_go_on(
    eight_workers: Deployment, then: str
) -> None:
    """The stop answers 200 and the generation goes on."""
    chat, other = eight_workers.ask(then), eight_workers.ask("talk")
    assert chat.stop_elsewhere().status_code == 200
    assert chat.is_stopped()
    assert other.goes_on()
    assert eight_workers.server.stop("unknown").status_code == 404
    assert other.goes_on()
    assert other.stop().status_code == 200
    assert other.is_stopped()


@pytest.mark.parametrize("then", ["talk", "silence", "hold"])
def test_never_does_the_model_go_on_burning_tokens_after_the_stop(
    eight_workers: Deployment, then: str
) -> None:
    """The model goes on burning tokens after the stop."""
    chat = eight_workers.ask(then)
    assert not chat.call.closed.is_set()
    chat.stop()
    assert chat.call.closed.wait(10)


@pytest.mark.parametrize("then", ["talk", "silence", "hold"])
def test_never_does_the_model_go_on_burning_tokens_after_the_browser_tab_was_closed(
    eight_workers: Deployment, then: str
) -> None:
    """The model goes on burning tokens [...] after the browser tab was closed."""
    chat = eight_workers.ask(then)
    chat.reader.close_tab()
    assert chat.call.closed.wait(10)
    wait_until(lambda: [reason for reason, _ in chat.ends()] == ["disconnected"])


def test_never_is_the_partial_answer_lost(eight_workers: Deployment) -> None:
    """The partial answer is lost."""
    chat = eight_workers.ask()
    chat.stop_elsewhere()
    chat.reader.rest()
    # Saved before the client is told, so it is there when the page is loaded again.
    assert chat.ends() == [("stopped", ANSWER)]


@pytest.mark.parametrize("then", ["talk", "silence", "hold"])
def test_never_is_the_stopped_answer_saved_as_failed(
    eight_workers: Deployment, then: str
) -> None:
    """The stopped answer is saved as failed."""
    chats = [eight_workers.ask(then) for _ in range(3)]
    for chat in chats:
        chat.stop()
    for chat in chats:
        chat.reader.rest()
        assert [reason for reason, _ in chat.ends()] == ["stopped"]


def test_never_is_an_end_reported_twice_or_never(eight_workers: Deployment) -> None:
    """An end is reported twice or never."""
    stopped, left, both = (eight_workers.ask() for _ in range(3))
    finished, failed = eight_workers.ask("end"), eight_workers.ask("crash")
    for _ in range(3):
        assert stopped.stop_elsewhere().status_code == 200
    left.reader.close_tab()
    both.reader.close_tab()
    assert both.stop().status_code == 200
    wanted = {
        stopped: ["stopped"],
        left: ["disconnected"],
        both: ["stopped", "disconnected"],
        finished: ["finished"],
        failed: ["failed"],
    }
    for chat in wanted:
        chat.reader.rest()
        wait_until(lambda chat=chat: bool(chat.ends()))  # type: ignore[misc]
    # Whoever leaves is found out by two heartbeats, and may report until then.
    assert left.call.closed.wait(10) and both.call.closed.wait(10)
    for chat, reasons in wanted.items():
        for _ in range(2):
            [(reason, text)] = chat.ends()
            assert reason in reasons
            assert text == ANSWER
            wait_until(chat.is_told_over)


def test_never_does_the_stop_reach_one_of_eight_pods_only(
    eight_workers: Deployment,
) -> None:
    """The stop reaches one of eight pods."""
    server = eight_workers.server
    wait_until(lambda: len(server.workers()) == 8)
    pids = server.workers()
    for pid, next_pid in zip(pids, pids[1:] + pids[:1], strict=True):
        chat = eight_workers.ask(by=pid)
        assert chat.pid == pid
        response = server.stop_at(chat.task_id, next_pid)
        assert response.headers["Chatstop-Outcome"] == "stopping"
        assert chat.is_stopped()


def test_never_can_another_user_stop_it_or_find_out_that_it_exists(
    eight_workers: Deployment,
) -> None:
    """Another user can stop it, or can find out that it exists."""
    chat = eight_workers.ask("talk")
    other_app = {"Authorization": "Bearer other-key"}

    def answers(task_id: str) -> list[httpx.Response]:
        stop = eight_workers.server.stop
        return [stop(task_id, user="mallory"), stop(task_id, **other_app)]

    for there, not_there in zip(answers(chat.task_id), answers("none"), strict=True):
        assert there.status_code == not_there.status_code == 404
        assert there.content == not_there.content
        assert told(there) == told(not_there)
    assert chat.goes_on()
    assert chat.ends() == []
    assert chat.stop().status_code == 200
    assert chat.is_stopped()


def told(response: httpx.Response) -> dict[str, str]:
    """Give the headers, but for those that tell of the moment and the worker."""
    return {k: v for k, v in response.headers.items() if k not in ("date", "pid")}


def test_never_is_a_stop_before_the_first_token_ignored(
    eight_workers: Deployment,
) -> None:
    """A stop before the first token is ignored."""
    chat = eight_workers.ask("hold")
    assert chat.stop_elsewhere().headers["Chatstop-Outcome"] == "stopping"
    assert chat.is_stopped()
    assert chat.ends() == [("stopped", "")]


def test_never_is_a_stop_before_the_model_was_asked_ignored(
    eight_workers: Deployment,
) -> None:
    """A stop before the first token is ignored."""
    calls = len(eight_workers.model.calls)
    server, task_id = eight_workers.server, uuid.uuid4().hex
    with ThreadPoolExecutor() as pool:
        body = {"task_id": task_id, "prepares": True}
        asked = pool.submit(Reader, server, body=body)
        wait_until(lambda: f"Task {task_id} is being prepared." in eight_workers.log())
        assert server.stop(task_id).status_code == 200
        first, end = asked.result(10).rest()
    assert (first["answer"], end["metadata"]["end_reason"]) == ("", "stopped")
    assert eight_workers.ends(task_id) == [("stopped", "")]
    assert len(eight_workers.model.calls) == calls


@pytest.mark.parametrize("then", ["talk", "silence", "hold"])
def test_never_is_the_persons_own_stop_shown_to_them_as_an_error(
    eight_workers: Deployment, then: str
) -> None:
    """The person's own stop is shown to them as an error."""
    before = len(eight_workers.log())
    chat = eight_workers.ask(then)
    chat.stop_elsewhere()
    *pieces, end = chat.reader.rest()
    assert {event["event"] for event in pieces} <= {"message"}
    assert end["event"] == "message_end"
    assert "Traceback" not in eight_workers.log()[before:]
