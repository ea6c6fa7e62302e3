"""A real gunicorn, and a client that streams from it and stops."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parent.parent
AUTH = {"Authorization": "Bearer demo-key"}


class Server:
    """A running gunicorn."""

    def __init__(self, url: str, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self.log = log
        self.process = process

    def stop(self, task_id: str, user: str = "alice") -> httpx.Response:
        """Press the stop button."""
        return httpx.post(
            f"{self.url}/v1/chat-messages/{task_id}/stop",
            json={"user": user},
            headers=AUTH,
            timeout=10,
        )


@contextmanager
def gunicorn(
    app: str, tmp_path: Path, *options: str, **environ: str
) -> Iterator[Server]:
    """Run an app under gunicorn for the length of a with block.

    :param options: of gunicorn's command line.
    :param environ: for the app.
    """
    log = tmp_path / "gunicorn.log"
    # The socket is ours and open from the start, so no client comes too early.
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        # As gunicorn sets it on a socket that it opens itself.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gunicorn", app),
                    *("--bind", f"fd://{listener.fileno()}", "--no-control-socket"),
                    *("--graceful-timeout", "2", *options),
                ],
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[listener.fileno()],
            )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            yield Server(url, log, process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


class Reader:
    """A client that reads an answer in a thread of its own, event by event."""

    def __init__(self, server: Server, user: str = "alice") -> None:
        self.events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.over = threading.Event()
        self._body = {"query": "hello", "user": user}
        self._client = httpx.Client(timeout=30)
        self._context = self._client.stream(
            "POST", f"{server.url}/v1/chat-messages", json=self._body, headers=AUTH
        )
        self._response = self._context.__enter__()
        assert self._response.status_code == 200, self._response.read()
        #: The process that streams, of an app that says so.
        self.pid = self._response.headers.get("Pid", "")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for line in self._response.iter_lines():
                if line.startswith("data: "):
                    self.events.put(json.loads(line.removeprefix("data: ")))
        except (httpx.HTTPError, OSError):
            pass  # the tab was closed
        finally:
            self._client.close()
            self.over.set()

    def next(self) -> dict[str, Any]:
        """Wait for an event."""
        return self.events.get(timeout=20)

    def until(self, answer: str) -> str:
        """Wait for a piece of the answer, and give the task id."""
        while (event := self.next()).get("answer") != answer:
            assert event["event"] == "message", event
        return str(event["task_id"])

    def rest(self) -> list[dict[str, Any]]:
        """Wait for the end, and give the events up to it."""
        assert self.over.wait(20), "the stream did not end"
        return [self.events.get() for _ in range(self.events.qsize())]

    def close_tab(self) -> None:
        """Leave without a word, as a browser does whose tab is closed."""
        sock = self._response.extensions["network_stream"].get_extra_info("socket")
        sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
