"""Other servers: a stop works, and a warning where a closed tab is hidden."""

import sys
from pathlib import Path

import pytest

from flask_chatstop.testing import wait_until
from tests.support.provider import TOKENS, Provider
from tests.support.servers.gunicorn import Reader
from tests.support.servers.others import COMMANDS, serving

PYWSGI = """
from gevent import monkey; monkey.patch_all()
import sys
from gevent.pywsgi import WSGIServer
from tests.support.small_app import create_app
WSGIServer(("127.0.0.1", int(sys.argv[1])), create_app()).serve_forever()
"""
ADDRESS = "127.0.0.1:{port}"
APP = "tests.support.asgi_app:wsgi"
WSGI = {
    "waitress": [str(COMMANDS / "waitress-serve"), f"--listen={ADDRESS}", APP],
    "gevent.pywsgi": [sys.executable, "-c", PYWSGI, "{port}"],
}
ASGI = {
    "uvicorn": [
        *(sys.executable, "-m", "uvicorn", "--port", "{port}"),
        "tests.support.asgi_app:application",
    ],
    "hypercorn": [
        *(sys.executable, "-m", "hypercorn", f"--bind={ADDRESS}", f"wsgi:{APP}"),
    ],
}
WARNING = "This app seems to be behind an adapter from ASGI to WSGI"


@pytest.mark.parametrize("name", [*WSGI, *ASGI])
def test_a_stop_works_and_a_server_that_hides_a_closed_tab_is_warned_of(
    name: str, sqlite_url: str, silent: Provider, tmp_path: Path
) -> None:
    command = (WSGI | ASGI)[name]
    environ = {"FLASK_CHATSTOP_BACKEND": sqlite_url, "PROVIDER": silent.url}
    with serving(tmp_path, *command, HEARTBEAT="0.2", **environ) as server:
        reader = Reader(server)
        server.stop(reader.until(TOKENS[-1]))
        assert silent.calls[0].closed.wait(30)
        [end] = reader.rest()
        assert end["metadata"]["end_reason"] == "stopped"
        tab = Reader(server)
        task_id = tab.until(TOKENS[-1])
        tab.close_tab()
        if name in ASGI:
            # What the adapter hides, a stop can still end.
            server.stop(task_id)
        assert silent.calls[1].closed.wait(30)
        reason = "stopped" if name in ASGI else "disconnected"
        line = f"{reason}: {''.join(TOKENS)}"
        count = 2 if name in ASGI else 1
        wait_until(lambda: server.log.read_text().count(line) == count)
    log = server.log.read_text()
    assert log.count(WARNING) == (1 if name in ASGI else 0), log
