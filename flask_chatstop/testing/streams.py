"""Stopping a stream of Flask's test client."""

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_chatstop.state import AppState
from flask_chatstop.worker import RunnableTask


def stop_after(
    client: FlaskClient,
    response: TestResponse,
    chunks: int,
    *,
    task_id: str | None = None,
) -> list[bytes]:
    """Read a stream, stop its task after some chunks, and read the rest.

    ::

        response = client.post("/chat", json={"query": "Hello"})
        sent = stop_after(client, response, 3)
        assert b"stopped" in sent[-1]

    :param response: of the view that streams, not read yet.
    :param chunks: how many parts of the body are read before the stop.
    :param task_id: needed if several tasks of the app run.
    :returns: everything that was sent, part by part.
    :raises AssertionError: the stream ended before, or it is unclear which task to
        stop.
    """
    stream = iter(response.response)
    sent: list[bytes] = []
    for number in range(chunks):
        part = next(stream, None)
        assert part is not None, f"the stream ended after {number} chunks"
        sent.append(_bytes(part))
    _task(client, task_id).stop()
    sent.extend(map(_bytes, stream))
    response.close()
    return sent


def _task(client: FlaskClient, task_id: str | None) -> RunnableTask:
    running = AppState.of(client.application).worker.running()
    tasks = [task for task in running if task_id in (None, task.record.task_id)]
    assert len(tasks) == 1, f"{len(tasks)} tasks run; " + (
        "give the task_id" if tasks else "did the view call start()?"
    )
    return tasks[0]


def _bytes(part: object) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()
