"""A whole chat: the app under gunicorn, its model, and what it has saved."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from flask_chatstop.testing import wait_until
from tests.support.provider import TOKENS, Call, Provider, provider
from tests.support.servers.gunicorn import Reader, Server, gunicorn

ANSWER = "".join(TOKENS)
#: Seconds that a task of a killed worker stays known.
LEASE = 2.0


class Deployment:
    """The app under gunicorn, its model, and its journal of ends."""

    def __init__(
        self, server: Server, model: Provider, journal: Path, backend_url: str
    ) -> None:
        self.server = server
        self.backend_url = backend_url
        self.model = model
        self._journal = journal

    def ask(
        self, then: str = "silence", by: str | None = None, **body: object
    ) -> "Chat":
        """Ask a model that goes on so after its first words.

        :param by: the process id of the worker that is to stream.
        """
        self.model.then = then
        number = len(self.model.calls)
        reader = Reader(self.server, by=by, body=body)
        wait_until(lambda: len(self.model.calls) > number)
        return Chat(self, reader, self.model.calls[number])

    def ends(self, task_id: str) -> list[tuple[str, str]]:
        """Give the reason and the text of each end that was reported of a task."""
        if not self._journal.exists():
            return []
        lines = map(json.loads, self._journal.read_text().splitlines())
        return [(x["reason"], x["text"]) for x in lines if x["task_id"] == task_id]

    def is_told_stopped(self, chat: "Chat") -> bool:
        """Tell whether a late stop through this deployment is told the truth."""
        headers = self.server.stop(chat.task_id).headers
        outcome: str | None = headers.get("Chatstop-Outcome")
        return outcome == "stopped"

    def log(self) -> str:
        return self.server.log.read_text()


class Chat:
    """An answer that streams, from its first words on."""

    def __init__(self, deployment: Deployment, reader: Reader, call: Call) -> None:
        self.deployment = deployment
        self.call = call
        self.reader = reader
        self.pid = reader.pid
        first = reader.next()
        self.task_id: str = first["task_id"]
        #: By the clock of the host that streams.
        self.created_at: int = first["created_at"]
        if deployment.model.then not in ("hold", "end", "crash"):
            reader.until(TOKENS[-1])
        if deployment.model.then in ("silence", "hold"):
            assert call.silent.wait(30)

    def stop(self) -> httpx.Response:
        """Press the stop button; any worker may take it."""
        return self.deployment.server.stop(self.task_id)

    def stop_elsewhere(self) -> httpx.Response:
        """Stop through a worker that does not run it."""
        return self.deployment.server.stop_elsewhere(self.task_id, self.pid)

    def stop_here(self) -> httpx.Response:
        """Stop through the worker that runs it."""
        return self.deployment.server.stop_at(self.task_id, self.pid)

    def can_be_stopped_elsewhere(self) -> bool:
        return self.stop_elsewhere().status_code == 200

    def is_forgotten(self) -> bool:
        return self.stop().status_code == 404

    def is_told_over(self) -> bool:
        outcome: str = self.stop().headers["Chatstop-Outcome"]
        return outcome in ("stopped", "ended")

    def goes_on(self) -> bool:
        """Tell whether more of the answer comes, and as fast as the model talks."""
        for _ in range(self.reader.events.qsize()):
            self.reader.next()
        # A second's worth: with a look at a frozen store for each it took a minute.
        wait_until(lambda: self.reader.events.qsize() >= 100, 20)
        return all(self.reader.next().get("answer") for _ in range(100))

    def ends(self) -> list[tuple[str, str]]:
        return self.deployment.ends(self.task_id)

    def is_stopped(self) -> bool:
        """Tell whether client, model and app all agree that it was stopped."""
        assert self.call.closed.wait(30), "the model goes on"
        assert self.reader.rest()[-1]["metadata"]["end_reason"] == "stopped"
        [(reason, text)] = self.ends()
        return reason == "stopped" and (
            ANSWER.startswith(text) or text.startswith(ANSWER)
        )


@contextmanager
def deployment(
    directory: Path,
    backend_url: str,
    *options: str,
    host: str = "127.0.0.1",
    **environ: str,
) -> Iterator[Deployment]:
    """Run the app for the length of a with block, unless told otherwise as 2 workers.

    :param options: of gunicorn's command line.
    :param host: where the app listens.
    :param environ: for the app.
    """
    directory.mkdir(exist_ok=True)
    journal = directory / "journal"
    with (
        provider() as model,
        gunicorn(
            "tests.faults.chat_app:create_app()",
            directory,
            *("--workers", "2", "-k", "gthread", "--threads", "16", "--preload"),
            *("--graceful-timeout", "0"),
            *options,
            host=host,
            **{
                # By number: to look a name up waits for a network that is taken down.
                "MODEL_URL": model.url.replace("localhost", "127.0.0.1"),
                "JOURNAL": str(journal),
                "FLASK_CHATSTOP_BACKEND": backend_url,
                "FLASK_CHATSTOP_OPERATION_TIMEOUT": "0.5",
                "FLASK_CHATSTOP_SWEEP_INTERVAL": "0.5",
                "FLASK_CHATSTOP_LEASE": str(LEASE),
                **environ,
            },
        ) as server,
    ):
        yield Deployment(server, model, journal, backend_url)
