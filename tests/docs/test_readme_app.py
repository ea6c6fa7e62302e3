"""The app of the README streams an answer of a model, and is stopped."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_chatstop.testing import wait_until
from tests.support.paths import ROOT
from tests.support.provider import TOKENS, Provider
from tests.support.servers.gunicorn import Reader, Server, gunicorn


@pytest.fixture
def app(silent: Provider, tmp_path: Path) -> Iterator[Server]:
    readme = (ROOT / "README.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "app.py").write_text(code)
    options = ("-k", "gthread", "--threads", "4", "--chdir", str(tmp_path))
    with gunicorn(
        "app:app",
        tmp_path,
        *options,
        PYTHONPATH=str(ROOT),
        OPENAI_BASE_URL=silent.url,
        OPENAI_API_KEY="any",
    ) as server:
        yield server


@pytest.mark.parametrize(("then", "said"), [("mute", []), ("silence", TOKENS)])
def test_its_client_stops_a_model_before_and_after_its_first_word(
    app: Server, silent: Provider, then: str, said: list[str]
) -> None:
    silent.then = then
    reader = Reader(app)
    task_id = reader.until(said[-1] if said else "")
    wait_until(lambda: bool(silent.calls))
    [call] = silent.calls
    assert call.silent.wait(5)
    app.stop(task_id)
    [*_, end] = reader.rest()
    assert end["metadata"]["end_reason"] == "stopped"
    assert f"stopped {''.join(said)}\n" in app.log.read_text()
    assert call.closed.wait(5), "the model was not hung up on"
