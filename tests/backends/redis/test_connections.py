import threading
import time
from pathlib import Path
from queue import SimpleQueue

import pytest
import redis
import trustme
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from flask_chatstop import (
    BackendError,
    EndReason,
    StopOutcome,
    backend_from_url,
)
from flask_chatstop.backends.redis import RedisBackend
from flask_chatstop.testing import (
    ALICE,
    drain,
    listening,
    new_record,
    new_worker,
    wait_until,
)
from tests.support.resetting_proxy import ResettingProxy
from tests.support.servers.redis import RedisServer


def test_a_restart_between_two_calls_is_no_error(
    server: RedisServer, redis_backend: RedisBackend
) -> None:
    redis_backend.check()
    server.kill()
    server.start()
    assert redis_backend.announce(new_record()) is True


def test_a_task_whose_announcement_lost_its_answer_is_not_taken(
    server: RedisServer,
) -> None:
    record = new_record()
    with ResettingProxy(server.port) as proxy:
        backend = RedisBackend(f"redis://127.0.0.1:{proxy.port}/0")
        backend.check()
        for lose in (proxy.reset_before, proxy.reset_after):
            record = new_record()
            lose()
            assert backend.announce(record) is True
            assert backend.announce(record) is False
            lose()
            assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
            lose()
            assert backend.stops(record.worker_id, [record.task_id])
            lose()
            backend.end(record, EndReason.STOPPED)
            assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPED
        backend.close()


@pytest.mark.skipif(
    redis.VERSION < (7,), reason="this redis-py raises instead of subscribing again"
)
def test_what_was_stopped_while_the_driver_subscribed_again_is_heard(
    server: RedisServer, redis_backend: RedisBackend
) -> None:
    record = new_record()
    redis_backend.announce(record)
    retry = Retry(ConstantBackoff(0.02), 100)
    with ResettingProxy(server.port) as proxy:
        backend = RedisBackend(redis.Redis(port=proxy.port, retry=retry))
        with listening(backend, [record]) as bell, server.client() as admin:
            proxy.refuse()
            wait_until(lambda: not admin.client_list(_type="pubsub"))
            redis_backend.stop(record.task_id, ALICE)
            proxy.admit()
            assert bell.get(timeout=5) == record.task_id


def test_an_idle_listener_outlives_its_timeouts(server: RedisServer) -> None:
    backend = RedisBackend(server.url, timeout=0.5)
    record = new_record()
    backend.announce(record)
    with listening(backend, [record]) as bell, server.client() as client:
        (connection,) = client.client_list(_type="pubsub")
        threading.Event().wait(2.5)
        backend.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id
        assert [c["id"] for c in client.client_list(_type="pubsub")] == [
            connection["id"]
        ]
        assert drain(bell) == []
    backend.close()


def test_a_backend_that_is_closed_while_its_listening_ends_raises_nothing(
    redis_backend: RedisBackend,
) -> None:
    begun, closing, ended = (threading.Event() for _ in range(3))

    def listen() -> None:
        redis_backend.listen(new_worker(), list, lambda _: begun.set(), closing)
        ended.set()

    threading.Thread(target=listen).start()
    assert begun.wait(5)
    closing.set()
    redis_backend.close()
    assert ended.wait(5)


def test_a_frozen_server_costs_a_call_the_timeout_and_the_listener_an_error(
    server: RedisServer,
) -> None:
    backend = RedisBackend(server.url, timeout=1.0)
    record = new_record()
    backend.announce(record)
    listens, deaf = threading.Event(), threading.Event()

    def listen() -> None:
        with pytest.raises(BackendError, match="silent"):
            backend.listen(
                record.worker_id, list, lambda _: listens.set(), threading.Event()
            )
        deaf.set()

    threading.Thread(target=listen, daemon=True).start()
    assert listens.wait(10)
    server.freeze()
    for call in (
        lambda: backend.stop(record.task_id, ALICE),
        lambda: backend.stops(record.worker_id, [record.task_id]),
        backend.check,
    ):
        began = time.monotonic()
        with pytest.raises(BackendError, match="Timeout"):
            call()
        assert time.monotonic() - began < 2.0
    assert deaf.wait(10)
    server.thaw()
    assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
    backend.close()


def test_as_many_calls_as_there_are_may_wait_at_once(server: RedisServer) -> None:
    answers: SimpleQueue[object] = SimpleQueue()
    backend = RedisBackend(server.url, timeout=30)

    def stop() -> None:
        answers.put(backend.stop("unknown", ALICE))

    server.freeze()
    threads = [threading.Thread(target=stop) for _ in range(300)]
    for thread in threads:
        thread.start()
    server.thaw()
    for _ in threads:
        assert answers.get(timeout=30) is StopOutcome.MISSING
    backend.close()


@pytest.mark.parametrize("scheme", ["redis", "REDIS", "valkey"])
def test_urls_of_these_schemes_name_it(server: RedisServer, scheme: str) -> None:
    backend = backend_from_url(f"{scheme}://127.0.0.1:{server.port}/3")
    assert isinstance(backend, RedisBackend)
    backend.announce(new_record())
    assert server.ask("INFO", "keyspace")["db3"]["keys"] == 1  # type: ignore[index]
    backend.close()


def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--unixsocket", "redis.sock")
    backend = backend_from_url(f"unix://{tmp_path}/redis.sock")
    backend.check()
    backend.close()
    server.kill()


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_tls_checks_the_certificate(tmp_path: Path, scheme: str) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    names = [tmp_path / name for name in ("ca.pem", "key.pem", "cert.pem")]
    authority.cert_pem.write_to_path(names[0])
    certificate.private_key_pem.write_to_path(names[1])
    certificate.cert_chain_pems[0].write_to_path(names[2])
    server = RedisServer(tmp_path, "--tls-auth-clients", "no", tls=names)
    url = f"{scheme}://localhost:{server.tls_port}/0"
    with pytest.raises(BackendError, match="certificate verify failed"):
        backend_from_url(url).check()
    backend = backend_from_url(f"{url}?ssl_ca_certs={names[0]}")
    record = new_record()
    backend.announce(record)
    with listening(backend, [record]) as bell:
        backend.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id
    backend.close()
    server.kill()
