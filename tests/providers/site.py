"""The app under a real gunicorn, in an environment of some libraries'."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.providers.environments import ROOT, Environment
from tests.support.servers.gunicorn import AUTH, Reader, Server, end

WORKERS = {
    "gthread": ["-k", "gthread", "--threads", "16"],
    "gevent": ["-k", "gevent"],
}

#: So that no library asks for anything outside of this host.
OFFLINE = {
    "ANONYMIZED_TELEMETRY": "false",
    "AWS_ACCESS_KEY_ID": "any",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_SECRET_ACCESS_KEY": "any",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "NO_PROXY": "*",
    "OPENAI_AGENTS_DISABLE_TRACING": "true",
}


class Site:
    """The running app, asked for what a source has left."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._client = httpx.Client(timeout=120)
        self._log_read = 0

    def close(self) -> None:
        self._client.close()

    def begin(self) -> None:
        """Forget what was logged, and take what runs for the app's own."""
        self._log_read = len(self.server.log.read_text())
        self._client.post(
            f"{self.server.url}/debug/begin", headers=AUTH
        ).raise_for_status()

    def ask(self, module: str, url: str, **arguments: str) -> Reader:
        """Stream from the source of a module."""
        body = {"module": module, "url": url, **arguments}
        return Reader(self.server, body=body)

    def left(self, timeout: float = 30) -> dict[str, list[str]]:
        """Wait for the end of the source's threads and tasks, and tell what is left."""
        response = self._client.get(
            f"{self.server.url}/debug/left", params={"timeout": timeout}
        )
        left: dict[str, list[str]] = response.raise_for_status().json()
        return left

    def assert_nothing_is_left(self) -> None:
        left = self.left()
        threads, tasks, records = left["threads"], left["tasks"], left["records"]
        assert not threads, "\n".join(["a thread of the source is left:", *threads])
        assert not tasks, "\n".join(["an asyncio task of it is left:", *tasks])
        assert not records, "\n".join(["something was logged:", *records])
        # As gevent writes of a greenlet that failed.
        log = self.server.log.read_text()[self._log_read :]
        assert "Traceback" not in log, log


def read_until(reader: Reader, text: str) -> None:
    """Read until the answer has a text in it; some libraries put tokens together."""
    answer = ""
    while text not in answer:
        answer += reader.next()["answer"]


@contextmanager
def site(environment: Environment, worker: str, path: Path, ca: Path) -> Iterator[Site]:
    """Run the app for the length of a with block.

    :param ca: the certificates that the libraries trust, by their own settings.
    """
    python = environment.python()
    trust = dict.fromkeys(
        ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"], str(ca)
    )
    log = path / "gunicorn.log"
    # The socket is ours and open from the start, so no client comes too early.
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    *(python, "-m", "gunicorn", "tests.providers.app:create_app()"),
                    *("--bind", f"fd://{listener.fileno()}", "--no-control-socket"),
                    *("--timeout", "120", "--graceful-timeout", "2", *WORKERS[worker]),
                ],
                cwd=ROOT,
                env={**os.environ, **OFFLINE, **trust, "PYTHONUNBUFFERED": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[listener.fileno()],
            )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = Server(url, log, process)
        running = Site(server)
        try:
            yield running
        finally:
            running.close()
            server.close()
            end(process)
