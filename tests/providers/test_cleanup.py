"""What a source has to do when it is stopped gets through: its saves, its goodbyes.

A stop hangs up on the model, and refuses that it is asked again. To lose the partial
answer would be worse than one request too many.
"""

import json
import uuid
from collections.abc import Iterator

import psycopg
import pymysql
import pytest
import redis
from sqlalchemy import make_url

from tests.providers.conftest import StartSite
from tests.providers.environments import OWN
from tests.providers.server import TOKENS, Provider, provider
from tests.providers.site import WORKERS, Site, read_until
from tests.providers.speaker import speaker

TEXT = "".join(TOKENS)


@pytest.fixture(params=WORKERS)
def running(request: pytest.FixtureRequest, start_site: StartSite) -> Iterator[Site]:
    site = start_site(OWN, request.param)
    site.begin()
    yield site
    # What a failed test has left hanging is to be over before the next one begins.
    site.left()


@pytest.fixture
def model(running: Site) -> Iterator[Provider]:
    """Give a model that is silent after its first tokens."""
    with provider("silent") as server:
        yield server


@pytest.fixture
def finished_model(running: Site) -> Iterator[Provider]:
    """Give a model that ends its answers."""
    with provider("ending") as server:
        yield server


@pytest.fixture
def storage(running: Site) -> Iterator[Provider]:
    """Give a server that takes saves, of another origin than the model's."""
    with provider("ending") as server:
        yield server


def stop_waiting(running: Site, model: Provider, name: str, **arguments: str) -> None:
    """Stop a source that waits for its model, and see the model's connection close."""
    reader = running.ask(f"cleanups.{name}", model.url, **arguments)
    task_id = reader.next()["task_id"]
    call = model.wait_until_settled()
    if model.mode != "no-headers":
        read_until(reader, TEXT)
    running.server.stop(task_id)
    end = reader.rest()[-1]
    assert end["metadata"]["end_reason"] == "stopped"
    is_closed = call.closed.wait(30)
    assert is_closed, "the provider still generates"


def stop_after(running: Site, url: str, name: str, **arguments: str) -> None:
    """Stop a source that has given its last token, and does something else."""
    reader = running.ask(f"cleanups.{name}", url, **arguments)
    task_id = reader.next()["task_id"]
    read_until(reader, TEXT)
    running.server.stop(task_id)
    end = reader.rest()[-1]
    assert end["metadata"]["end_reason"] == "stopped"


def saved_text(server: Provider) -> object:
    call = server.wait_for_request("/saves")
    return json.loads(call.body)["text"]


HTTP_SAVES = [
    "except_base_exception",
    "except_source_stopped",
    "finally_httpx",
    "finally_openai",
    "finally_requests",
]


@pytest.mark.parametrize("name", HTTP_SAVES)
def test_a_save_to_another_host_arrives(
    name: str, running: Site, model: Provider, storage: Provider
) -> None:
    stop_waiting(running, model, name, saves=f"{storage.url}/saves")
    assert saved_text(storage) == TEXT
    running.assert_nothing_is_left()


@pytest.mark.parametrize("name", HTTP_SAVES)
def test_a_save_at_the_model_s_own_server_arrives(
    name: str, running: Site, model: Provider
) -> None:
    stop_waiting(running, model, name, saves=f"{model.url}/saves")
    assert saved_text(model) == TEXT
    running.assert_nothing_is_left()


@pytest.mark.parametrize("mode", ["talking", "no-headers"])
@pytest.mark.parametrize("name", HTTP_SAVES)
def test_a_save_arrives_whatever_the_model_was_doing(
    name: str, mode: str, running: Site, storage: Provider
) -> None:
    with provider(mode) as model:
        stop_waiting(running, model, name, saves=f"{storage.url}/saves")
        text = saved_text(storage)
        assert isinstance(text, str)
        assert text.startswith(TEXT if mode == "talking" else "")
        running.assert_nothing_is_left()


def test_a_save_in_except_exception_arrives(
    running: Site, finished_model: Provider, storage: Provider
) -> None:
    with speaker("One ", "two ", "three ") as hearer:
        stop_after(
            running,
            finished_model.url,
            "except_exception",
            speaker=hearer.url,
            saves=f"{storage.url}/saves",
        )
        assert saved_text(storage) == TEXT
        assert hearer.has_left.wait(30)
        assert hearer.close_code == 1000


