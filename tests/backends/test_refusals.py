"""A store that refuses one record is not away: the error says so, on every store."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from flask_chatstop import (
    BackendError,
    EndReason,
    Owner,
    RecordRefused,
    StopBackend,
    StopOutcome,
    TaskRecord,
)
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.backends.redis import RedisBackend
from flask_chatstop.backends.redis.script_calls import key
from flask_chatstop.testing import ALICE, new_record
from tests.support.apps import make_app, stop
from tests.support.servers.redis import RedisServer

DATABASES = ["sqlite_url", "postgresql_url", "mariadb_url"]

#: A table of the same columns whose constraints are against long users, and ends.
WITH_CHECKS = (
    "ALTER TABLE chatstop_task ADD CONSTRAINT too_long CHECK (length(owner_user) < 9)",
    "ALTER TABLE chatstop_task ADD CONSTRAINT too_bad CHECK (state <> 'failed')",
    "ALTER TABLE chatstop_task ADD CONSTRAINT too_late"
    " CHECK (state <> 'stopping' OR owner_user <> 'eve')",
)
WITHOUT_CHECKS = tuple(
    f"ALTER TABLE chatstop_task DROP CONSTRAINT {name}"
    for name in ("too_long", "too_bad", "too_late")
)
#: SQLite adds no constraint to a table that exists.
WITH_TRIGGERS = tuple(
    f"CREATE TRIGGER {name} BEFORE {event} ON chatstop_task WHEN {condition}"
    f" BEGIN SELECT RAISE(ABORT, 'no'); END"
    for name, event, condition in (
        ("too_long", "INSERT", "length(NEW.owner_user) >= 9"),
        ("too_bad", "UPDATE", "NEW.state = 'failed'"),
        ("too_late", "UPDATE", "NEW.state = 'stopping' AND NEW.owner_user = 'eve'"),
    )
)

Open = Callable[..., DatabaseBackend]


@pytest.fixture(params=DATABASES)
def strict(request: pytest.FixtureRequest, open_backend: Open) -> Iterator[Any]:
    """Give a backend on a table that refuses some records."""
    backend = open_backend(request.getfixturevalue(request.param))
    is_file = request.param == "sqlite_url"
    if is_file:
        backend.create_table()
    # Other tests use the table too, and may have left what the constraints refuse.
    execute(backend.engine, ["DELETE FROM chatstop_task"])
    execute(backend.engine, WITH_TRIGGERS if is_file else WITH_CHECKS)
    yield backend
    if not is_file:
        with closing(DatabaseBackend(backend.engine.url)) as other:
            execute(other.engine, ["DELETE FROM chatstop_task", *WITHOUT_CHECKS])


def execute(engine: Engine, statements: Any) -> None:
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))


def record_of(user: str, task_id: str | None = None) -> TaskRecord:
    record = new_record(owner=Owner("app", "api", user))
    if task_id is None:
        return record
    return TaskRecord(task_id, record.owner, record.worker_id)


def test_a_refused_record_is_told_from_an_outage(strict: DatabaseBackend) -> None:
    long, eve, good = record_of("a long user"), record_of("eve"), record_of("alice")
    with pytest.raises(RecordRefused):
        strict.announce(long)
    with pytest.raises(RecordRefused):
        strict.renew([long])
    assert strict.announce(eve) and strict.announce(good)
    with pytest.raises(RecordRefused):
        strict.stop(eve.task_id, eve.owner)
    with pytest.raises(RecordRefused):
        strict.end(eve, EndReason.FAILED)
    strict.renew([eve])
    strict.end(eve, EndReason.FINISHED)
    assert strict.stop(good.task_id, good.owner) is StopOutcome.STOPPING


def test_no_row_is_quoted_in_the_message(strict: DatabaseBackend) -> None:
    with pytest.raises(RecordRefused) as raised:
        strict.announce(record_of("a secret user"))
    assert "secret" not in str(raised.value)


def test_a_stop_that_the_store_refuses_is_answered_503(strict: DatabaseBackend) -> None:
    # The task runs on, and the worker that has it may get the next try.
    eve = new_record(owner=Owner("demo", "service-api", "eve"))
    strict.announce(eve)
    client = make_app(CHATSTOP_BACKEND=strict).test_client()
    response = client.post(
        f"/v1/chat-messages/{eve.task_id}/stop",
        json={"user": "eve"},
        headers={"Authorization": "Bearer demo-key"},
    )
    assert response.status_code == 503


@pytest.fixture(params=[*DATABASES, "redis_url"])
def store(request: pytest.FixtureRequest, open_backend: Open) -> Iterator[StopBackend]:
    url = request.getfixturevalue(request.param)
    if request.param == "redis_url":
        prefix = request.getfixturevalue("redis_prefix")
        with closing(RedisBackend(url, prefix=prefix)) as backend:
            yield backend
    else:
        yield open_backend(url)


@pytest.mark.parametrize("bad", ["\ud800", "x\udcff"])
def test_half_a_character_is_refused_and_nothing_else(
    store: StopBackend, bad: str
) -> None:
    good = record_of("alice")
    for record in (record_of("alice", bad), record_of("alice", f"{bad}\0")):
        calls: list[Callable[[], object]] = [
            lambda record=record: store.announce(record),  # type: ignore[misc]
            lambda record=record: store.renew([record]),  # type: ignore[misc]
            lambda record=record: store.stop(record.task_id, ALICE),  # type: ignore[misc]
            lambda record=record: store.end(record, EndReason.FAILED),  # type: ignore[misc]
        ]
        for call in calls:
            with pytest.raises(RecordRefused):
                call()
    assert store.announce(good)


@pytest.mark.parametrize("bad", ["\0", "a\0b", "\ud800"])
def test_no_request_brings_such_an_id_to_the_store(
    store: StopBackend, bad: str
) -> None:
    with make_app(CHATSTOP_BACKEND=store).test_client() as client:
        quoted = bad.encode("utf-8", "surrogatepass").decode("latin-1")
        assert stop(client, quoted.replace("\0", "%00")) == 404
        response = client.post(
            "/v1/chat-messages/x/stop",
            json={"user": bad},
            headers={"Authorization": "Bearer demo-key"},
        )
        assert response.status_code == 400


def test_an_outage_is_no_refusal(open_backend: Open) -> None:
    backends: list[StopBackend] = [
        open_backend("postgresql://u@127.0.0.1:1/x"),
        open_backend("mysql://u@127.0.0.1:1/x"),
        open_backend("sqlite:////nowhere/x.db"),
        RedisBackend("redis://127.0.0.1:1"),
    ]
    for backend in backends:
        with pytest.raises(BackendError) as raised:
            backend.announce(new_record())
        assert not isinstance(raised.value, RecordRefused)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_refusal_is_known_on_the_drivers_of_engines(
    postgresql_url: str, open_backend: Open, driver: str
) -> None:
    url = postgresql_url.replace("+psycopg", f"+{driver}")
    engine = create_engine(url)
    backend = open_backend(engine)
    with pytest.raises(RecordRefused):
        backend.announce(record_of("x" * 256))
    engine.dispose()


def test_a_key_of_somebody_else_refuses_its_id_only(
    server: RedisServer, redis_backend: RedisBackend
) -> None:
    record = new_record()
    server.ask("SET", "chatstop:" + key(record.task_id), "foreign")
    calls: list[Callable[[], object]] = [
        lambda: redis_backend.announce(record),
        lambda: redis_backend.renew([record]),
        lambda: redis_backend.stop(record.task_id, record.owner),
        lambda: redis_backend.end(record, EndReason.FAILED),
    ]
    for call in calls:
        with pytest.raises(RecordRefused):
            call()
    assert redis_backend.announce(new_record())
