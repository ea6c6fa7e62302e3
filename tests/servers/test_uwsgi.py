"""Stops under uWSGI, whose processes are forks that Python is not told of."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import wait_until
from tests.support.paths import ROOT
from tests.support.provider import TOKENS, Provider
from tests.support.servers.gunicorn import Reader, Server
from tests.support.servers.others import APP, COMMANDS, serving

OPTIONS = [
    *("--http-socket", "127.0.0.1:{port}", "--module", APP, "--need-app"),
    *("--master", "--die-on-term", "--processes", "3", "--disable-logging"),
    *("--pythonpath", "."),
]


def is_told_stopped(server: Server, task_id: str) -> bool:
    return server.stop(task_id).headers["Chatstop-Outcome"] == "stopped"


@pytest.mark.parametrize("options", ["", "--enable-threads", "--lazy-apps"])
def test_a_stop_reaches_another_process_and_a_closed_tab_is_noticed(
    options: str, sqlite_url: str, silent: Provider, tmp_path: Path
) -> None:
    environ = {"FLASK_CHATSTOP_BACKEND": sqlite_url, "PROVIDER": silent.url}
    command = [str(COMMANDS / "pyuwsgi"), *OPTIONS, *options.split()]
    with serving(tmp_path, *command, HEARTBEAT="0.5", **environ) as server:
        reader = Reader(server)
        task_id = reader.until(TOKENS[-1])
        tab = Reader(server)
        tab.until(TOKENS[-1])
        with closing(DatabaseBackend(sqlite_url)) as store:
            workers = {info.record.worker_id for info in store.tasks()}
        assert len(workers) == 2, "each process is a worker of its own"

        response = server.stop(task_id)  # by the third process: it alone is free
        assert response.headers["Chatstop-Outcome"] == "stopping"
        assert response.headers["Pid"] not in (reader.pid, tab.pid)
        assert silent.calls[0].closed.wait(30)
        [end] = reader.rest()
        assert end["metadata"]["end_reason"] == "stopped"
        wait_until(lambda: is_told_stopped(server, task_id))

        tab.close_tab()
        assert silent.calls[1].closed.wait(30)
        said = "".join(TOKENS)
        wait_until(lambda: f"disconnected: {said}" in server.log.read_text())
        assert f"stopped: {said}" in server.log.read_text()
    assert "This app seems" not in server.log.read_text()


def test_the_settings_on_the_page_about_deploying_serve(
    sqlite_url: str, silent: Provider, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "deploying.md").read_text()
    settings = page.partition("```ini\n")[2].partition("```")[0]
    for theirs, ours in ("app:app", APP), ("127.0.0.1:8000", "127.0.0.1:%(PORT)"):
        assert theirs in settings
        settings = settings.replace(theirs, ours)
    (tmp_path / "uwsgi.ini").write_text(settings)
    environ = {"FLASK_CHATSTOP_BACKEND": sqlite_url, "PROVIDER": silent.url}
    command = [
        *(str(COMMANDS / "pyuwsgi"), "--set-placeholder", "PORT={port}"),
        *("--pythonpath", ".", str(tmp_path / "uwsgi.ini")),
    ]
    with serving(tmp_path, *command, **environ) as server:
        # A worker that still imports the app does not end at SIGTERM.
        wait_until(lambda: server.log.read_text().count(") ready in ") == 4, 30)
        reader = Reader(server)
        response = server.stop_elsewhere(reader.until(TOKENS[-1]), reader.pid)
        assert response.headers["Chatstop-Outcome"] == "stopping"
        assert reader.rest()[-1]["metadata"]["end_reason"] == "stopped"


if os.environ.get("CHATSTOP_OLDEST"):

    def test_an_old_uwsgi_without_threads_stops_and_says_what_to_set(
        sqlite_url: str, silent: Provider, tmp_path: Path
    ) -> None:
        uwsgi = ROOT / ".venv-test-old-uwsgi" / "bin" / "uwsgi"
        environ = {"FLASK_CHATSTOP_BACKEND": sqlite_url, "PROVIDER": silent.url}
        command = [str(uwsgi), *OPTIONS, "--home", str(uwsgi.parent.parent)]
        with serving(tmp_path, *command, HEARTBEAT="0.5", **environ) as server:
            reader = Reader(server)
            task_id = reader.until(TOKENS[-1])
            server.stop_elsewhere(task_id, reader.pid)
            assert silent.calls[0].closed.wait(30)
            assert reader.rest()[-1]["metadata"]["end_reason"] == "stopped"
            tab = Reader(server, by=reader.pid)
            tab.until(TOKENS[-1])  # its request lets the first end be reported
            wait_until(lambda: is_told_stopped(server, task_id))
            tab.close_tab()
            assert silent.calls[1].closed.wait(30)
        assert server.log.read_text().count("Set enable-threads") == 1
