"""A real gunicorn, and a client that streams from it and stops."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from tests.support.paths import ROOT

AUTH = {"Authorization": "Bearer demo-key"}
# A connection that is kept leads to the same worker again.
_NO_KEEPING = httpx.Limits(max_keepalive_connections=0)
#: Seconds to wait for what comes at once, once the app has been imported.
_PATIENCE = 120.0
#: Requests until the one worker that is wanted of a few has taken one.
_TRIES = 2_000


class Server:
    """A running gunicorn."""

    def __init__(self, url: str, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self.log = log
        self.process = process
        self._client = httpx.Client(timeout=_PATIENCE, limits=_NO_KEEPING, verify=False)

    def close(self) -> None:
        self._client.close()

    def workers(self) -> list[str]:
        """Give the process ids of the workers that run."""
        pid = self.process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def stop(self, task_id: str, user: str = "alice", **headers: str) -> httpx.Response:
        """Press the stop button."""
        return self._client.post(
            f"{self.url}/v1/chat-messages/{task_id}/stop",
            json={"user": user},
            headers={**AUTH, **headers},
        )

    def stop_elsewhere(self, task_id: str, pid: str) -> httpx.Response:
        """Stop a task through a worker that does not run it."""
        return self._stop_by(task_id, **{"Not-By": pid})

    def stop_at(self, task_id: str, pid: str) -> httpx.Response:
        """Stop a task through the worker of this process id."""
        return self._stop_by(task_id, By=pid)

    def _stop_by(self, task_id: str, **choice: str) -> httpx.Response:
        for _ in range(_TRIES):
            response = self.stop(task_id, **choice)
            if response.status_code != httpx.codes.MISDIRECTED_REQUEST:
                return response
        raise AssertionError(f"no such worker answers: {choice}")


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a server as its host does; one that does not end is killed, and fails."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_PATIENCE)
    finally:
        process.kill()
        process.wait()


@contextmanager
def gunicorn(
    app: str,
    tmp_path: Path,
    *options: str,
    host: str = "127.0.0.1",
    python: str = sys.executable,
    **environ: str,
) -> Iterator[Server]:
    """Run an app under gunicorn for the length of a with block.

    :param options: of gunicorn's command line.
    :param host: an address of this host's to listen at.
    :param python: what runs it.
    :param environ: for the app.
    """
    log = tmp_path / "gunicorn.log"
    # The socket is ours and open from the start, so no client comes too early.
    with socket.create_server((host, 0), backlog=512) as listener:
        # As gunicorn sets it on a socket that it opens itself.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    *(python, "-m", "gunicorn", app),
                    *("--bind", f"fd://{listener.fileno()}", "--no-control-socket"),
                    *("--graceful-timeout", "2", *options),
                ],
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[listener.fileno()],
            )
        url = f"http://{host}:{listener.getsockname()[1]}"
        try:
            server = Server(url, log, process)
            yield server
        finally:
            server.close()
            end(process)


class Reader:
    """A client that reads an answer in a thread of its own, event by event."""

    def __init__(
        self,
        server: Server,
        user: str = "alice",
        by: str | None = None,
        body: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        self.events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.over = threading.Event()
        self._body = {"query": "hello", "user": user, **body}
        # Without a store of certificates, which takes long to load.
        self._client = httpx.Client(timeout=_PATIENCE, verify=False, limits=_NO_KEEPING)
        self._url = f"{server.url}/v1/chat-messages"
        self._response = self._ask(AUTH if by is None else {**AUTH, "By": by})
        assert self._response.status_code == 200, self._response.read()
        #: The process that streams, of an app that says so.
        self.pid = self._response.headers.get("Pid", "")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _ask(self, headers: dict[str, str]) -> httpx.Response:
        request = self._client.build_request(
            "POST", self._url, json=self._body, headers=headers
        )
        for _ in range(_TRIES):
            response = self._client.send(request, stream=True)
            if response.status_code != httpx.codes.MISDIRECTED_REQUEST:
                return response
            response.close()
        raise AssertionError("no such worker answers")

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
        return self.events.get(timeout=_PATIENCE)

    def until(self, answer: str) -> str:
        """Wait for a piece of the answer, and give the task id."""
        while (event := self.next()).get("answer") != answer:
            assert event["event"] == "message", event
        return str(event["task_id"])

    def rest(self) -> list[dict[str, Any]]:
        """Wait for the end, and give the events up to it."""
        assert self.over.wait(_PATIENCE), "the stream did not end"
        return [self.events.get() for _ in range(self.events.qsize())]

    def close_tab(self) -> None:
        """Leave without a word, as a browser does whose tab is closed."""
        sock = self._response.extensions["network_stream"].get_extra_info("socket")
        sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