def test_a_save_after_a_loop_that_saw_the_stop_arrives(
    running: Site, finished_model: Provider, storage: Provider
) -> None:
    saves = f"{storage.url}/saves"
    stop_after(running, finished_model.url, "stopped_break", saves=saves)
    assert saved_text(storage) == TEXT
    running.assert_nothing_is_left()


def test_a_shielded_save_at_the_model_s_own_server_arrives(
    running: Site, finished_model: Provider
) -> None:
    saves = f"{finished_model.url}/saves"
    stop_after(running, finished_model.url, "shielded_save", saves=saves)
    assert saved_text(finished_model) == TEXT
    running.assert_nothing_is_left()


def test_a_source_that_saw_no_stop_asks_its_model_no_more(
    running: Site, finished_model: Provider
) -> None:
    stop_after(running, finished_model.url, "unshielded_request")
    running.assert_nothing_is_left()
    assert len(finished_model.calls) == 1


def test_a_shielded_call_goes_on_to_its_end(
    running: Site, model: Provider, storage: Provider
) -> None:
    saves = f"{storage.url}/saves"
    reader = running.ask("cleanups.shielded_call", model.url, saves=saves)
    task_id = reader.next()["task_id"]
    call = model.wait_until_settled()
    running.server.stop(task_id)
    assert reader.rest()[-1]["metadata"]["end_reason"] == "stopped"
    model.go_on.set()
    assert saved_text(storage) == TEXT
    assert call.answered.wait(30)
    running.assert_nothing_is_left()


def test_an_insert_by_psycopg_arrives(
    running: Site, model: Provider, postgresql_url: str
) -> None:
    url = make_url(postgresql_url).set(drivername="postgresql")
    server = url.render_as_string(hide_password=False)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS saves")
        connection.execute("CREATE TABLE saves (answer text)")
        stop_waiting(running, model, "psycopg_insert", storage=server)
        running.assert_nothing_is_left()
        assert connection.execute("SELECT answer FROM saves").fetchall() == [(TEXT,)]


def test_an_insert_by_pymysql_arrives(
    running: Site, model: Provider, mariadb_url: str
) -> None:
    url = make_url(mariadb_url)
    server = url.render_as_string(hide_password=False)
    with (
        pymysql.connect(
            host=url.host,
            port=url.port or 3306,
            user=url.username,
            password=url.password or "",
            database=url.database,
            autocommit=True,
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("DROP TABLE IF EXISTS saves")
        cursor.execute("CREATE TABLE saves (answer text)")
        stop_waiting(running, model, "pymysql_insert", storage=server)
        running.assert_nothing_is_left()
        cursor.execute("SELECT answer FROM saves")
        assert cursor.fetchall() == ((TEXT,),)


def test_a_push_to_redis_arrives(
    running: Site, model: Provider, redis_url: str, redis_prefix: str
) -> None:
    key = f"{redis_prefix}{uuid.uuid4()}"
    stop_waiting(running, model, "redis_push", storage=redis_url, key=key)
    running.assert_nothing_is_left()
    with redis.Redis.from_url(redis_url) as client:
        assert client.lrange(key, 0, -1) == [TEXT.encode()]


def test_a_websocket_gets_its_closing_handshake(running: Site, model: Provider) -> None:
    with speaker() as hearer:
        stop_waiting(running, model, "websocket_close", speaker=hearer.url)
        assert hearer.has_left.wait(30)
        assert "".join(hearer.heard) == TEXT
        # What websockets sends when its with block is left by an exception; 1006 would
        # be a connection that was cut.
        assert hearer.close_code == 1011
        running.assert_nothing_is_left()


def test_a_background_response_of_openai_s_is_cancelled(
    running: Site, model: Provider
) -> None:
    stop_waiting(running, model, "background_response")
    cancel = model.wait_for_request("/v1/responses/resp_1/cancel")
    assert cancel.answered.wait(30)
    running.assert_nothing_is_left()
    assert len(model.calls) == 2, "the model was asked again"
