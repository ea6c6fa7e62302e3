"""The commands of the pages do what their page says, as a reader types them."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import httpx
import pytest
from flask import Flask, Response

from flask_chatstop import ChatStop, SingleUserAuth, chat_response, stream_response
from flask_chatstop.formats import ServerSentEvents
from flask_chatstop.testing import wait_until
from tests.support.pages import blocks, run
from tests.support.paths import DOCS, ROOT
from tests.support.provider import Provider
from tests.support.servers.others import COMMANDS, serving
from tests.support.servers.threaded import served

BLOCKING = """
import time
from flask import Flask
from flask_chatstop import ChatStop, SingleUserAuth, chat_response

app = Flask(__name__)
chatstop = ChatStop(auth=SingleUserAuth())
app.register_blueprint(chatstop)


async def pieces():
    time.sleep(0.3)
    yield "late"


@app.post("/")
@chatstop.login_required
def answer():
    return chat_response(chatstop.start(), pieces())
"""


def steps() -> Iterator[tuple[str, list[str]]]:
    """Return the app of each step of the tutorial, and its commands for curl."""
    for section in (DOCS / "tutorial.md").read_text().split("\n## ")[1:7]:
        [app] = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        yield app, re.findall(r"^curl .*", section, re.MULTILINE)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_the_commands_of_a_step_of_the_tutorial_stream_and_stop(
    number: int, silent: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", silent.url)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    app, commands = list(steps())[number - 1]
    module = ModuleType(f"step_{number}")
    run(app, module)
    answer = tmp_path / "answer"
    with served(module.__dict__["app"]) as url, answer.open("wb") as output:
        here = [
            command.replace("127.0.0.1:5000", urlsplit(url).netloc)
            for command in commands
        ]
        stops = [command for command in here if "TASK_ID" in command]
        [*before, ask] = [command for command in here if command not in stops]
        for command in before:
            subprocess.run(command, shell=True, cwd=tmp_path, check=True)
        # As the shell's own process, so that it can be ended.
        stream = f"exec {ask}"
        with subprocess.Popen(stream, shell=True, cwd=tmp_path, stdout=output) as curl:
            try:
                wait_until(
                    lambda: re.search(r"\b2 |two ", answer.read_text()) is not None
                )
                for stop in stops:
                    [task_id] = re.findall(r"Task-Id: (\S+)", answer.read_text())[:1]
                    ran = subprocess.run(
                        stop.replace("TASK_ID", task_id),
                        shell=True,
                        capture_output=True,
                        text=True,
                    )
                    assert "Chatstop-Outcome: stopping" in ran.stdout
                    assert curl.wait(30) == 0
            finally:
                curl.kill()
    assert number != 2 or stops


def test_the_commands_of_the_page_on_deploying_set_up_a_database_and_serve(
    postgresql_url: str, tmp_path: Path
) -> None:
    [app] = blocks("deploying.md", "python")
    (tmp_path / "app.py").write_text(app)
    new_key = [str(COMMANDS / "flask"), "chatstop", "new-key"]
    printed = subprocess.run(new_key, capture_output=True, text=True, check=True)
    key, digest = re.findall(r"app-\S+|(?<=sha256:)\S+", printed.stdout)
    [script] = blocks("deploying.md", "sh")
    [listing] = blocks("cli.md", "sh")
    url = postgresql_url.replace("postgresql+psycopg:", "postgresql:")
    for theirs, ours in {
        r"^.*pip install.*\n": "",
        r"DIGEST": digest,
        r"postgresql://user:password@host/name": url,
        r"127.0.0.1:8000": "127.0.0.1:{port}",
        r"^(.*gunicorn)": rf"{listing}exec \1 --no-control-socket",
        r"\.venv/bin/": "",
    }.items():
        assert re.search(theirs, script, re.MULTILINE), theirs
        script = re.sub(theirs, ours, script, flags=re.MULTILINE)
    command = ["bash", "-ec", f"cd {tmp_path}\n{script}"]
    path = f"{COMMANDS}:/usr/bin:/bin"
    with serving(tmp_path, *command, PATH=path, PYTHONPATH=str(ROOT)) as server:
        response = httpx.post(
            f"{server.url}/v1/chat-messages/x/stop",
            json={"user": "alice"},
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
        )
        assert response.headers["Chatstop-Outcome"] == "missing"
        assert "A stop is heard within" in server.log.read_text()


def test_the_command_of_the_page_on_following_reads_on_after_an_event(
    tmp_path: Path,
) -> None:
    app = Flask("app")
    app.config["CHATSTOP_API_KEYS"] = {"demo-key": "my-app"}
    app.config["CHATSTOP_EVENTS"] = "memory://"
    chatstop = ChatStop(format=ServerSentEvents)
    app.register_blueprint(chatstop, url_prefix="/v1")

    @app.post("/v1/chat-messages")
    @chatstop.login_required
    def send() -> Response:
        words = [f"{number} " for number in range(1, 71)]
        return stream_response(chatstop.start(user="abc-123"), words)

    [command] = blocks("follow.md", "sh")
    with served(app) as url:
        auth = {"Authorization": "Bearer demo-key"}
        asked = httpx.post(f"{url}/v1/chat-messages", headers=auth, timeout=30)
        task_id = asked.headers["Chatstop-Task-Id"]
        assert "https://chat.example.com" in command
        ran = subprocess.run(
            command.replace("https://chat.example.com", url),
            shell=True,
            env={"TASK_ID": task_id, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
    assert ran.stdout.startswith("id: 58\n")
    assert ran.stdout.count("id: ") == 15  # 58 to 72: the begin and the end count


@pytest.mark.parametrize("number", [0, 1])
def test_the_settings_of_the_page_on_following_keep_an_answer(
    number: int, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = blocks("follow.md", "ini")[number]
    assert "redis://localhost" in settings or "sqlite:///" in settings
    file = tmp_path / "settings.py"
    file.write_text(settings.replace("redis://localhost", redis_url))
    monkeypatch.chdir(tmp_path)
    app = Flask("app")
    app.config.from_pyfile(str(file))
    chatstop = ChatStop(auth=SingleUserAuth())
    app.register_blueprint(chatstop)

    @app.post("/chat-messages")
    @chatstop.login_required
    def send() -> Response:
        return chat_response(chatstop.start(), ["One ", "two"])

    if "sqlite" in settings:
        made = app.test_cli_runner().invoke(args=["chatstop", "init-db"])
        assert made.exit_code == 0, made.output
    client = app.test_client()
    sent = client.post("/chat-messages")
    said, task_id = sent.text, sent.headers["Chatstop-Task-Id"]
    assert "two" in said
    assert client.get(f"/chat-messages/{task_id}/events").text == said


def test_the_debug_mode_of_the_page_on_async_sources_logs_what_blocks_the_loop(
    tmp_path: Path,
) -> None:
    (tmp_path / "app.py").write_text(BLOCKING)
    [command] = blocks("async-sources.md", "sh")
    script = f"cd {tmp_path}\nexec env {command.strip()} --port {{port}}"
    path = f"{COMMANDS}:/usr/bin:/bin"
    environ = {"PATH": path, "PYTHONPATH": str(ROOT)}
    with serving(tmp_path, "bash", "-ec", script, **environ) as server:
        assert "late" in httpx.post(server.url, timeout=30).text
        wait_until(lambda: "Executing <Task" in server.log.read_text())
